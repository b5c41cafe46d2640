"""A student learns where the teacher's paths end."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from ddpm.data import Images
from ddpm.networks import UNet, UNetConfig
from ddpm.process import v_from_x0
from ddpm.schedule import Cosine, alpha, grid, sigma
from ddpm.training import distillation
from ddpm.training.distillation import CLEANEST, HUBER, Distiller, between, held_out_loss, path_draw, pseudo_huber, walk
from ddpm.training.recipe import Recipe

CONFIG = UNetConfig(shape=(1, 8, 8), num_classes=3, channels=(8, 16), blocks=(1, 1), embedding=16)
STD = 0.3


class Gaussian:
    """The exact network of pictures whose pixels are N(0, STD²)."""

    config = SimpleNamespace(shape=(1, 8, 8), num_classes=3, prediction="v")

    def __call__(self, x, log_snr, label):
        level = log_snr.double()[:, None, None, None]
        x0 = alpha(level) * STD**2 / (alpha(level) ** 2 * STD**2 + sigma(level) ** 2) * x
        return v_from_x0(x, x0.float(), log_snr)


@pytest.fixture
def stretches():
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return walk(Gaussian(), x, grid(Cosine(), 10), torch.zeros(5, dtype=torch.long), 0.0)


@pytest.fixture
def data():
    images = torch.randint(256, (20, 1, 8, 8), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    return Images(images, torch.arange(20) % 3, ("a", "b", "c"))


@pytest.fixture
def few(monkeypatch):
    """Few paths, and few of them kept."""
    for name, value in {"PATHS": 6, "WINDOW": 2, "USES": 3}.items():
        monkeypatch.setattr(distillation, name, value)


def test_a_stretch_begins_where_it_does_and_ends_where_the_next_begins(stretches):
    start, end = (between(stretches, torch.full((50,), share).double()) for share in (0.0, 1.0))
    assert_close(start.x, stretches.x)
    assert_close(end.x[:45], stretches.x[5:], atol=1e-5, rtol=1e-5)
    assert_close(end.log_snr[:45], stretches.log_snr[5:])


def test_the_paths_of_a_gaussian_end_where_its_flow_does(stretches):
    """The probability flow of N(0, STD²) keeps x over its standard deviation (Song et al. 2021)."""
    level = stretches.log_snr[:, None, None, None]
    expected = STD * stretches.x / (alpha(level) ** 2 * STD**2 + sigma(level) ** 2).sqrt()
    assert (stretches.end - expected).square().mean().sqrt() < 0.3 * STD  # of ten steps


def test_no_state_is_cleaner_than_the_cleanest(stretches):
    assert float(between(stretches, torch.ones(50).double()).log_snr.max()) == CLEANEST


def test_a_batch_is_the_same_whenever_it_is_asked_for(data, few):
    first, again = (path_draw(Gaussian(), data, 0.0, 16, seed=3) for _ in range(2))
    late = [again(step) for step in (7, 1)]
    for one, other in zip([first(1), first(7)], reversed(late)):
        for ours, theirs in zip(one, other):
            assert torch.equal(ours, theirs)
    assert not torch.equal(first(1).x, first(2).x)


def test_some_paths_have_no_label(data, few, monkeypatch):
    monkeypatch.setattr(distillation, "PATHS", 400)
    labels = path_draw(Gaussian(), data, 0.0, 4000, seed=0, unlabelled=0.25)(0).label
    assert (labels == 3).double().mean().item() == pytest.approx(0.25, abs=0.06)
    assert set(labels.tolist()) == {0, 1, 2, 3}


def test_the_distance_is_quadratic_near_and_linear_far():
    x0 = torch.zeros(3, 1, 2, 2)
    answer = torch.tensor([0.0, HUBER / 100, 100.0])[:, None, None, None].expand_as(x0)
    assert_close(pseudo_huber(answer, x0), torch.tensor([0.0, HUBER / 2e4, 100 - HUBER]), atol=1e-6, rtol=1e-3)


def test_a_student_comes_nearer_to_the_ends(data, few):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trainer = Distiller(UNet(CONFIG), Recipe(steps=60, batch=32, lr=5e-3, warmup=5))
    held_out = [path_draw(Gaussian(), data, 0.0, 64, seed=9)(0)]
    before = held_out_loss(trainer.averaged(), held_out)
    losses = [float(loss) for _, loss in trainer.run(path_draw(Gaussian(), data, 0.0, 32, seed=0))]
    assert all(map(math.isfinite, losses))
    assert held_out_loss(trainer.averaged(), held_out) < 0.7 * before
