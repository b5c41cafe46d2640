import math

import pytest
import torch
from torch.testing import assert_close

from ddpm.exact import boxes, boxes_density, finite, gaussian_mixture, gaussian_mixture_density
from ddpm.process import score_from_x0
from ddpm.schedule import alpha, sigma

LEVELS = [-6.0, 0.0, 3.0]
WEIGHTS = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
MEANS = torch.tensor([[-2.0, 1.0], [0.5, 0.0], [3.0, -1.0]], dtype=torch.float64)
EQUAL = torch.full((3,), 1 / 3)

every_level = pytest.mark.parametrize("log_snr", [*map(torch.tensor, LEVELS), torch.tensor(LEVELS)], ids=str)


@pytest.fixture
def x():
    return torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def column(values):
    return values.reshape(-1, 1)


@every_level
def test_one_component_gives_the_linear_gaussian_posterior_mean(x, log_snr):
    """With precisions: (m / std² + α x / σ²) / (1 / std² + α² / σ²)."""
    a, s, std, mean = column(alpha(log_snr)), column(sigma(log_snr)), 0.7, MEANS[:1]
    expected = (mean / std**2 + a * x / s**2) / (1 / std**2 + a**2 / s**2)
    assert_close(gaussian_mixture(torch.ones(1), mean, std)(x, log_snr), expected)


@every_level
def test_the_score_of_the_exact_denoiser_is_the_gradient_of_the_log_density(x, log_snr):
    std, x = 0.7, x.requires_grad_()
    a, variance = column(alpha(log_snr))[..., None], column(alpha(log_snr) ** 2 * std**2 + sigma(log_snr) ** 2)
    square = (x[:, None] - a * MEANS).square().sum(-1)
    log_density = (WEIGHTS.log() - square / (2 * variance) - (2 * math.pi * variance).log()).logsumexp(1)
    (gradient,) = torch.autograd.grad(log_density.sum(), x)
    denoised = gaussian_mixture(WEIGHTS, MEANS, std)(x, log_snr)
    assert_close(score_from_x0(x, denoised, log_snr), gradient)


@pytest.mark.parametrize("log_snr", [*map(torch.tensor, LEVELS), torch.tensor(math.inf)], ids=str)
def test_the_density_is_the_data_convolved_with_the_noise(log_snr):
    """Against numerical integration over x0 on a fine grid of p(x0) N(x; α x0, σ²), a coordinate at a time."""
    std, weights, axis = 0.7, WEIGHTS, torch.linspace(-3, 3, 7, dtype=torch.float64)
    fine = torch.linspace(-8, 8, 8001, dtype=torch.float64)
    density = gaussian_mixture_density(weights, MEANS, std)(axis, log_snr)
    prior = (-(fine - MEANS.T[..., None]).square() / (2 * std**2)).exp() / math.sqrt(2 * math.pi * std**2)  # (2, K, F)
    if log_snr.isinf():
        marginal = (-(axis - MEANS.T[..., None]).square() / (2 * std**2)).exp() / math.sqrt(2 * math.pi * std**2)
    else:
        a, s = alpha(log_snr), sigma(log_snr)
        kernel = (-(axis[:, None] - a * fine).square() / (2 * s**2)).exp() / (math.sqrt(2 * math.pi) * s)
        marginal = prior @ kernel.T * (fine[1] - fine[0])
    expected = torch.einsum("k,ki,kj->ij", weights, marginal[1], marginal[0])
    assert_close(density.double(), expected, rtol=1e-4, atol=1e-7)


@every_level
def test_a_finite_set_is_denoised_by_bayes_rule(x, log_snr):
    a, s = column(alpha(log_snr)).expand(3, 1), column(sigma(log_snr)).expand(3, 1)
    rows = []
    for row in range(3):
        likelihood = torch.stack([(-(x[row] - a[row] * m).square().sum() / (2 * s[row] ** 2)).exp() for m in MEANS])
        rows.append((likelihood * MEANS).sum(0) / likelihood.sum())
    assert_close(finite(MEANS)(x, log_snr), torch.stack(rows))


@every_level
def test_a_mixture_without_width_is_a_finite_set(x, log_snr):
    assert_close(gaussian_mixture(EQUAL, MEANS, 1e-9)(x, log_snr), finite(MEANS)(x, log_snr))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_level_a_row_denoises_each_row_as_that_level_alone_would(x, count):
    points = torch.randn(count, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    log_snr = torch.tensor(LEVELS)
    alone = [finite(points)(x[row : row + 1], log_snr[row]) for row in range(len(x))]
    assert_close(finite(points)(x, log_snr), torch.cat(alone))


@every_level
def test_a_set_of_one_point_is_always_that_point(x, log_snr):
    assert_close(finite(MEANS[:1])(x, log_snr), MEANS[:1].expand(3, 2))


def test_a_finite_set_near_the_data_answers_with_the_nearest_point(x):
    nearest = MEANS[torch.cdist(x, MEANS).argmin(1)]
    assert_close(finite(MEANS)(x, torch.tensor(12.0)), nearest)


def test_a_finite_set_in_pure_noise_answers_with_the_mean(x):
    assert_close(finite(MEANS)(x, torch.tensor(-30.0)), MEANS.mean(0).expand(3, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("log_snr", [-12.0, 0.0, 12.0])
def test_single_precision_agrees_with_double(log_snr):
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    level = torch.tensor(log_snr)
    noisy = alpha(level) * images + sigma(level) * torch.randn(
        images.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    denoised = finite(images.float())(noisy.float(), level)
    assert denoised.shape == images.shape
    assert_close(denoised.double(), finite(images)(noisy, level), atol=1e-3, rtol=0)


# --- boxes ----------------------------------------------------------------------------------------------------------

LOW = torch.tensor([[-1.0, 0.0], [0.5, -1.0]], dtype=torch.float64)
HIGH = LOW + torch.tensor([0.5, 1.0])


@every_level
def test_boxes_are_denoised_as_the_points_of_a_fine_lattice_in_them(x, log_snr):
    """By Bayes' rule, the integrals over each box as sums over 400 × 400 midpoints."""
    step = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    lattice = torch.cartesian_prod(step, step)
    points = torch.cat([low + (high - low) * lattice for low, high in zip(LOW, HIGH)])
    assert_close(boxes(LOW, HIGH)(x, log_snr), finite(points)(x, log_snr), atol=1e-4, rtol=0)


def test_boxes_answer_near_the_data_with_the_nearest_point_in_them():
    x = torch.tensor([[-0.8, 0.3], [-3.0, 0.5], [0.75, -9.0], [40.0, -0.5]], dtype=torch.float64)
    nearest = torch.tensor([[-0.8, 0.3], [-1.0, 0.5], [0.75, -1.0], [1.0, -0.5]], dtype=torch.float64)
    assert_close(boxes(LOW, HIGH)(x, torch.tensor(12.0)), nearest, atol=1e-3, rtol=0)


def test_boxes_answer_in_pure_noise_with_the_mean_of_their_middles(x):
    assert_close(boxes(LOW, HIGH)(x, torch.tensor(-20.0)), ((LOW + HIGH) / 2).mean(0).expand(3, 2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("log_snr", [-6.0, 0.0, 6.0])
def test_the_density_of_boxes_is_that_of_many_narrow_gaussians_within_them(log_snr):
    low = torch.tensor([[-1.0, -0.5], [0.25, 0.0]], dtype=torch.float64)
    inside = (torch.arange(40, dtype=torch.float64) + 0.5) / 80
    points = (low[:, None] + torch.cartesian_prod(inside, inside)).flatten(0, 1)
    axis, level = torch.linspace(-2, 2, 21, dtype=torch.float64), torch.tensor(log_snr)
    narrow = gaussian_mixture_density(torch.full((len(points),), 1 / len(points)), points, 1e-3)(axis, level)
    assert_close(boxes_density(low, low + 0.5)(axis, level), narrow, atol=1e-3, rtol=1e-3)


def test_the_density_on_the_line_is_the_sum_of_its_gaussians():
    axis, level = torch.linspace(-3, 3, 7, dtype=torch.float64), torch.tensor(0.0)
    variance = 0.5 * 0.7**2 + 0.5
    off = axis[:, None] - math.sqrt(0.5) * MEANS[:, 0]
    expected = (WEIGHTS * (-off.square() / (2 * variance)).exp()).sum(1) / math.sqrt(2 * math.pi * variance)
    assert_close(
        gaussian_mixture_density(WEIGHTS, MEANS[:, :1], 0.7)(axis, level).double(), expected, rtol=1e-5, atol=0
    )
