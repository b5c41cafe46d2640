"""Quality measures against held-out data: distances between sets, the settings that are judged, and their judges.

A distance between two finite sets is above 0 even if one distribution made both. So each result stands beside its
*floor*: the same distance for as many real samples. A result at its floor is as good as the measure can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import Event

import torch
from torch import Generator, Tensor

from ddpm import machine, streams
from ddpm.data import Images, to_uint8
from ddpm.denoiser import denoiser
from ddpm.distances import coverage, energy_distance, frechet, neighbour_distances, sliced_wasserstein
from ddpm.evaluation.classifier import classified
from ddpm.networks import Classifier
from ddpm.process import Network, add_noise, noise_from_x0, seeded
from ddpm.sampling import SAMPLERS, follow, generators, normal
from ddpm.schedule import SCHEDULES, Cosine, grid
from ddpm.toys import Toy

FLOOR_DRAWS = 5
"""Fresh sets over which a floor is averaged: a single one is as uncertain as the result beside it."""

PAIRED = 5000
"""Samples that are enough for precision and recall, which depend on the number of samples: it should be the same."""

# --- samples --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """One way to sample a network, and by how many ``samples`` it is judged."""

    steps: int
    schedule: str = "cosine"
    sampler: str = "ddim"
    eta: float = 0.0
    guidance: float = 0.0
    samples: int = 1000

    def __str__(self) -> str:
        return f"T={self.steps}, {self.schedule}, {self.sampler}, eta={self.eta:g}, w={self.guidance:g}"


EXTENTS = ("standard", "quick", "full", "marks", "frontier", "few")
"""``standard`` spends samples where they tell most, ``full`` spends all on every row but images' T = 1000, ``quick`` checks. Of
images alone: ``marks`` are the two rows that tell most, ``frontier`` is quality against the number of steps, and ``few`` are the steps
of a student."""

FRONTIER_STEPS = (5, 10, 25, 50, 100, 250, 1000)
FRONTIER = (Setting(0), Setting(0, eta=1.0), Setting(0, sampler="dpm-solver++"))
"""The samplers that the frontier compares: DDIM, DDPM and DPM-Solver++(2M)."""


def image_settings(samples: int, extent: str = "standard") -> list[Setting]:
    """The rows of an image network's table: steps, samplers, every schedule, guidance; or those of the frontier."""
    if extent == "frontier":
        counts = {steps: min(samples, max(100, 50_000 // steps)) for steps in FRONTIER_STEPS}
        return [replace(way, steps=steps, samples=counts[steps]) for way in FRONTIER for steps in FRONTIER_STEPS]
    if extent == "few":
        return _with_samples([Setting(steps, "polynomial", eta=1.0) for steps in (1, 2, 4)], samples)
    if extent == "marks":
        return _with_samples([Setting(25), Setting(250, eta=1.0)], samples)
    main = [Setting(50), Setting(50, guidance=0.2), Setting(10, sampler="dpm-solver++")]
    others = [Setting(steps) for steps in (5, 10, 25)] + [Setting(50, eta=1.0)]
    others += [Setting(25, sampler="dpm-solver++"), Setting(10, sampler="heun")]
    others += [Setting(25, schedule=name) for name in SCHEDULES if name != "cosine"]
    others += [Setting(25, guidance=guidance) for guidance in (1.0, 3.0)]
    if extent == "quick":
        return _with_samples([main[-1], *others[:2]], min(samples, 200))
    rows = _with_samples(main, samples) + _with_samples(others, samples if extent == "full" else min(samples, 400))
    return rows + _with_samples([Setting(1000)], min(samples, 100))


def toy_settings(samples: int, extent: str = "standard") -> list[Setting]:
    """The rows of a toy network's table: steps, and two schedules that a few steps suit less.

    Raises ValueError for the marks and the frontier, which are of images.
    """
    if extent not in EXTENTS[:3]:
        raise ValueError(f"The settings are {extent}; toys have the settings {', '.join(EXTENTS[:3])}.")
    main = [Setting(10, eta=1.0), Setting(50, eta=1.0), Setting(10, "polynomial"), Setting(10, "constant", eta=1.0)]
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


def generate(
    network: Network, setting: Setting, seed: int, batch: int = 50, watch: Callable[[int], None] = lambda count: None
) -> tuple[Tensor, Tensor]:
    """``setting.samples`` clean samples (N, *D) and their labels (N,); ``watch`` is told of every step of a batch.

    Sample i has the label i modulo the number of classes and the generator (seed, i), whatever the batch. As many
    batches as torch has threads run side by side, with a thread each: so the numbers do not depend on the threads.
    x̂0 is limited to [−1, 1] for images.
    """
    shape, levels = network.config.shape, grid(SCHEDULES[setting.schedule](), setting.steps)
    labels, stopped = balanced_labels(setting.samples, network.config.num_classes), Event()

    @torch.inference_mode()
    def run(rows: Tensor) -> Tensor:
        own = generators(seed, rows.tolist())
        denoise = denoiser(network, labels[rows], setting.guidance, clip=len(shape) == 3)
        for step in follow(SAMPLERS[setting.sampler](levels, normal(shape, own), setting.eta, own), denoise):
            if stopped.is_set():
                break
            if step.index:
                watch(len(rows))
        return step.x

    with ThreadPoolExecutor(machine.threads(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            return torch.cat(list(pool.map(run, torch.arange(setting.samples).split(batch)))), labels
        finally:
            stopped.set()


# --- judges: (samples, labels, seed) -> measures --------------------------------------------------------------------


@dataclass(frozen=True)
class ImageMeasures:
    """How good samples are, in a classifier's features; ``real`` and ``floor`` are for training images in their place.

    ``agreement`` and ``agreement_by_class`` are shares of samples in which the classifier finds the label asked for;
    ``frechet`` is the squared Fréchet distance to the test set, ``frechet_floor_std`` how much its floor scatters;
    ``nearest_ratio`` is the median distance to the nearest training image over that of test images, and
    ``nearest_share`` the share of samples nearer to one than 99 % of the test images: for fresh images they are 1 and
    1 %, for copies 0 and 100 %. ``fid`` is the distance to the training set in Inception's features.
    """

    agreement: float
    agreement_by_class: list[float]
    frechet: float
    frechet_floor: float
    frechet_floor_std: float
    precision: float
    precision_real: float
    recall: float
    recall_real: float
    nearest_ratio: float
    nearest_share: float
    fid: float | None = None


@dataclass(frozen=True)
class PointMeasures:
    """Distances to held-out points, each with its floor."""

    sliced_wasserstein: float
    sliced_wasserstein_floor: float
    energy: float
    energy_floor: float


Judge = Callable[[Tensor, Tensor, int], ImageMeasures | PointMeasures]


def agreement(found: Tensor, asked: Tensor) -> float:
    """The share of samples in which the classifier found the label that was asked for; both (N,)."""
    return (found == asked).double().mean().item()


def judge_images(
    classifier: Classifier, train: Images, test: Images, inception: Callable[[Tensor], Tensor] | None = None
) -> Judge:
    """Label agreement, and how the samples lie among the real images in the features of ``classifier``.

    The reference values put training images of the same labels in the samples' place. Precision and recall compare
    as many samples as test images of their labels: ``PAIRED``, or as many as there are. ``inception`` gives the
    features for the standard FID.
    """

    @cache
    def real() -> tuple[Tensor, Tensor]:
        return classified(classifier, train.images)[0], classified(classifier, test.images)[0]

    @cache
    def usual_distances() -> Tensor:
        seen, unseen = real()
        return neighbour_distances(unseen, seen)

    @cache
    def of_train(features: Callable[[Tensor], Tensor]) -> Tensor:
        return features(train.images)

    @cache
    def references(labels: tuple[int, ...], seed: int) -> tuple[Tensor, dict[str, float]]:
        """The test features that precision and recall refer to, and the measures of training images."""
        (seen, unseen), asked = real(), torch.tensor(labels)
        rows = [rows_of_labels(train.labels, asked, seeded(seed, k, streams.FLOOR)) for k in range(FLOOR_DRAWS)]
        floors = torch.tensor([frechet(seen[draw], unseen) for draw in rows])
        paired = min(len(asked), PAIRED, len(test.names) * int(test.labels.bincount().min()))
        near = unseen[rows_of_labels(test.labels, asked[:paired], seeded(seed, 0, streams.REAL))]
        other = seen[rows[0][:paired]]
        return near, {
            "frechet_floor": floors.mean().item(),
            "frechet_floor_std": floors.std().item(),
            "precision_real": coverage(other, near),
            "recall_real": coverage(near, other),
        }

    def judge(samples: Tensor, labels: Tensor, seed: int) -> ImageMeasures:
        features, found = classified(classifier, samples)
        near, reference = references(tuple(labels.tolist()), seed)
        distances, usual = neighbour_distances(features, real()[0]), usual_distances()
        return ImageMeasures(
            agreement=agreement(found, labels),
            agreement_by_class=[agreement(found[labels == k], labels[labels == k]) for k in range(len(test.names))],
            frechet=frechet(features, real()[1]),
            precision=coverage(features[: len(near)], near),
            recall=coverage(near, features[: len(near)]),
            nearest_ratio=(distances.median() / usual.median()).item(),
            nearest_share=(distances < usual.quantile(0.01)).double().mean().item(),
            fid=frechet(inception(to_uint8(samples)), of_train(inception)) if inception else None,
            **reference,
        )

    return judge


def inception_features(weights: Path, watch: Callable[[int], None]) -> Callable[[Tensor], Tensor]:
    """Features (N, 2048) of uint8 images (N, C, H, W) for the standard FID (Heusel et al. 2017), by torch-fidelity.

    ``weights`` is the file that torch-fidelity publishes; ``watch`` is told how many images each batch had.
    Raises ValueError if the package is missing, FileNotFoundError if the file is.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ValueError("--inception needs the package torch-fidelity; pip install torch-fidelity.") from error
    if not weights.is_file():
        raise FileNotFoundError(f"There is no file {weights}; --inception names the weights of torch-fidelity.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(weights)).to(device)

    @torch.inference_mode()
    def features(images: Tensor) -> Tensor:
        parts = []
        for part in images.split(50):
            parts.append(network(part.expand(-1, 3, -1, -1).to(device))[0].cpu())
            watch(len(part))
        return torch.cat(parts)

    return features


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
        return _mean_distances(draws(count, seed, streams.FRESH), draws(count, seed, streams.REFERENCE), seed)

    def judge(samples: Tensor, labels: Tensor, seed: int) -> PointMeasures:
        count = len(samples)
        sliced, energy = _mean_distances([samples] * FLOOR_DRAWS, draws(count, seed, streams.REFERENCE), seed)
        sliced_floor, energy_floor = floors(count, seed)
        return PointMeasures(sliced, sliced_floor, energy, energy_floor)

    return judge


def _mean_distances(left: list[Tensor], right: list[Tensor], seed: int) -> tuple[float, float]:
    """Sliced Wasserstein and energy distance, averaged over pairs of sets."""
    sliced = [sliced_wasserstein(a, b, seeded(seed, 0, streams.DIRECTIONS)) for a, b in zip(left, right)]
    energy = [energy_distance(a, b) for a, b in zip(left, right)]
    return sum(sliced) / len(sliced), sum(energy) / len(energy)


# --- the learned field against the exact one ------------------------------------------------------------------------


@dataclass(frozen=True)
class FieldError:
    """How far a network's ε̂ is from the exact ε at times ``t`` of the cosine schedule, at log-SNR ``log_snr``.

    ``relative`` is ‖ε̂ − ε‖ / ‖ε‖ with the norms' squares averaged over q(x_t): 0 is exact, 1 is as bad as 0.
    """

    t: list[float]
    log_snr: list[float]
    relative: list[float]
    mean: float


@torch.inference_mode()
def field_error(network: Network, toy: Toy, seed: int, samples: int = 2000) -> FieldError:
    """The error at the middles of ten equal intervals of time, by ``samples`` points each, and its mean over time."""
    times = (torch.arange(10, dtype=torch.float64) + 0.5) / 10
    learned, errors = denoiser(network, torch.zeros(samples, dtype=torch.long)), []
    for k, level in enumerate(levels := Cosine().log_snr(times)):
        generator = seeded(seed, k, streams.FIELD)
        x0 = toy(samples, generator)
        x = add_noise(x0, torch.randn(x0.shape, generator=generator), level)
        found, exact = (noise_from_x0(x, denoise(x, level), level) for denoise in (learned, toy.exact))
        errors.append(((found - exact).norm() / exact.norm()).item())
    return FieldError(times.tolist(), levels.tolist(), errors, sum(errors) / len(errors))
