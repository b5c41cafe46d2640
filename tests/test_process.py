import math

import pytest
import torch
from torch.testing import assert_close

from ddpm import process
from ddpm.process import (
    DENSITIES,
    FROM_X0,
    add_noise,
    cosine_density,
    loss,
    noise_from_x0,
    posterior,
    seeded,
    stratified,
    target,
    transition,
    uniform_density,
    v_from_x0,
    v_from_x0_and_noise,
    x0_from,
    x0_from_noise,
    x0_from_v,
)
from ddpm.schedule import Linear, Table, alpha, alpha_bar, betas, grid, sigma

PREDICTIONS = ["noise", "x0", "v"]
LEVELS = [-12.0, -3.0, 0.0, 3.0, 12.0]

every_level = pytest.mark.parametrize("log_snr", [*map(torch.tensor, LEVELS), torch.tensor(LEVELS)], ids=str)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


@pytest.fixture
def pair():
    """x0 and noise for as many rows as there are LEVELS."""
    return draw(len(LEVELS), 2, 3), draw(len(LEVELS), 2, 3, seed=1)


@every_level
def test_x0_to_noise_and_back_is_a_round_trip(pair, log_snr):
    x0, noise = pair
    x = add_noise(x0, noise, log_snr)
    assert_close(noise_from_x0(x, x0, log_snr), noise)
    assert_close(x0_from_noise(x, noise, log_snr), x0)


@every_level
def test_x0_to_v_and_back_is_a_round_trip_and_both_formulas_of_v_agree(pair, log_snr):
    x0, noise = pair
    x = add_noise(x0, noise, log_snr)
    v = v_from_x0(x, x0, log_snr)
    assert_close(x0_from_v(x, v, log_snr), x0)
    assert_close(v, v_from_x0_and_noise(x0, noise, log_snr))


@every_level
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_target_of_each_prediction_leads_back_to_x0(pair, log_snr, prediction):
    x0, noise = pair
    x = add_noise(x0, noise, log_snr)
    assert_close(x0_from(prediction)(x, target(prediction, x, x0, noise, log_snr), log_snr), x0)
    assert_close(x0_from(prediction)(x, FROM_X0[prediction](x, x0, log_snr), log_snr), x0)


def test_one_level_a_row_noises_each_row_as_that_level_alone_would(pair):
    x0, noise = pair
    rows = [add_noise(x0[i], noise[i], torch.tensor(level)) for i, level in enumerate(LEVELS)]
    assert_close(add_noise(x0, noise, torch.tensor(LEVELS)), torch.stack(rows))


PAPER = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
SHORT = betas(grid(Linear(), 10)).flip(0)


@pytest.mark.parametrize("beta", [PAPER, SHORT], ids=["the paper's 1000 steps", "10 steps"])
def test_the_reverse_step_is_equation_7(beta):
    """Ho et al. 2020, eq. 7, for t = T … 1 with ᾱ_0 = 1; 1 − ᾱ is written with expm1 to keep its digits."""
    log_alpha_bar = torch.cat([beta.new_zeros(1), torch.log1p(-beta).cumsum(0)])
    alpha_bar, one_minus = log_alpha_bar.exp(), -log_alpha_bar.expm1()
    on_x0 = alpha_bar[:-1].sqrt() * beta / one_minus[1:]
    on_x = (1 - beta).sqrt() * one_minus[:-1] / one_minus[1:]
    variance = one_minus[:-1] / one_minus[1:] * beta

    level = grid(Table(tuple(beta.tolist())), len(beta)).flip(0)
    x, x0 = draw(len(beta), 1), draw(len(beta), 1, seed=1)
    mean, std = posterior(x, x0, level[1:], level[:-1])
    assert_close(mean, on_x0[:, None] * x0 + on_x[:, None] * x, atol=1e-12, rtol=0)
    assert_close(std.square().squeeze(), variance, atol=1e-12, rtol=0)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("noisier", "cleaner"), [(-12.0, 12.0), (-12.0, -11.9), (0.0, 0.1), (3.0, 11.0)])
def test_the_posterior_carries_the_marginal_of_t_to_that_of_s(noisier, cleaner, eta):
    """If x_t ~ N(α_t x0, σ_t²) then mean + std z ~ N(α_s x0, σ_s²)."""
    t, s, one, zero = torch.tensor(noisier), torch.tensor(cleaner), *torch.eye(2, dtype=torch.float64)[0]
    on_x, std = posterior(one, zero, t, s, eta)
    on_x0, _ = posterior(zero, one, t, s, eta)
    assert_close(on_x * alpha(t) + on_x0, alpha(s))
    assert_close((on_x * sigma(t)) ** 2 + std**2, sigma(s) ** 2)


@pytest.mark.parametrize(("cleaner", "noisier"), [(math.inf, 12.0), (12.0, 0.0), (0.1, 0.0), (3.0, -12.0)])
def test_a_transition_carries_the_marginal_of_s_to_that_of_t(cleaner, noisier):
    s, t = torch.tensor(cleaner), torch.tensor(noisier)
    one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    factor, std = transition(one, zero, s, t), transition(zero, one, s, t)
    assert_close(factor * alpha(s), alpha(t))
    assert_close((factor * sigma(s)) ** 2 + std**2, sigma(t) ** 2)


@pytest.mark.parametrize("eta", [0.0, 0.3])
def test_eta_scales_the_standard_deviation_of_the_added_noise(pair, eta):
    levels = torch.tensor(0.0), torch.tensor(1.0)
    assert_close(posterior(*pair, *levels, eta)[1], eta * posterior(*pair, *levels, 1.0)[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("log_snr", LEVELS)
def test_the_last_step_returns_x0_exactly_and_adds_no_noise(pair, log_snr, eta, dtype):
    x, x0 = (value.to(dtype) for value in pair)
    mean, std = posterior(x, x0, torch.tensor(log_snr), torch.tensor(math.inf), eta)
    assert torch.equal(mean, x0)
    assert std == 0


def test_one_pair_of_levels_a_row_steps_each_row_as_that_pair_alone_would(pair):
    x, x0 = pair
    t = torch.tensor(LEVELS)
    mean, std = posterior(x, x0, t, t + 1)
    for row in range(len(t)):
        alone = posterior(x[row], x0[row], t[row], t[row] + 1)
        assert_close((mean[row], std[row, 0, 0]), (alone[0], alone[1].squeeze()))


def test_the_same_key_gives_the_same_stream():
    assert torch.equal(torch.rand(8, generator=seeded(3, 4)), torch.rand(8, generator=seeded(3, 4)))


def test_different_keys_give_different_streams():
    largest = 2**32 - 1
    keys = [(0,), (1,), (0, 1), (1, 1), (1, 2), (2, 1), (0, 0, 1), (1, 0, 1), (largest,), (largest, 1), (1, largest)]
    assert len({torch.rand(1, generator=seeded(*key), dtype=torch.float64).item() for key in keys}) == len(keys)


@pytest.mark.parametrize("part", [-1, 2**32])
def test_a_key_that_another_key_would_share_its_stream_with_is_refused(part):
    with pytest.raises(ValueError, match=str(part)):
        seeded(part, 0)


@pytest.mark.parametrize("density", [cosine_density, uniform_density])
def test_a_density_falls_strictly_from_12_to_minus_12(density):
    log_snr = density(torch.linspace(0, 1, 1001))
    assert (log_snr.diff() < 0).all()
    assert_close(log_snr[[0, -1]], torch.tensor([12.0, -12.0], dtype=torch.float64))


def test_the_density_of_steps_has_each_of_the_1000_steps_once_from_data_to_noise():
    log_snr = DENSITIES["steps"](stratified(1000, seeded(1)))
    assert torch.equal(log_snr, grid(Linear(), 1000)[:-1].flip(0))


def test_quantiles_of_the_uniform_density_are_evenly_spaced():
    assert_close(uniform_density(torch.linspace(0, 1, 5)), torch.linspace(12, -12, 5, dtype=torch.float64))


def test_quantiles_of_the_cosine_density_are_evenly_spaced_in_the_angle():
    """ᾱ = cos² of an angle that is uniform between those of λ = 12 and λ = −12."""
    first, last = alpha_bar(torch.tensor([12.0, -12.0])).sqrt().acos()
    u = torch.linspace(0, 1, 9, dtype=torch.float64)
    assert_close(alpha_bar(cosine_density(u)), (first + u * (last - first)).cos().square())


@pytest.mark.parametrize("count", [1, 7, 128])
def test_stratified_puts_one_number_in_each_interval(count):
    u = stratified(count, seeded(count))
    assert ((0 < u) & (u < 1)).all()
    assert torch.equal((u * count).floor().long(), torch.arange(count))


def exact_answer(prediction, x0, noise, log_snr):
    a, s = alpha(log_snr)[:, None, None], sigma(log_snr)[:, None, None]
    return {"noise": noise, "x0": x0, "v": a * noise - s * x0}[prediction]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_of_the_exact_answer_is_0_and_of_silence_its_mean_square(pair, prediction):
    x0, noise = pair
    log_snr, label = torch.tensor(LEVELS), torch.zeros(len(x0), dtype=torch.long)
    answer = exact_answer(prediction, x0, noise, log_snr)
    exact = loss(lambda x, log_snr, label: answer, prediction, x0, noise, log_snr, label)
    silent = loss(lambda x, log_snr, label: 0 * x, prediction, x0, noise, log_snr, label)
    assert_close(exact, torch.zeros_like(exact))
    assert_close(silent, answer.square().mean((1, 2)))


def test_the_network_sees_the_noised_x0_its_level_and_its_label(pair):
    x0, noise = pair
    log_snr, label = torch.tensor(LEVELS, dtype=torch.float64), torch.arange(len(x0))
    seen = []
    loss(lambda *inputs: seen.extend(inputs) or x0, "x0", x0, noise, log_snr, label)
    assert_close(seen, [process.add_noise(x0, noise, log_snr), log_snr, label])
