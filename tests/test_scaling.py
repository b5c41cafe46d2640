import pytest
import torch
from torch.testing import assert_close

from ddpm.exact import gaussian_mixture
from ddpm.process import seeded
from ddpm.scaling import AS_IT_IS, SCALINGS, Scaling

POINTS = torch.tensor([3.0, -2.0]) + torch.tensor([0.5, 2.0]) * torch.randn(400, 2, generator=seeded(1))
LEVELS = torch.tensor([-12.0, -3.0, 0.0, 3.0, 12.0])
MEANS = torch.tensor([[2.0, -1.0], [-0.5, 0.3]])
WEIGHTS = torch.tensor([0.25, 0.75])
SCALING = Scaling((0.7, -0.4), 2.5)


@pytest.mark.parametrize("level", LEVELS.tolist())
def test_around_the_exact_denoiser_of_scaled_gaussians_stands_that_of_the_gaussians(level):
    scaled = gaussian_mixture(WEIGHTS, SCALING.into(MEANS), 0.3 / SCALING.scale)
    x, log_snr = torch.randn(50, 2, generator=seeded(2)), torch.tensor(level)
    expected = gaussian_mixture(WEIGHTS, MEANS, 0.3)(x, log_snr)
    assert_close(SCALING.around(scaled)(x, log_snr), expected, atol=2e-5, rtol=1e-4)


def test_the_inverse_scales_a_denoiser_back():
    denoise, x = gaussian_mixture(WEIGHTS, MEANS, 0.3), torch.randn(50, 2, generator=seeded(5))
    assert_close(SCALING.inverse.into(SCALING.into(x)), x)
    for level in LEVELS:
        assert_close(SCALING.inverse.around(SCALING.around(denoise))(x, level), denoise(x, level), atol=1e-4, rtol=1e-4)


def test_rows_may_have_levels_of_their_own():
    denoise = SCALING.around(gaussian_mixture(WEIGHTS, MEANS, 0.3))
    x = torch.randn(5, 2, generator=seeded(3))
    together = denoise(x, LEVELS)
    assert_close(together, torch.cat([denoise(x[i : i + 1], LEVELS[i]) for i in range(5)]))


@pytest.mark.parametrize("name", SCALINGS)
def test_scaling_and_scaling_back_are_inverse(name):
    scaling = SCALINGS[name](POINTS)
    assert_close(scaling.back(scaling.into(POINTS)), POINTS)


def test_to_unit_the_widest_coordinate_reaches_both_ends_and_the_other_lies_in_the_middle():
    z = SCALINGS["unit"](POINTS).into(POINTS)
    assert_close(z.amin(0) + z.amax(0), torch.zeros(2), atol=1e-5, rtol=0)
    assert_close(z.abs().max(), torch.tensor(1.0))


def test_standardised_the_mean_is_0_and_the_mean_variance_1():
    z = SCALINGS["standard"](POINTS).into(POINTS)
    assert_close(z.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    assert_close(z.var(0, correction=0).mean(), torch.tensor(1.0))


def test_unscaled_data_stays_as_it_is():
    assert torch.equal(SCALINGS["none"](POINTS).into(POINTS), POINTS)


def test_what_is_not_scaled_leaves_a_denoiser_as_it_was():
    denoise, x = gaussian_mixture(WEIGHTS, MEANS, 0.3), torch.randn(9, 2, generator=seeded(4))
    for level in (*LEVELS, torch.tensor(torch.inf)):
        assert_close(AS_IT_IS.around(denoise)(x, level), denoise(x, level))


def test_a_single_point_has_a_scaling():
    for fitted in SCALINGS.values():
        assert fitted(POINTS[:1]).scale > 0
