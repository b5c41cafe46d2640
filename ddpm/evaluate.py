"""Quality measures against held-out data: distances between sets, the settings that are judged, and their judges.

A distance between two finite sets is above 0 even if one distribution made both. So each result stands beside its
*floor*: the same distance for as many real samples. A result at its floor is as good as the measure can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from ddpm.classifier import classified
from ddpm.data import Images
from ddpm.denoiser import denoiser
from ddpm.process import seeded
from ddpm.sampling import Step, generators, normal, sample
from ddpm.schedule import SCHEDULES, grid

FLOOR_DRAWS = 5
"""Fresh sets over which a floor is averaged: a single one is as uncertain as the result beside it."""

_REFERENCE, _FRESH, _DIRECTIONS, _FLOOR = 11, 12, 13, 14
"""Third parts of generator keys (seed, index, part), apart from those that training draws with."""


# --- distances between two sets -------------------------------------------------------------------------------------


def sliced_wasserstein(a: Tensor, b: Tensor, generator: Generator, projections: int = 200) -> float:
    """Sliced 2-Wasserstein distance of two sets of points (N, d), in the points' own units (Bonneel et al. 2015).

    The root of the mean, over random directions, of the squared 2-Wasserstein distance of the projections, which is the
    mean squared difference of their sorted values. For d = 1 it is the 2-Wasserstein distance itself.
    Raises ValueError if the sets differ in size.
    """
    if a.shape != b.shape:
        raise ValueError(f"The two sets have the shapes {tuple(a.shape)} and {tuple(b.shape)}; they must be equal.")
    if a.shape[1] > 1:
        directions = F.normalize(torch.randn(a.shape[1], projections, generator=generator), dim=0).to(a)
        a, b = a @ directions, b @ directions
    return (a.sort(0).values - b.sort(0).values).double().square().mean().sqrt().item()


def energy_distance(a: Tensor, b: Tensor) -> float:
    """2 E|a − b| − E|a − a'| − E|b − b'| of sets (N, d), (M, d), in their units (Székely & Rizzo 2013).

    Each mean is over all pairs, a point with itself included; so it is never negative, and 0 for equal sets.
    """
    return 2 * _mean_distance(a, b) - _mean_distance(a, a) - _mean_distance(b, b)


def _mean_distance(a: Tensor, b: Tensor) -> float:
    exact = "donot_use_mm_for_euclid_dist"  # and in parts that fit the CPU's cache, thrice as fast
    total = sum(torch.cdist(part, b, compute_mode=exact).sum(dtype=torch.float64).item() for part in a.split(20))
    return total / (len(a) * len(b))


def frechet(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance of Gaussians fitted to features (N, F) and (M, F) (Heusel et al. 2017, eq. 6).

    |m_a − m_b|² + tr(A + B − 2 (A B)^½) with covariances A and B, in float64. A B has the eigenvalues of the symmetric
    A^½ B A^½, so two symmetric eigenproblems do instead of a general matrix root.
    """
    a, b = a.double(), b.double()
    covariance_a, covariance_b = torch.atleast_2d(a.T.cov()), torch.atleast_2d(b.T.cov())
    values, vectors = torch.linalg.eigh(covariance_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp(min=0).sqrt().sum()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return (apart + covariance_a.trace() + covariance_b.trace() - 2 * shared).item()


# --- samples --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """One way to sample a network, and by how many ``samples`` it is judged."""

    steps: int
    schedule: str = "cosine"
    eta: float = 0.0
    guidance: float = 0.0
    samples: int = 1000

    def __str__(self) -> str:
        return f"T={self.steps}, {self.schedule}, eta={self.eta:g}, w={self.guidance:g}"


EXTENTS = ("standard", "quick", "full")
"""``standard`` spends samples where they tell most, ``full`` spends all of them on every row, ``quick`` is a check."""


def image_settings(samples: int, extent: str = "standard") -> list[Setting]:
    """The rows of an image network's table: steps, both samplers, every schedule, guidance."""
    main = [Setting(25), Setting(250, eta=1.0)]
    others = [Setting(steps, eta=eta) for eta in (0.0, 1.0) for steps in (5, 10, 50)]
    others += [Setting(25, schedule=name) for name in SCHEDULES if name != "cosine"]
    others += [Setting(25, guidance=guidance) for guidance in (1.0, 3.0)]
    slow = [Setting(1000)]
    if extent == "quick":
        return _with_samples(main[:1] + others[:2], min(samples, 200))
    if extent == "full":
        return _with_samples(main + others + slow, samples)
    counted = ((main, samples), (others, min(samples, 1000)), (slow, min(samples, 200)))
    return [setting for rows, count in counted for setting in _with_samples(rows, count)]


def toy_settings(samples: int, extent: str = "standard") -> list[Setting]:
    """The rows of a toy network's table: steps, and two schedules that a few steps suit less."""
    main = [Setting(10, eta=1.0), Setting(50, eta=1.0), Setting(10, "polynomial", 0.0), Setting(10, "constant", 1.0)]
    slow = [Setting(1000, eta=1.0)]
    if extent == "quick":
        return _with_samples(main[:2], min(samples, 2000))
    return _with_samples(main, samples) + _with_samples(slow, samples if extent == "full" else min(samples, 5000))


def _with_samples(settings: Iterable[Setting], samples: int) -> list[Setting]:
    return [replace(setting, samples=samples) for setting in settings]


def balanced_labels(count: int, num_classes: int) -> Tensor:
    """0, 1, … over and over, (count,) int64; without classes all are "no label". ValueError if a class gets fewer."""
    if num_classes and count % num_classes:
        raise ValueError(f"The number of samples is {count}; it must be a multiple of the {num_classes} classes.")
    return torch.arange(count) % max(num_classes, 1)


@torch.inference_mode()
def generate(network: nn.Module, setting: Setting, seed: int, batch: int = 50) -> Iterator[tuple[Tensor, Step]]:
    """Every step of ``setting.samples`` runs, in batches: the samples' labels (B,) and their step; index 0 ends a run.

    Sample i has the label i modulo the number of classes and the generator (seed, i), whatever the batch.
    x̂0 is limited to [−1, 1] for images.
    """
    shape, levels = network.config.shape, grid(SCHEDULES[setting.schedule](), setting.steps)
    labels = balanced_labels(setting.samples, network.config.num_classes)
    for rows in torch.arange(setting.samples).split(batch):
        label, own = labels[rows], generators(seed, rows.tolist())
        denoise = denoiser(network, label, setting.guidance, clip=len(shape) == 3)
        for step in sample(denoise, levels, normal(shape, own), eta=setting.eta, generators=own):
            yield label, step


# --- judges: (samples, labels, seed) -> measures --------------------------------------------------------------------

Judge = Callable[[Tensor, Tensor, int], dict[str, Any]]


def agreement(found: Tensor, asked: Tensor) -> float:
    """The share of samples in which the classifier found the label that was asked for; both (N,)."""
    return (found == asked).double().mean().item()


def judge_images(classifier: nn.Module, train: Images, test: Images) -> Judge:
    """Label agreement, and the Fréchet distance to the test set in the classifier's features.

    The floor puts training images of the same labels in the samples' place.
    """
    real = classified(classifier, test.images)[0]

    @cache
    def floor(labels: tuple[int, ...], seed: int) -> float:
        draws = [
            rows_of_labels(train.labels, torch.tensor(labels), seeded(seed, k, _FLOOR)) for k in range(FLOOR_DRAWS)
        ]
        return sum(frechet(classified(classifier, train.images[rows])[0], real) for rows in draws) / FLOOR_DRAWS

    def judge(samples: Tensor, labels: Tensor, seed: int) -> dict[str, Any]:
        features, found = classified(classifier, samples)
        return {
            "agreement": agreement(found, labels),
            "agreement_by_class": [agreement(found[labels == k], labels[labels == k]) for k in range(len(test.names))],
            "frechet": frechet(features, real),
            "frechet_floor": floor(tuple(labels.tolist()), seed),
        }

    return judge


def rows_of_labels(labels: Tensor, asked: Tensor, generator: Generator) -> Tensor:
    """For each label of ``asked`` (N,) a random row of ``labels`` (M,) that has it, none twice.

    Raises ValueError if a label is asked for more often than it occurs.
    """
    order = torch.randperm(len(labels), generator=generator)
    rows = torch.empty_like(asked)
    for label in asked.unique():
        places, having = (asked == label).nonzero()[:, 0], order[labels[order] == label]
        if len(having) < len(places):
            raise ValueError(f"{len(places)} images of class {label} are asked for, but the data has {len(having)}.")
        rows[places] = having[: len(places)]
    return rows


def judge_points(points: Callable[[int, Generator], Tensor]) -> Judge:
    """Sliced Wasserstein and energy distance to as many held-out points, averaged over a few held-out sets.

    The floor puts fresh points in the samples' place.
    """

    def draws(count: int, seed: int, part: int) -> list[Tensor]:
        return [points(count, seeded(seed, draw, part)) for draw in range(FLOOR_DRAWS)]

    @cache
    def floors(count: int, seed: int) -> tuple[float, float]:
        return _mean_distances(draws(count, seed, _FRESH), draws(count, seed, _REFERENCE), seed)

    def judge(samples: Tensor, labels: Tensor, seed: int) -> dict[str, Any]:
        count = len(samples)
        sliced, energy = _mean_distances([samples] * FLOOR_DRAWS, draws(count, seed, _REFERENCE), seed)
        sliced_floor, energy_floor = floors(count, seed)
        return {
            "sliced_wasserstein": sliced,
            "sliced_wasserstein_floor": sliced_floor,
            "energy": energy,
            "energy_floor": energy_floor,
        }

    return judge


def _mean_distances(left: list[Tensor], right: list[Tensor], seed: int) -> tuple[float, float]:
    """Sliced Wasserstein and energy distance, averaged over pairs of sets."""
    sliced = [sliced_wasserstein(a, b, seeded(seed, 0, _DIRECTIONS)) for a, b in zip(left, right)]
    energy = [energy_distance(a, b) for a, b in zip(left, right)]
    return sum(sliced) / len(sliced), sum(energy) / len(energy)
