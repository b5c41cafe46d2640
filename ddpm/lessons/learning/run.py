"""The learning lesson as one frozen value: a step of Algorithm 1 in numbers, by networks kept while they were trained."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm.data import to_unit
from ddpm.denoiser import Guided, denoiser
from ddpm.lessons.models import SNAPSHOTS, Snapshots
from ddpm.networks import Configured
from ddpm.picture import held_out
from ddpm.process import Network, add_noise, noise_from_x0, seeded
from ddpm.sampling import SAMPLERS, generators, normal
from ddpm.schedule import Linear, grid
from ddpm.serving.engine import Forward, Work
from ddpm.settings import SEED, Choice, Settings, setting

PICTURES = 8
"""Of a step's batch on the page."""

STEPS = 1000
"""T of Algorithm 1, with the linear schedule."""

RATE = 0.02
"""Of the gradient step on the page."""

LABELS = (0, 2, 3, 5, 7, 8)
"""The digits that the samples are asked to be."""

SAMPLING_STEPS = 30


@dataclass(frozen=True)
class Learning(Settings):
    """Every setting of the lesson: the same value gives the same step and the same samples.

    ``snapshot`` is after how many steps of training, ``seed`` the step's draw, ``noise`` the seed of the samples.
    Raises ValueError, in one sentence, for a setting that is not allowed.
    """

    snapshot: str = setting(
        "500",
        Choice(SNAPSHOTS),
        "Steps learned so far",
        "The networks were kept as they were then.",
        names={"2500": "2,500", "10000": "10,000", "end": "the end"},
        look="radio",
    )
    seed: int = setting(
        2, SEED, "Draw", "The number of the step's draw: the same gives the same. Press Enter.", look="number"
    )
    noise: int = setting(
        0, SEED, "Seed of the samples", "The noise that all of them begin with. Press Enter.", look="number"
    )


# --- one step of Algorithm 1 ------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """What a step draws: x0 (B, *D), its label (B,), t (B,) with λ (B,), the noise (B, *D), and x_t (B, *D) made of them."""

    x0: Tensor
    label: Tensor
    t: Tensor
    log_snr: Tensor
    noise: Tensor
    x: Tensor


def draw(seed: int, count: int = PICTURES) -> Batch:
    """Lines 2 to 4 of Algorithm 1 (Ho et al. 2020) on ``count`` test pictures of MNIST."""
    generator, pictures = seeded(seed, 1), held_out("mnist")
    index = torch.randperm(len(pictures), generator=generator)[:count]
    t = torch.randint(1, STEPS + 1, (count,), generator=generator)
    x0, log_snr = to_unit(pictures[index]), grid(Linear(), STEPS)[STEPS - t]
    noise = torch.randn(x0.shape, generator=generator)
    return Batch(x0, index % 10, t, log_snr, noise, add_noise(x0, noise, log_snr))


def predicted_noise(network: Network, batch: Batch) -> Tensor:
    """ε̂ (B, *D)."""
    return noise_from_x0(batch.x, denoiser(network, batch.label)(batch.x, batch.log_snr), batch.log_snr)


class Descent(NamedTuple):
    """The loss of a batch, the length of its gradient, and the loss after a step of RATE against the gradient."""

    loss: float
    gradient: float
    after: float


def descend(network: Configured, batch: Batch, rate: float = RATE) -> Descent:
    """Line 5 of Algorithm 1, as plain gradient descent on a copy of ``network``."""
    own = copy.deepcopy(network).requires_grad_(True)
    weights: list[Tensor] = list(own.parameters())

    def loss() -> Tensor:
        return (batch.noise - predicted_noise(own, batch)).square().mean()

    with torch.enable_grad():
        before = loss()
        gradient = torch.autograd.grad(before, weights, allow_unused=True, materialize_grads=True)
    length = torch.stack([part.square().sum() for part in gradient]).sum().sqrt()
    with torch.no_grad():
        torch._foreach_add_(weights, gradient, alpha=-rate)
        return Descent(before.item(), length.item(), loss().item())


class Answer(NamedTuple):
    """What one network makes of a batch: ε̂ (B, *D) and the mean squared error of each picture (B,)."""

    name: str
    noise: np.ndarray
    error: np.ndarray


class Shown(NamedTuple):
    """A step of Algorithm 1 as the page shows it: the draws, what each network answers, and the first one's descent."""

    batch: Batch
    answers: tuple[Answer, ...]
    descent: Descent


@torch.no_grad()
def step(asked: Learning, trained: Mapping[str, Snapshots]) -> Work:
    """The job of one step of Algorithm 1 by the networks as they were at the snapshot; the first one descends."""
    batch, place = draw(asked.seed), SNAPSHOTS.index(asked.snapshot)
    networks = {name: snapshots.networks[place] for name, snapshots in trained.items()}
    answers = []
    for name, network in networks.items():
        noise = predicted_noise(network, batch)
        answers.append(Answer(name, noise.numpy(), (batch.noise - noise).square().flatten(1).mean(1).numpy()))
    yield Shown(batch, tuple(answers), descend(next(iter(networks.values())), batch))


# --- samples ------------------------------------------------------------------------------------------------------------


class Samples(NamedTuple):
    """The samples of every network after some steps: x (networks, len(LABELS), *D), from noise at ``index`` T to 0."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks for
    x: np.ndarray


@torch.no_grad()
def samples(asked: Learning, networks: tuple[Network, ...]) -> Work:
    """The job of samples by each of ``networks`` from the same noise: DDIM on the linear schedule, all in step."""
    own = generators(asked.noise, range(len(LABELS)))
    noise, levels = normal(networks[0].config.shape, own), grid(Linear(), SAMPLING_STEPS)
    paths = [SAMPLERS["ddim"](levels, noise, 0.0, own) for _ in networks]
    guided = [Guided(network.config, torch.tensor(LABELS), clip=True) for network in networks]
    states = [next(path) for path in paths]
    while states[0].index:
        yield Samples(states[0].index, torch.stack([state.x for state in states]).numpy())
        for i, (network, asks, path) in enumerate(zip(networks, guided, paths)):
            _, log_snr, x = states[i]
            output = yield Forward(network, *asks.rows(x, log_snr))
            states[i] = path.send(asks.x0(x, log_snr, output))
    yield Samples(0, torch.stack([state.x for state in states]).numpy())
