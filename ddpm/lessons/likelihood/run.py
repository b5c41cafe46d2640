"""The variational bound on the log-likelihood, term by term, estimated for pictures and for toy data.

−log p(x0) ≤ L_T + Σ L_{t−1} + L_0 (Ho et al. 2020, eq. 5; Kingma et al. 2021, eq. 11), in bits per dimension:

- L_T = KL(q(x_T | x0) ‖ N(0, I)), the prior matching;
- L_{t−1} = KL(q(x_{t−1} | x_t, x0) ‖ p(x_{t−1} | x_t)) for t = 2 … T, the denoising matching, where p is the posterior
  with x̂0 in the place of x0, so that both have the variance β̃ (η = 1);
- L_0 = −log p(x0 | x_1), the reconstruction: a Gaussian about x̂0(x_1) of variance β_1 = 1 − ᾱ_1, for pictures its mass
  in each pixel's grey level (Ho et al. 2020, eq. 13), for points its density.

With a Gaussian L_0 the p(x0) of a run is a density, so the bound's mean over the data is never below that of
−log p_data, the data's entropy (Gibbs' inequality). For a single point it bounds −log p(x0) of the model alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm.data import to_uint8, to_unit
from ddpm.denoiser import Guided
from ddpm.exact import log_mass_between
from ddpm.lessons.models import MODELS, NETWORKS
from ddpm.lessons.points import DATA_NAMES
from ddpm.lessons.words import EXAMPLE_INFO, MOVED_BY
from ddpm.picture import EXAMPLES, examples, held_out
from ddpm.process import Network, add_noise, like, seeded
from ddpm.schedule import alpha_bar, grid
from ddpm.serving.engine import Forward, Work
from ddpm.settings import SEED, STEPS, Choice, Number, Scheduled, scheduled, setting
from ddpm.toys import TOYS

ALL, ONE = "all", "one"

STRATA = 32
"""Ranges of t, at most: geometric, since most bits lie at the first steps."""

ROUNDS, ROWS, POINT_ROWS = 60, 1, 64
"""Rounds of an estimate, and in each the evaluations of a range of t: of pictures, of points."""

REFERENCE = 4000
"""Points of a toy over which its L_T and its exact log-likelihood are averaged."""


@dataclass(frozen=True)
class Likelihood(Scheduled):
    """Every setting of an estimate of the bound: the same value gives the same draws.

    It is averaged over test pictures of ``data`` or points of a toy, or it is that of one picture, the ``example``.
    The ``denoiser`` may be the "exact" one of a toy. Raises ValueError, in one sentence, for a setting that is not allowed.
    """

    data: str = setting(
        "mnist",
        Choice((*MODELS, *TOYS)),
        "Data",
        "Of points the exact answer is known, too.",
        names={
            "mnist": "digits (MNIST)",
            "cifar10": "colour pictures (CIFAR-10)",
            "mixture1d": "the line: two Gaussians",
            **{name: f"plane: {DATA_NAMES[name]}" for name in NETWORKS},
        },
    )
    of: str = setting(
        ALL,
        Choice((ALL, ONE)),
        "The bound of",
        "The average, or the picture that you pick below.",
        names={ALL: "all test pictures here", ONE: "one of them"},
        look="radio",
    )
    example: int = setting(
        3,
        Number(0, EXAMPLES - 1, whole=True),
        "Example",
        f"Of one: {EXAMPLE_INFO[0].lower()}{EXAMPLE_INFO[1:]}",
        look="typed",
    )
    denoiser: str = setting("learned", Choice(("learned", "exact")), "x̂₀ from", MOVED_BY, look="radio")
    steps: int = setting(1000, STEPS, "Steps T", "From noise to data: one term of the sum each.")
    schedule: str = scheduled("linear")
    seed: int = setting(0, SEED, "Seed", "Of all random draws. Press Enter.", look="number")

    @property
    def of_pictures(self) -> bool:
        return self.data in MODELS

    @property
    def is_exact(self) -> bool:
        """Whether the exact denoiser is asked; of pictures none is known."""
        return self.denoiser == "exact" and not self.of_pictures


# --- the terms, in nats -----------------------------------------------------------------------------------------------


def prior_matching(x0: Tensor, log_snr: Tensor) -> Tensor:
    """L_T = KL(q(x_T | x0) ‖ N(0, I)) of x0 (B, *D) at λ_T (): shape (B,) float64 (Ho et al. 2020, eq. 5)."""
    share, rest = alpha_bar(log_snr), alpha_bar(-log_snr)
    return 0.5 * (share * (x0.double().square() - 1) - rest.log()).flatten(1).sum(1)


def denoising_matching(x0: Tensor, predicted: Tensor, log_snr_t: Tensor, log_snr_s: Tensor) -> Tensor:
    """L_{t−1} = ½ (SNR_s − SNR_t) |x0 − x̂0|² from λ_t to the cleaner λ_s, (B,): shape (B,) (Kingma et al. 2021, eq. 13)."""
    gain = log_snr_s.double().exp() * -torch.expm1(log_snr_t.double() - log_snr_s.double())
    return 0.5 * gain * (x0.double() - predicted.double()).square().flatten(1).sum(1)


def reconstruction(x0: Tensor, predicted: Tensor, log_snr: Tensor) -> Tensor:
    """L_0 of continuous x0 (B, *D): −log N(x0; x̂0, β_1 I) with β_1 = 1 − ᾱ_1 at λ_1 (B,): shape (B,)."""
    squares = (x0.double() - predicted.double()).square()
    variance = like(alpha_bar(-log_snr), squares)
    return 0.5 * (squares / variance + (2 * math.pi * variance).log()).flatten(1).sum(1)


def discretised_reconstruction(x0: Tensor, predicted: Tensor, log_snr: Tensor) -> Tensor:
    """L_0 of pictures of 256 grey levels: the same Gaussian's mass in each pixel's level (Ho et al. 2020, eq. 13)."""
    x0 = x0.double()
    std = like(alpha_bar(-log_snr).sqrt(), x0)
    low = torch.where(x0 < -254 / 255, -math.inf, x0 - 1 / 255)
    high = torch.where(x0 > 254 / 255, math.inf, x0 + 1 / 255)
    return -log_mass_between((low - predicted) / std, (high - predicted) / std).flatten(1).sum(1)


# --- the estimate -----------------------------------------------------------------------------------------------------


class Population(NamedTuple):
    """What is averaged over: ``draw`` gives x0 (B, *D), L_T and the exact −log p are averaged over ``reference`` (N, *D).

    If it is ``finite``, the reference is all of it. ``decoder`` is L_0, ``surprise`` −log p_data in nats, if known, and
    ``entropy`` its mean, if that is known without drawing points.
    """

    draw: Callable[[int, torch.Generator], Tensor]
    reference: Tensor
    finite: bool
    decoder: Callable[[Tensor, Tensor, Tensor], Tensor]
    surprise: Callable[[Tensor], Tensor] | None = None
    entropy: float | None = None


def of_images(images: Tensor) -> Population:
    """Pictures (N, C, H, W) uint8, each as likely as the other."""
    x0 = to_unit(images)

    def draw(count: int, generator: torch.Generator) -> Tensor:
        return x0[torch.randint(len(x0), (count,), generator=generator)]

    return Population(draw, x0, True, discretised_reconstruction)


def of_toy(name: str, seed: int) -> Population:
    """A toy distribution: fresh points at every draw."""
    toy = TOYS[name]
    points = toy(REFERENCE, seeded(seed, 0, 1))
    return Population(toy, points, False, reconstruction, lambda x0: -toy.log_density(x0), entropy(name))


@cache
def entropy(name: str) -> float | None:
    """The mean of −log p over the toy ``name`` in nats: integrated on the line, known of squares of equal density."""
    if name == "checkerboard":
        return math.log(8 * 0.5**2)
    if name != "mixture1d":
        return None
    x = torch.linspace(-20, 20, 40_001, dtype=torch.float64)[:, None]
    log_density = TOYS[name].log_density(x)
    return float(torch.trapezoid(-log_density.exp() * log_density, x[:, 0]))


def population(asked: Likelihood) -> Population:
    """What ``asked`` is an average over."""
    if not asked.of_pictures:
        return of_toy(asked.data, asked.seed)
    one = examples(asked.data)[asked.example][None]
    return of_images(one if asked.of == ONE else held_out(asked.data))


def strata(steps: int) -> tuple[tuple[int, int], ...]:
    """The ranges of t, first and last: t = 1 alone, which is L_0, then geometric ones that cover 2 … ``steps``."""
    edges = np.unique(np.rint(np.geomspace(2, steps + 1, STRATA + 1)).astype(int)) if steps > 1 else np.array([2])
    return ((1, 1), *((int(first), int(after) - 1) for first, after in pairwise(edges)))


class Mean(NamedTuple):
    """A mean with its standard error, in bits per dimension."""

    value: float
    error: float


class Estimate(NamedTuple):
    """The bound after some evaluations of the network, in bits per dimension.

    ``terms`` (K,) is the mean of a single L_{t−1} in each range of t, L_0 first, with its standard ``errors`` (K,);
    ``sizes`` (K,) is how many t a range holds. ``exact`` is −log p_data, if it is known.
    """

    evaluations: int
    sizes: np.ndarray
    terms: np.ndarray
    errors: np.ndarray
    prior: Mean
    exact: Mean | None
    seconds: float = 0.0

    @property
    def reconstruction(self) -> Mean:
        return Mean(float(self.terms[0]), float(self.errors[0]))

    @property
    def matching(self) -> Mean:
        """Σ L_{t−1}."""
        error = np.sqrt(np.square(self.sizes[1:] * self.errors[1:]).sum())
        return Mean(float(self.sizes[1:] @ self.terms[1:]), float(error))

    @property
    def total(self) -> Mean:
        parts = (self.prior, self.matching, self.reconstruction)
        return Mean(sum(part.value for part in parts), math.hypot(*(part.error for part in parts)))


class Opening(NamedTuple):
    """What an estimate opens with: the pictures (N, C, H, W) uint8 that it averages over, or none of points."""

    pictures: Tensor | None


def look(asked: Likelihood, network: Network) -> Work:
    """The job of the page: what it opens with, then the estimates."""
    yield Opening(to_uint8(population(asked).reference) if asked.of_pictures else None)
    yield from estimates(asked, network)


@torch.no_grad()
def estimates(asked: Likelihood, network: Network, rounds: int = ROUNDS) -> Work:
    """The estimates of ``asked``: an ``Estimate`` after every round that leaves two draws or more of each range of t.

    A round evaluates as many draws of data, noise and t in each range of t. ``network`` is asked without a label.
    """
    exact = TOYS[asked.data].exact if asked.is_exact else None
    many = ROWS if asked.of_pictures else POINT_ROWS
    yield from bounds(population(asked), grid(asked.curve, asked.steps), network, asked.seed, rounds, many, exact)


def bounds(
    data: Population,
    levels: Tensor,
    network: Network,
    seed: int,
    rounds: int,
    rows: int,
    exact: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Work:
    """The bound over ``data`` on the grid ``levels`` (T + 1,), refined ``rounds`` times by ``rows`` draws a range of t."""
    begun, generator = time.monotonic(), seeded(seed)
    ranges, by_step = strata(len(levels) - 1), levels.flip(0)
    sizes = torch.tensor([last - first + 1 for first, last in ranges])
    first = torch.tensor([first for first, _ in ranges])
    units = 1 / (data.reference[0].numel() * math.log(2))
    prior = _mean(prior_matching(data.reference, levels[0]) * units, data.finite)
    known = _mean(data.surprise(data.reference) * units, False) if data.surprise else None
    known = known if data.entropy is None else Mean(data.entropy * units, 0.0)
    found = torch.zeros(len(ranges), 0, dtype=torch.float64)
    for _ in range(rounds):
        x0 = data.draw(rows * len(ranges), generator)
        t = (first + (torch.rand(rows, len(ranges), generator=generator) * sizes).long()).T.flatten()
        x = add_noise(x0, torch.randn(x0.shape, generator=generator), by_step[t])
        predicted = exact(x, by_step[t]) if exact else (yield from _ask(network, x, by_step[t]))
        matching = denoising_matching(x0, predicted, by_step[t], by_step[(t - 1).clamp(min=1)])
        matching[:rows] = data.decoder(x0[:rows], predicted[:rows], by_step[t[:rows]])
        found = torch.cat([found, matching.reshape(len(ranges), rows) * units], 1)
        if found.shape[1] > 1:
            errors = found.std(1) / math.sqrt(found.shape[1])
            yield Estimate(
                found.numel(),
                sizes.numpy(),
                found.mean(1).numpy(),
                errors.numpy(),
                prior,
                known,
                time.monotonic() - begun,
            )


def carried_out(work: Work) -> Iterator[Estimate]:
    """The estimates of a job without an engine: its networks are asked here."""
    said = next(work, None)
    while said is not None:
        if isinstance(said, Forward):
            said = work.send(said.network(said.x, said.log_snr, said.label))
        else:
            yield said
            said = next(work, None)


def _ask(network: Network, x: Tensor, log_snr: Tensor) -> Generator[Forward, Tensor, Tensor]:
    """x̂0 of x (B, *D) at λ (B,), without a label; of pictures clipped to their range."""
    config = network.config
    guided = Guided(config, torch.full((len(x),), config.num_classes), clip=x.ndim == 4)
    output = yield Forward(network, *guided.rows(x, log_snr))
    return guided.x0(x, log_snr, output)


def _mean(values: Tensor, finite: bool) -> Mean:
    return Mean(values.mean().item(), 0.0 if finite else values.std().item() / math.sqrt(len(values)))
