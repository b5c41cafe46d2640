"""Training a small network while somebody watches: its settings, the job, the visitor's budget, the file it leaves as."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from ddpm import streams
from ddpm.lessons.models import NETWORKS
from ddpm.lessons.points import DATA_NAMES, DRAWN, FIELD, PointData, distances, draw, known, sketch, source
from ddpm.lessons.trained import LEVELS, Trained, field
from ddpm.networks import MLP, MLPConfig
from ddpm.process import FROM_X0, Prediction, loss, seeded
from ddpm.sampling import as_one, sample
from ddpm.scaling import SCALINGS, Scaling
from ddpm.schedule import Cosine, grid
from ddpm.serving.engine import Work
from ddpm.settings import Choice, Number, setting
from ddpm.training.loop import Trainer, fixed_noise, mean_loss, toy_draw
from ddpm.training.recipe import Recipe

TRAINING, AT_ONCE = "training", 2
"""The engine's name for the jobs that train, and how many of them are under way at once; who comes later waits."""

PARTICLES = 500
"""Shown of what the network generates."""

# --- the settings ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training(PointData):
    """Every setting of a training: the same value gives the same network.

    ``shown_steps`` is T of the runs that show what the network has learned so far. Raises ValueError, in one sentence,
    for a setting that is not allowed, and for drawn data without a point.
    """

    data: str = setting(
        "moons", Choice((*NETWORKS, DRAWN)), "Data", "The shape that the network is to learn.", names=DATA_NAMES
    )
    prediction: Prediction = setting(  # noqa: RUF009  # a field
        "v",
        Choice(get_args(Prediction)),
        "The network predicts",
        "What it is asked about a noisy point.",
        names={"noise": "the noise ε", "x0": "the clean point x₀", "v": "v = α ε − σ x₀"},
    )
    scaling: str = setting(
        "unit",
        Choice(tuple(SCALINGS)),
        "Scale the data",
        "What the network sees of its size and place.",
        names={
            "unit": "to [−1, 1]",
            "standard": "to mean 0 and variance 1",
            "small": "to [−0.1, 0.1]: ten times too small",
            "none": "not at all",
        },
    )
    batches: int = setting(
        1000,
        Number(100, 5000, whole=True),
        "Batches",
        "Of 256 points each; the learning rate falls over the last 30 %.",
        step=100,
    )
    shown_steps: int = setting(
        20, Number(1, 100, whole=True), "Steps T of the pictures", "Of the runs that show what it has learned."
    )

    @property
    def plane(self) -> PointData:
        """The data."""
        return self.alone

    @property
    def seen(self) -> Tensor:
        """The points (2000, 2) that the scaling is fitted to."""
        return draw(self.plane, 2000, streams.FIT)

    @property
    def scale(self) -> Scaling:
        """The scaling of its data."""
        return SCALINGS[self.scaling](self.seen)

    @property
    def recipe(self) -> Recipe:
        """How the network is trained."""
        return Recipe(self.batches, 256, lr=3e-3, warmup=50, ema=0.995, label_dropout=0.0, density="uniform")


class Frame(NamedTuple):
    """What ``trained`` does: particles x (500, 2) that it generates and their sliced Wasserstein distance to held-out
    data, beside that of fresh data; the field's x̂0 at LEVELS and FIELD (3, 400, 2); its loss on held-out data and the
    mean ``loss`` of the batches since the last frame, if there were any.
    """

    trained: Trained
    x: np.ndarray
    fields: np.ndarray
    distance: float
    floor: float
    held_out: float
    loss: float | None = None


@torch.no_grad()
def look(trained: Trained, steps: int) -> Iterator[Frame | None]:
    """Generates particles in T = ``steps`` DDIM steps of the cosine schedule, None after each, and then gives the frame.

    The run is the network's own: it begins with standard noise in the scaled coordinates, and its end is scaled back.
    """
    noise = torch.randn(1, PARTICLES, 2, generator=seeded(2))
    run = sample(as_one(trained.denoise), grid(Cosine(), steps), noise, eta=0)
    for step in run:
        z = step.x[0]
        yield None
    x = trained.scaling.back(z)
    distance, floor = distances(trained.plane, PARTICLES)
    yield Frame(trained, x.numpy(), field(trained).numpy(), distance(x), floor, held_out_loss(trained))


def exact_field(plane: PointData) -> Tensor:
    """x̂0 of the exact denoiser at LEVELS and FIELD, (3, 400, 2)."""
    denoise, _ = known(plane)
    return torch.stack([denoise(FIELD, level) for level in LEVELS])


def held_out(plane: PointData, scaling: Scaling) -> Tensor:
    """Points (500, 2) that no training has drawn, in the network's coordinates."""
    return scaling.into(draw(plane, 500, streams.UNSEEN))


def held_out_loss(trained: Trained) -> float:
    """The network's loss on held-out data."""
    points = held_out(trained.plane, trained.scaling)
    return mean_loss(trained.network, points, torch.zeros(len(points), dtype=torch.long), Training().recipe)


def exact_loss(plane: PointData, scaling: Scaling, prediction: Prediction) -> float:
    """The loss of the exact denoiser on the same data and noise: about what no network comes below."""
    points = held_out(plane, scaling)
    exact, _ = known(plane)
    denoise = scaling.inverse.around(exact)

    def network(x: Tensor, log_snr: Tensor, label: Tensor) -> Tensor:
        return FROM_X0[prediction](x, denoise(x, log_snr), log_snr)

    noise, log_snr = fixed_noise(points, Training().recipe)
    return loss(network, prediction, points, noise, log_snr, torch.zeros(len(points))).mean().item()


# --- training -------------------------------------------------------------------------------------------------------


def shown_batches(batches: int) -> frozenset[int]:
    """The at most 40 batches after which a frame is worth showing: closer at the start, where the network learns most."""
    return frozenset(max(1, round(batches * (k / 40) ** 2)) for k in range(1, 41))


class Apprentice:
    """A network in training, which can be left after any step and gone on with."""

    def __init__(self, training: Training):
        self.training, self.scaling, points = training, training.scale, source(training.plane)
        spread = float(self.scaling.into(training.seen).square().mean().sqrt())
        config = MLPConfig((2,), scale=max(spread, 0.05), width=64, prediction=training.prediction)
        with torch.random.fork_rng():
            torch.manual_seed(training.recipe.seed)
            self.trainer = Trainer(MLP(config), training.recipe)
        self.draw = toy_draw(lambda count, generator: self.scaling.into(points(count, generator)), training.recipe)

    def learn(self) -> Iterator[Frame | None]:
        """The job: goes on to the last batch; a frame after each batch worth one, and None for every other step."""
        worth_showing, losses = shown_batches(self.training.batches), []
        for step, value in self.trainer.run(self.draw):
            losses.append(value)
            yield None
            if step in worth_showing:
                for frame in look(self.trained(), self.training.shown_steps):
                    yield frame and frame._replace(loss=float(torch.stack(losses).mean()))
                losses.clear()

    @property
    def finished(self) -> bool:
        """Whether the last batch is behind it."""
        return self.trainer.step >= self.training.batches

    def trained(self) -> Trained:
        """The network as it is now, with averaged weights."""
        network = self.trainer.averaged().requires_grad_(False)
        return Trained(network, self.scaling, self.training.plane, self.trainer.step)


# --- what the page opens with -----------------------------------------------------------------------------------------


class Opening(NamedTuple):
    """Points of the data (N, 2), the exact field at LEVELS and FIELD (3, 400, 2), and the exact denoiser's loss."""

    data: np.ndarray
    exact: np.ndarray
    least: float


def opened(
    training: Training,
    steps: Iterator[Frame | None],
    note: Callable[[], str | None] = lambda: None,
    scaling: Scaling | None = None,
) -> Work:
    """The job of the page: what it opens with, then the ``steps``, and last a ``note`` if there is one.

    Of a network that was not trained here its ``scaling`` is given.
    """
    plane = training.plane
    data, exact = sketch(plane).numpy(), exact_field(plane).numpy()
    yield None
    yield Opening(data, exact, exact_loss(plane, scaling or training.scale, training.prediction))
    yield from steps
    yield note()


def untrained(training: Training) -> Iterator[Frame | None]:
    """What a network makes that has learned nothing yet."""
    yield from look(Apprentice(training).trained(), training.shown_steps)
