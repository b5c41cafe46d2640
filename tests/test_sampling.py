import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, HeunDiscreteScheduler
from torch.testing import assert_close

from ddpm import sampling
from ddpm.denoiser import denoiser
from ddpm.exact import gaussian_mixture
from ddpm.networks import UNet, UNetConfig
from ddpm.process import x0_from_noise
from ddpm.sampling import SAMPLERS, ancestral, ddim, diffuse, dpm_solver, follow, generators, heun, jump, normal, sample
from ddpm.schedule import Cosine, Linear, Table, alpha, grid, sigma

STD = 0.5
"""Of the data N(0, STD²) whose sampling is known in closed form."""
gaussian = gaussian_mixture(torch.ones(1), torch.zeros(1, 1), STD)

every_eta = pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def last(steps):
    *_, step = steps
    return step


# --- closed form: with Gaussian data the sampler is linear in its noise ----------------------------------------------


def gain(log_snr):
    """x̂0 = gain · x for data N(0, STD²)."""
    return alpha(log_snr) * STD**2 / (alpha(log_snr) ** 2 * STD**2 + sigma(log_snr) ** 2)


def ddim_step(log_snr_t, log_snr_s, eta):
    """What one step multiplies x by, and the deviation it adds: Song et al. 2021, eqs. 12 and 16, with ε̂ from x̂0."""
    a_t, a_s, s_t, s_s = alpha(log_snr_t), alpha(log_snr_s), sigma(log_snr_t), sigma(log_snr_s)
    std = eta * s_s / s_t * (1 - a_t**2 / a_s**2).sqrt()
    on_noise = (s_s**2 - std**2).clamp(min=0).sqrt()
    return a_s * gain(log_snr_t) + on_noise * (1 - a_t * gain(log_snr_t)) / s_t, std


def unit_noise(steps, monkeypatch):
    """Rows of x that carry one source of noise each: row 0 the initial noise, row n that of the n-th step."""
    basis = iter(torch.eye(steps, dtype=torch.float64)[:, :, None])
    monkeypatch.setattr(sampling, "normal", lambda shape, generators: next(basis))
    return next(basis)


@every_eta
@pytest.mark.parametrize("steps", [1, 10, 1000])
@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=repr)
def test_the_variance_of_gaussian_samples_follows_the_closed_recursion(monkeypatch, schedule, steps, eta):
    levels, variance = grid(schedule, steps), torch.ones((), dtype=torch.float64)
    for t, s in pairwise(levels):
        factor, std = ddim_step(t, s, eta)
        variance = factor**2 * variance + std**2
    weights = last(sample(gaussian, levels, unit_noise(steps, monkeypatch), eta=eta, generators=[])).x
    assert_close(weights.square().sum(), variance, atol=0, rtol=1e-9)


@every_eta
def test_many_steps_give_gaussian_samples_the_variance_of_the_data(monkeypatch, eta):
    weights = last(sample(gaussian, grid(Cosine(), 1000), unit_noise(1000, monkeypatch), eta=eta, generators=[])).x
    assert weights.square().sum().item() == pytest.approx(STD**2, rel=0.02)


def test_without_noise_the_sampler_multiplies_by_the_product_of_its_factors():
    levels, noise = grid(Linear(), 10), torch.tensor([[1.0], [-3.0]], dtype=torch.float64)
    product = math.prod(ddim_step(t, s, 0)[0] for t, s in pairwise(levels))
    assert_close(last(sample(gaussian, levels, noise, eta=0)).x, product * noise)


# --- the forward process ----------------------------------------------------------------------------------------------


def test_the_forward_chain_has_the_mean_and_the_variance_of_the_jump_at_every_level(monkeypatch):
    x0 = unit_noise(9, monkeypatch)
    for step in diffuse(x0, grid(Cosine(), 8), []):
        on_x0, *on_noise = step.x
        assert_close(on_x0[0], alpha(step.log_snr))
        assert_close(torch.stack(on_noise or [x0[1]]).square().sum(), sigma(step.log_snr) ** 2)


@pytest.mark.parametrize(
    "forward", [lambda *of: jump(*of, torch.ones(2, 3)), lambda *of: diffuse(*of, generators(0, [1, 2]))]
)
def test_the_forward_process_starts_at_the_data_and_counts_up_to_T(forward):
    first, *others = forward(torch.full((2, 3), 0.5), grid(Linear(), 4))
    assert torch.equal(first.x, first.x0)
    assert [state.index for state in (first, *others)] == [0, 1, 2, 3, 4]


# --- order of convergence, on the part of the ODE between two noise levels ---------------------------------------------


def flow_error(sampler, steps):
    """Error at λ = 4 of the probability-flow ODE of N(0, STD²), begun at λ = −4 with x = 1, after equal steps in λ.

    Its solution keeps x / √(α² STD² + σ²).
    """
    levels = torch.linspace(-4, 4, steps + 1, dtype=torch.float64)
    start, end = (alpha(level) ** 2 * STD**2 + sigma(level) ** 2 for level in (levels[0], levels[-1]))
    found = last(follow(sampler(levels, torch.ones(1, 1, dtype=torch.float64)), gaussian)).x
    return (found - (end / start).sqrt()).abs().item()


@pytest.mark.parametrize(("sampler", "order"), [(partial(ddim, eta=0, own=None), 1), (dpm_solver, 2), (heun, 2)])
def test_halving_the_steps_divides_the_error_by_two_to_the_order(sampler, order):
    assert flow_error(sampler, 200) / flow_error(sampler, 400) == pytest.approx(2**order, rel=0.05)


@every_sampler
def test_many_steps_of_every_sampler_give_gaussian_samples_the_deviation_of_the_data(monkeypatch, name):
    weights = last(follow(SAMPLERS[name](grid(Cosine(), 1000), unit_noise(1000, monkeypatch), 1.0, []), gaussian)).x
    assert weights.square().sum().sqrt().item() == pytest.approx(STD, rel=0.02)


@every_eta
@every_sampler
@pytest.mark.parametrize("steps", [1, 4])
def test_every_sampler_yields_T_plus_1_states_down_to_the_clean_sample(name, steps, eta):
    levels, noise = grid(Linear(), steps), normal((1,), generators(0, [0]))
    states = list(follow(SAMPLERS[name](levels, noise, eta, generators(1, [0])), gaussian))
    assert [state.index for state in states] == list(range(steps, -1, -1))
    assert_close(torch.stack([state.log_snr for state in states]), levels)
    assert torch.equal(states[0].x, noise)
    assert all(torch.equal(state.x0, gaussian(state.x, state.log_snr)) for state in states[:-1])
    assert torch.equal(states[-1].x, states[-2].x0) and torch.equal(states[-1].x, states[-1].x0)


@every_sampler
def test_one_step_of_every_sampler_returns_the_posterior_mean_of_the_noise(name):
    noise, levels = normal((1,), generators(0, [0, 1])), grid(Linear(), 1)
    assert torch.equal(last(follow(SAMPLERS[name](levels, noise, 1.0, []), gaussian)).x, gaussian(noise, levels[0]))


# --- diffusers as an independent implementation -----------------------------------------------------------------------

BETAS = [[0.1, 0.5, 0.9], torch.linspace(1e-3, 0.2, 100).tolist()]
every_table = pytest.mark.parametrize("betas", BETAS, ids=len)
SHAPE = (1, 4, 5)
SEED = 7


def predicted_noise(x):
    return x.sin() + 0.1


def noise_denoiser(x, log_snr):
    """The denoiser of a network that predicts ``predicted_noise``."""
    return x0_from_noise(x, predicted_noise(x), log_snr)


def our_steps(betas, eta):
    """Pairs of neighbouring states of a run of ours, whose noise comes from ``SEED``."""
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    levels, source = grid(Table(tuple(betas)), len(betas)), [torch.Generator().manual_seed(SEED)]
    return pairwise(sample(noise_denoiser, levels, noise, eta=eta, generators=source))


@every_table
@every_eta
def test_every_step_is_the_ddim_step_of_diffusers(betas, eta):
    theirs = DDIMScheduler(len(betas), trained_betas=betas, clip_sample=False, set_alpha_to_one=True)
    theirs.set_timesteps(len(betas))
    source = torch.Generator().manual_seed(SEED)
    for before, after in our_steps(betas, eta):
        output, added = predicted_noise(before.x), torch.randn(SHAPE, generator=source)
        step = theirs.step(output, before.index - 1, before.x, eta=eta, variance_noise=added)
        assert_close(after.x, step.prev_sample, atol=1e-5, rtol=1e-5)
        assert_close(before.x0, step.pred_original_sample, atol=1e-5, rtol=1e-5)


@every_table
def test_every_step_is_the_ddpm_step_of_diffusers(betas):
    theirs = DDPMScheduler(len(betas), trained_betas=betas, clip_sample=False, variance_type="fixed_small")
    theirs.set_timesteps(len(betas))
    source = torch.Generator().manual_seed(SEED)
    for before, after in our_steps(betas, 1.0):
        step = theirs.step(predicted_noise(before.x), before.index - 1, before.x, generator=source)
        assert_close(after.x, step.prev_sample, atol=1e-5, rtol=1e-5)


@every_table
def test_with_the_variance_beta_every_step_is_that_of_diffusers(betas):
    theirs = DDPMScheduler(len(betas), trained_betas=betas, clip_sample=False, variance_type="fixed_large")
    theirs.set_timesteps(len(betas))
    noise, source, own = torch.ones(SHAPE), torch.Generator().manual_seed(SEED), torch.Generator().manual_seed(SEED)
    levels = grid(Table(tuple(betas)), len(betas))
    for before, after in pairwise(follow(ancestral(levels, noise, [own]), noise_denoiser)):
        step = theirs.step(predicted_noise(before.x), before.index - 1, before.x, generator=source)
        assert_close(after.x, step.prev_sample, atol=1e-5, rtol=1e-5)


def test_every_step_is_the_multistep_dpm_solver_step_of_diffusers():
    betas = BETAS[1]
    theirs = DPMSolverMultistepScheduler(len(betas), trained_betas=betas, timestep_spacing="trailing")
    theirs.set_timesteps(len(betas))
    levels, noise = grid(Table(tuple(betas)), len(betas)), torch.linspace(-2, 2, 20).reshape(SHAPE)
    for t, (before, after) in zip(
        theirs.timesteps, pairwise(follow(dpm_solver(levels, noise), noise_denoiser)), strict=True
    ):
        step = theirs.step(predicted_noise(before.x), t, before.x).prev_sample
        assert_close(after.x, step, atol=1e-4, rtol=1e-4)


def test_every_step_is_the_heun_step_of_diffusers():
    betas = BETAS[1]
    theirs = HeunDiscreteScheduler(len(betas), trained_betas=betas)
    theirs.set_timesteps(len(betas))
    levels, noise = grid(Table(tuple(betas)), len(betas)), torch.linspace(-2, 2, 20).reshape(SHAPE)
    times = iter(theirs.timesteps)
    for before, after in pairwise(follow(heun(levels, noise), noise_denoiser)):
        # Theirs works on x / α and takes a step in two calls.
        scaled = before.x / alpha(before.log_snr).float()
        for _ in range(2 if after.log_snr.isfinite() else 1):
            level = -2 * theirs.sigmas[theirs.step_index or 0].double().log()
            scaled = theirs.step(predicted_noise(scaled * alpha(level).float()), next(times), scaled).prev_sample
        assert_close(after.x, scaled * alpha(after.log_snr).float(), atol=1e-4, rtol=1e-4)


# --- the run as a sequence of states ----------------------------------------------------------------------------------


def test_the_caller_keeps_gradients_between_states_while_the_denoiser_runs_without():
    inside = []

    def denoise(x, log_snr):
        inside.append(torch.is_grad_enabled())
        return gaussian(x, log_snr)

    between = [torch.is_grad_enabled() for _ in sample(denoise, grid(Linear(), 3), torch.ones(1, 1), eta=0)]
    assert between == [True] * 4
    assert inside == [False] * 3


def run(denoise_for, shape, seed, indices, steps):
    """The samples ``indices`` of ``seed``, computed in one batch."""
    source = generators(seed, indices)
    noise = normal(shape, source)
    return last(sample(denoise_for(len(indices)), grid(Cosine(), steps), noise, generators=source)).x


def test_a_sample_does_not_depend_on_its_batch():
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.5]])
    mixture = gaussian_mixture(torch.ones(2) / 2, means, 0.1)
    together = run(lambda count: mixture, (2,), 3, [4, 0, 2], 20)
    for row, index in enumerate([4, 0, 2]):
        assert torch.equal(together[row], run(lambda count: mixture, (2,), 3, [index], 20)[0])


def test_an_image_of_a_network_does_not_depend_on_its_batch():
    config = UNetConfig(shape=(1, 8, 8), num_classes=1, channels=(8, 16), blocks=(1, 1), embedding=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(config).eval()
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.1)

    def denoise_for(count):
        return denoiser(network, torch.zeros(count, dtype=torch.long), guidance=1.0, clip=True)

    together = run(denoise_for, config.shape, 0, [0, 1, 2], 4)
    for index in range(3):
        assert_close(run(denoise_for, config.shape, 0, [index], 4)[0], together[index], atol=1e-5, rtol=0)


def test_samples_of_different_seeds_and_indices_differ():
    drawn = torch.stack([normal((2,), generators(seed, [0, 1])) for seed in (0, 1)]).flatten(0, 1)
    assert len(drawn.unique(dim=0)) == len(drawn)


def test_a_sampler_that_draws_noise_refuses_to_run_without_generators():
    with pytest.raises(ValueError, match="η is 0.5"):
        last(sample(gaussian, grid(Linear(), 2), torch.zeros(1, 1), eta=0.5))
