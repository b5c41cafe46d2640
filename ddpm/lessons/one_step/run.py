"""The lesson on few steps as one frozen value: the network and its student, from the same noise."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ddpm.denoiser import Guided
from ddpm.lessons.models import MODELS, STUDENTS
from ddpm.process import Network
from ddpm.sampling import ddim, generators, normal
from ddpm.schedule import Cosine, Polynomial, Schedule, grid
from ddpm.serving.engine import Forward, Work
from ddpm.settings import SEED, Choice, Settings, setting

MODEL, EACH, PICTURES = "mnist", "each", 10


class Way(NamedTuple):
    """A network, and how it is asked: T, the schedule, η and guidance w."""

    network: str
    steps: int
    schedule: Schedule
    eta: float
    guidance: float


WAYS = (
    Way(MODEL, 1, Cosine(), 0.0, 0.0),
    *(Way(STUDENTS[MODEL], steps, Polynomial(), 1.0, 0.0) for steps in (1, 2, 4)),
    Way(MODEL, 50, Cosine(), 0.0, 0.2),
)
"""The rows of the page. The student has the guidance of the last one built in."""


@dataclass(frozen=True)
class OneStep(Settings):
    """Every setting of the lesson: the same value gives the same pictures."""

    label: str = setting(
        EACH, Choice((EACH, *MODELS[MODEL])), "Digit", "Which digit they are asked for.", names={EACH: "one of each"}
    )
    seed: int = setting(
        0,
        SEED,
        "Seed",
        "The noise that all of them begin with: the same seed gives the same. Press Enter.",
        look="number",
    )

    @property
    def labels(self) -> tuple[int, ...]:
        """The digit of each picture."""
        return tuple(range(PICTURES)) if self.label == EACH else (int(self.label),) * PICTURES


class Row(NamedTuple):
    """What ``way`` draws, x (10, C, H, W), and the seconds that it took."""

    way: Way
    x: np.ndarray
    seconds: float


@torch.no_grad()
def draw(asked: OneStep, networks: Mapping[str, Network]) -> Work:
    """The job of the lesson: a row for each of WAYS, from the same noise."""
    for way in WAYS:
        begun, network, own = time.monotonic(), networks[way.network], generators(asked.seed, range(PICTURES))
        path = ddim(grid(way.schedule, way.steps), normal(network.config.shape, own), way.eta, own)
        guided = Guided(network.config, torch.tensor(asked.labels), way.guidance, clip=True)
        query = next(path)
        while query.index:
            output = yield Forward(network, *guided.rows(query.x, query.log_snr))
            query = path.send(guided.x0(query.x, query.log_snr, output))
        yield Row(way, query.x.numpy(), time.monotonic() - begun)
