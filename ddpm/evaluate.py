"""Quality measures against held-out data: distances between sets, a judge for digits, and the tables of results.

A distance between two finite sets is above 0 even if one distribution made both. So each result stands beside its
*floor*: the same distance for as many real samples. A result at its floor is as good as the measure can tell.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from ddpm.checkpoint import write_beside
from ddpm.data import Images, to_unit
from ddpm.denoiser import denoiser
from ddpm.networks import Classifier, ClassifierConfig
from ddpm.process import seeded
from ddpm.sampling import Step, generators, normal, sample
from ddpm.schedule import SCHEDULES, grid

Row = dict[str, Any]
"""A setting, what it was measured with, and the measures."""

FLOOR_DRAWS = 5
"""Fresh sets over which a floor is averaged: a single one is as uncertain as the result beside it."""

_ORDER, _MOVES, _REFERENCE, _FRESH, _DIRECTIONS, _FLOOR = 1, 2, 11, 12, 13, 14
"""Third parts of generator keys (seed, index, part). From 11 on they are apart from those that training draws with."""


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


# --- the classifier that judges images ------------------------------------------------------------------------------


class ClassifierProgress(NamedTuple):
    """After ``step`` of ``steps``: the classifier in training, and the mean loss of the batch just seen."""

    step: int
    steps: int
    loss: float
    classifier: Classifier


def moved(images: Tensor, generator: Generator, turn: float = 12, shift: float = 2.5, zoom: float = 0.1) -> Tensor:
    """Images (B, C, H, W) in [−1, 1], each turned, shifted and scaled at random about its centre.

    At most by ``turn`` degrees, ``shift`` pixels along each axis and a factor 1 ± ``zoom``; −1, black, comes in.
    """
    count, size = len(images), images.shape[-1]
    around = 2 * torch.rand(count, 4, generator=generator) - 1
    angle, factor = around[:, 0] * math.radians(turn), 1 + around[:, 1] * zoom
    offset = around[:, 2:] * 2 * shift / size
    cos, sin = angle.cos() / factor, angle.sin() / factor
    places = torch.stack([cos, -sin, offset[:, 0], sin, cos, offset[:, 1]], 1).view(count, 2, 3)
    points = F.affine_grid(places, list(images.shape), align_corners=False)
    return F.grid_sample(images + 1, points, align_corners=False) - 1


def train_classifier(data: Images, epochs: int = 15, batch: int = 250, seed: int = 0) -> Iterator[ClassifierProgress]:
    """Trains a classifier on ``data``, yielding after each step; the last one's classifier is in evaluation mode.

    AdamW along one cycle (Smith & Topin 2019), on images moved at random, in bfloat16. Everything random comes from
    ``seed``, so the same machine makes the same weights.
    """
    count = len(data.images)
    steps = epochs * (count // batch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(ClassifierConfig(tuple(data.images.shape[1:]), len(data.names)))
    classifier.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.05)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps, pct_start=0.2)
    for step in range(1, steps + 1):
        epoch, place = divmod(step - 1, count // batch)
        rows = torch.randperm(count, generator=seeded(seed, epoch, _ORDER))[place * batch : (place + 1) * batch]
        images = moved(to_unit(data.images[rows]), seeded(seed, step, _MOVES))
        loss = _classifier_step(classifier, optimizer, images, data.labels[rows])
        cycle.step()
        yield ClassifierProgress(step, steps, loss, classifier.train(step < steps))


def _classifier_step(classifier: Classifier, optimizer: torch.optim.Optimizer, x: Tensor, label: Tensor) -> float:
    with torch.autocast("cpu", torch.bfloat16):
        logits = classifier(x.contiguous(memory_format=torch.channels_last))
    loss = F.cross_entropy(logits.float(), label)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.inference_mode()
def classified(classifier: Classifier, images: Tensor, batch: int = 500) -> tuple[Tensor, Tensor]:
    """Features (N, F) and the most likely classes (N,) of images (N, C, H, W) in [−1, 1] or uint8."""
    features, classes = [], []
    for part in images.split(batch):
        x = to_unit(part) if part.dtype == torch.uint8 else part
        found = classifier.features(x.contiguous(memory_format=torch.channels_last))
        features.append(found)
        classes.append(classifier.leave(found).argmax(1))
    return torch.cat(features), torch.cat(classes)


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

    def judge(samples: Tensor, labels: Tensor, seed: int) -> dict[str, Any]:
        features, found = classified(classifier, samples)
        floors = []
        for draw in range(FLOOR_DRAWS):
            rows = rows_of_labels(train.labels, labels, seeded(seed, draw, _FLOOR))
            floors.append(frechet(classified(classifier, train.images[rows])[0], real))
        return {
            "agreement": agreement(found, labels),
            "agreement_by_class": [agreement(found[labels == k], labels[labels == k]) for k in range(len(test.names))],
            "frechet": frechet(features, real),
            "frechet_floor": sum(floors) / FLOOR_DRAWS,
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


# --- reports: the JSON beside a checkpoint --------------------------------------------------------------------------


def digest(path: Path) -> str:
    """The SHA-256 of a file, which tells the weights that a row was measured with."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_rows(path: Path) -> list[Row]:
    """The rows of a report; none if there is no file. Raises ValueError if it is no report."""
    if not path.is_file():
        return []
    needed = {*Setting.__dataclass_fields__, "seed", "made_with"}
    try:
        rows = json.loads(path.read_text("utf-8"))["rows"]
        complete = all(needed <= row.keys() for row in rows)
    except (ValueError, KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        raise ValueError(f"{path} is not a report of this program; move it away to start anew.")
    return rows


def write_report(path: Path, about: Mapping[str, Any], rows: list[Row]) -> None:
    """Writes a report, whole at every moment: an interrupted evaluation keeps the rows that it has."""
    write_beside(path, (json.dumps({**about, "rows": rows}, indent=1, ensure_ascii=False) + "\n").encode())


def is_measured(setting: Setting, seed: int, made_with: Mapping[str, str], rows: list[Row]) -> bool:
    """Whether ``rows`` hold ``setting`` for this seed and these weights, by at least as many samples."""
    same = {**asdict(setting), "seed": seed, "made_with": dict(made_with)}
    samples = same.pop("samples")
    return any(row["samples"] >= samples and same == {key: row[key] for key in same} for row in rows)


def merged(rows: list[Row], new: Row) -> list[Row]:
    """``rows`` with ``new`` in place of its setting's row, in the table's order; rows of other weights are dropped."""
    kept = [row for row in rows if row["made_with"] == new["made_with"] and _place(row) != _place(new)]
    return sorted([*kept, new], key=_place)


def _place(row: Row) -> tuple[float, bool, str, float, int]:
    return row["guidance"], row["schedule"] != "cosine", row["schedule"], row["eta"], row["steps"]


# --- the tables of the README ---------------------------------------------------------------------------------------

BEGIN, END = "<!-- quality:begin -->", "<!-- quality:end -->"


def fill_readme(text: str, reports: list[dict[str, Any]]) -> str:
    """``text`` with the tables of ``reports`` between its two markers. Raises ValueError if a marker is missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"The README lacks the marker {END if begin else BEGIN}; the tables go between two such.")
    images = [report for report in reports if "accuracy" in report]
    toys = [report for report in reports if "accuracy" not in report]
    tables = [image_table(report) for report in images] + ([toy_table(toys)] if toys else [])
    return before + begin + "\n" + "\n".join(tables) + "\n" + end + after


def image_table(report: Mapping[str, Any]) -> str:
    """Markdown: one row a setting."""
    title = (
        f"**{report['data']}**, judged by a classifier that is right on {report['accuracy']:.2%} of the test set\n\n"
    )
    header = ("T", "schedule", "η", "w", "samples", "label agreement", "Fréchet distance", "its floor", "ratio")
    lines = []
    for row in report["rows"]:
        near, floor = row["frechet"], row["frechet_floor"]
        how = (row["steps"], row["schedule"], f"{row['eta']:g}", f"{row['guidance']:g}", f"{row['samples']:,}")
        lines.append((*how, f"{row['agreement']:.1%}", f"{near:.3g}", f"{floor:.3g}", f"{near / floor:.1f}"))
    return title + _markdown(header, lines)


def toy_table(reports: list[dict[str, Any]]) -> str:
    """Markdown: one row a toy, one column a setting, cells with the sliced Wasserstein distance and its ratio."""
    measured = [{_column(row): row for row in report["rows"]} for report in reports]
    columns = sorted({name: _place(row) for rows in measured for name, row in rows.items()}.items(), key=lambda c: c[1])
    lines = []
    for report, rows in zip(reports, measured):
        cells = [_cell(rows[name]) if name in rows else "" for name, _ in columns]
        lines.append((report["data"], *cells))
    title = "**Toys**, sliced 2-Wasserstein distance to held-out points (in brackets: how many times its floor)\n\n"
    return title + _markdown(("data", *(name for name, _ in columns)), lines)


def _column(row: Row) -> str:
    return f"T = {row['steps']}, {row['schedule']}, η = {row['eta']:g}"


def _cell(row: Row) -> str:
    near, floor = row["sliced_wasserstein"], row["sliced_wasserstein_floor"]
    return f"{near:.2g} ({near / floor:.1f}×)"


def _markdown(header: tuple[str, ...], lines: Iterable[tuple[Any, ...]]) -> str:
    rule = ("---",) * len(header)
    return "".join("| " + " | ".join(map(str, cells)) + " |\n" for cells in (header, rule, *lines))
