from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ddpm.denoiser import denoiser
from ddpm.process import noise_from_x0, v_from_x0, x0_from_noise

NO_LABEL = 3
LABELS = torch.tensor([0, 1, 2, 0])
LEVEL = torch.tensor(-1.0, dtype=torch.float64)
LEVELS = torch.tensor([-12.0, -1.0, 0.0, 12.0], dtype=torch.float64)


def answer(x, log_snr, label):
    """The x̂0 that Known stands for: it depends on x, on the level and on the label."""
    return x.sin() * log_snr.reshape(-1, 1).cos() + label[:, None].to(x)


class Known(nn.Module):
    """A network whose x̂0 is ``answer``, told as noise, x0 or v; it notes how many rows each call had."""

    def __init__(self, prediction: str = "noise"):
        super().__init__()
        self.config = SimpleNamespace(prediction=prediction, num_classes=NO_LABEL)
        self.rows: list[int] = []

    def forward(self, x, log_snr, label):
        assert log_snr.shape == label.shape == (len(x),)
        self.rows.append(len(x))
        x0 = answer(x, log_snr, label)
        told = {"noise": noise_from_x0(x, x0, log_snr), "x0": x0, "v": v_from_x0(x, x0, log_snr)}
        return told[self.config.prediction]


@pytest.fixture
def x():
    return torch.randn(len(LABELS), 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("log_snr", [LEVEL, LEVELS], ids=["one level", "one a row"])
@pytest.mark.parametrize("prediction", ["noise", "x0", "v"])
def test_the_same_x0_comes_out_whatever_the_network_predicts(x, prediction, log_snr):
    assert_close(denoiser(Known(prediction), LABELS)(x, log_snr), answer(x, log_snr, LABELS))


@pytest.mark.parametrize("prediction", ["noise", "x0", "v"])
@pytest.mark.parametrize("guidance", [-1.0, 0.0, 0.5, 7.0])
def test_guidance_is_the_formula_on_the_noise(x, guidance, prediction):
    """Ho & Salimans 2022, eq. 6."""
    conditional = noise_from_x0(x, answer(x, LEVEL, LABELS), LEVEL)
    free = noise_from_x0(x, answer(x, LEVEL, torch.full_like(LABELS, NO_LABEL)), LEVEL)
    expected = x0_from_noise(x, (1 + guidance) * conditional - guidance * free, LEVEL)
    assert_close(denoiser(Known(prediction), LABELS, guidance)(x, LEVEL), expected)


def test_guidance_takes_a_level_a_row(x):
    alone = [denoiser(Known(), LABELS[row : row + 1], 2.0)(x[row : row + 1], LEVELS[row]) for row in range(len(LABELS))]
    assert_close(denoiser(Known(), LABELS, 2.0)(x, LEVELS), torch.cat(alone))


def test_without_a_label_guidance_changes_nothing(x):
    nothing = torch.full_like(LABELS, NO_LABEL)
    assert_close(denoiser(Known(), nothing, 3.0)(x, LEVEL), answer(x, LEVEL, nothing))


def test_a_row_without_a_label_is_not_guided_beside_rows_with_one(x):
    labels = torch.tensor([NO_LABEL, 1, NO_LABEL, 2])
    without = labels == NO_LABEL
    assert_close(denoiser(Known(), labels, 3.0)(x, LEVEL)[without], answer(x, LEVEL, labels)[without])


@pytest.mark.parametrize(("guidance", "times"), [(0.0, 1), (2.0, 2)])
def test_guidance_makes_one_call_of_twice_the_rows(x, guidance, times):
    network = Known()
    denoiser(network, LABELS, guidance)(x, LEVEL)
    assert network.rows == [times * len(x)]


@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_clip_limits_x0_to_the_range_of_images_after_guidance(x, guidance):
    free, clipped = (denoiser(Known(), LABELS, guidance, clip)(x, LEVEL) for clip in (False, True))
    assert free.abs().max() > 1
    assert_close(clipped, free.clamp(-1, 1))
