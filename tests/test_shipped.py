"""What the weights in checkpoints/ must do; how well they do it is measured by scripts/evaluate.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ddpm.checkpoint import load_network, load_projection
from ddpm.denoiser import denoiser
from ddpm.distances import sliced_wasserstein
from ddpm.evaluation.classifier import classified
from ddpm.evaluation.judges import Setting, agreement, field_error, generate
from ddpm.evaluation.report import digest
from ddpm.process import seeded
from ddpm.sampling import sample
from ddpm.schedule import Cosine, Polynomial, grid
from ddpm.toys import MIXTURE_STD, TOYS

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
MOST_FLOPS = {"mnist": 0.5e9, "cifar10": 1.5e9}
MOST_BYTES = 20e6


def load(name: str) -> torch.nn.Module:
    return load_network(CHECKPOINTS / f"{name}.safetensors").network


def samples(name: str, setting: Setting) -> tuple[torch.Tensor, torch.Tensor]:
    """The clean samples of one batch, and their labels."""
    return generate(load(name), setting, seed=1, batch=setting.samples)


@pytest.mark.parametrize("name", MOST_FLOPS)
def test_an_image_network_stays_within_its_budget(name):
    network = load(name)
    assert (CHECKPOINTS / f"{name}.safetensors").stat().st_size <= MOST_BYTES
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, *network.config.shape), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    assert 0 < counter.get_total_flops() <= MOST_FLOPS[name]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "polynomial"])
def test_the_mnist_network_draws_the_digits_asked_for_under_any_schedule(schedule):
    drawn, asked = samples("mnist", Setting(10, schedule, samples=50))
    found = classified(load("mnist-classifier"), drawn)[1]
    assert agreement(found, asked) >= 0.9


def test_the_cifar10_network_draws_the_objects_asked_for():
    drawn, asked = samples("cifar10", Setting(10, guidance=1.0, samples=50))
    found = classified(load("cifar10-classifier"), drawn)[1]
    assert agreement(found, asked) >= 0.7


@pytest.mark.parametrize("report", sorted(CHECKPOINTS.glob("*.json")), ids=lambda path: path.stem)
def test_what_is_told_of_the_weights_was_measured_with_them(report):
    told = json.loads(report.read_text("utf-8"))
    if report.stem == "likelihood":
        rows = [(row["data"], "checkpoint", row["checkpoint"]) for row in told]
    else:
        rows = [(told["data"], *made) for row in told["rows"] for made in row["made_with"].items()]
    assert rows
    for data, part, made_with in rows:
        drawing = f"{data}-student" if report.stem.endswith("-student") else data
        name = f"{data}-classifier" if part == "classifier" else drawing
        assert made_with == digest(CHECKPOINTS / f"{name}.safetensors")


@pytest.mark.parametrize("name", MOST_FLOPS)
def test_the_projection_has_unit_axes_of_the_size_of_the_networks_images(name):
    axes = torch.from_numpy(load_projection(CHECKPOINTS / f"{name}-projection.safetensors").axes)
    assert axes.shape[1] == torch.zeros(load(name).config.shape).numel()
    torch.testing.assert_close(axes @ axes.T, torch.eye(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [name for name in TOYS if name != "mixture1d"])
@pytest.mark.parametrize(
    "setting", [Setting(50, eta=1.0, samples=2000), Setting(25, "polynomial", samples=2000)], ids=str
)
def test_one_planar_checkpoint_serves_several_steps_and_schedules(name, setting):
    drawn, _ = samples(name, setting)
    held_out, start = TOYS[name](len(drawn), seeded(1, 0, 99)), torch.randn(drawn.shape, generator=seeded(2))
    near, far = (sliced_wasserstein(points, held_out, seeded(3)) for points in (drawn, start))
    assert near < far / 8


@pytest.mark.parametrize("schedule", [Cosine(), Polynomial()], ids=repr)
@pytest.mark.parametrize("steps", [10, 50])
def test_the_mixtures_network_takes_noise_to_where_the_exact_denoiser_takes_it(schedule, steps):
    learned = denoiser(load("mixture1d"), torch.zeros(1000, dtype=torch.long))
    noise, levels = torch.randn(1000, 1, generator=seeded(5)), grid(schedule, steps)
    ends = [list(sample(denoise, levels, noise, eta=0))[-1].x for denoise in (TOYS["mixture1d"].exact, learned)]
    assert (ends[0] - ends[1]).abs().median() < 0.1 * MIXTURE_STD


@pytest.mark.parametrize("name", TOYS)
def test_a_toys_network_is_within_a_tenth_of_the_exact_field(name):
    assert field_error(load(name), TOYS[name], seed=0, samples=500).mean < 0.1
