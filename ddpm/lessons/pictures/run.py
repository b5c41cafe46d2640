"""A run of the image models as one frozen value, and how it is carried out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ddpm.denoiser import Guided
from ddpm.lessons.models import MODELS, STUDENTS
from ddpm.lessons.words import SAMPLER_NAMES, STEPS_INFO
from ddpm.networks import UNetConfig
from ddpm.process import Network
from ddpm.sampling import SAMPLERS, Path, Step, follow, generators, normal
from ddpm.schedule import grid
from ddpm.settings import SEED, STEPS, Choice, Number, Scheduled, Setting, scheduled, setting

_MODEL = Choice(tuple(MODELS))

FEW = "few-steps"
"""The sampler that asks a student, with DDPM's steps."""

EACH, ANY = "each", "any"
"""Labels beside the classes: one class after the other, and no label at all."""


@dataclass(frozen=True)
class Run(Scheduled):
    """Every setting of a run: the same value gives the same images on the page, from a link and on the command line.

    ``label`` is a class name, "each" (one class after the other) or "any" (no label). s, p, reach, c and table belong to
    a schedule each. Sample i of a run depends on (``seed``, i) and its label alone. Raises ValueError, in one sentence, for a setting that is not allowed.
    """

    model: str = setting("mnist", _MODEL)
    label: str = setting(EACH, Choice((EACH, ANY)), "Label", look="own")
    count: int = setting(10, Number(1, 25, whole=True), "How many", "Pictures computed side by side.")
    steps: int = setting(50, STEPS, "Steps T", STEPS_INFO)
    schedule: str = scheduled("cosine")
    sampler: str = setting(
        "ddim",
        Choice((*SAMPLERS, FEW)),
        "Sampler",
        "How a step is taken: with or without new noise, to first or second order.",
        names=SAMPLER_NAMES,
    )
    eta: float = setting(
        0.0, Number(0, 1), "Noise added on the way, η", "0: none (DDIM). 1: as much as DDPM adds.", step=0.05
    )
    guidance: float = setting(
        0.0,
        Number(0, 8),
        "Guidance w",
        "0: the network as it is. 0.2: fewer wrong ones. More: exaggerates what was asked for.",
        step=0.1,
    )
    seed: int = setting(0, SEED, "Seed", "The noise begun with: the same seed gives the same pictures.", look="number")

    @classmethod
    def allowed(cls, given: Mapping[str, Any]) -> dict[str, Setting]:
        model = _MODEL.nearest(str(given.get("model"))) or cls.model
        samplers = Choice((*SAMPLERS, FEW) if model in STUDENTS else tuple(SAMPLERS))
        return {**super().allowed(given), "label": Choice((EACH, ANY, *MODELS[model])), "sampler": samplers}

    @property
    def network(self) -> str:
        """The name of the network that is asked."""
        return STUDENTS[self.model] if self.sampler == FEW else self.model

    @property
    def method(self) -> tuple[str, float, float]:
        """The sampler by which the run is carried out, its η, and the guidance: a student has its own built in."""
        return ("ddim", 1.0, 0.0) if self.sampler == FEW else (self.sampler, self.eta, self.guidance)

    @property
    def rows_each(self) -> int:
        """How many times the network is asked about each picture."""
        asks = 2 * self.steps - 1 if self.sampler == "heun" else self.steps
        return asks * (2 if self.method[2] and self.label != ANY else 1)

    @property
    def labels(self) -> tuple[int, ...]:
        """The class index of each sample; the number of classes stands for "no label"."""
        classes = MODELS[self.model]
        if self.label == EACH:
            return tuple(i % len(classes) for i in range(self.count))
        return (len(classes) if self.label == ANY else classes.index(self.label),) * self.count


FIRST = {"": Run(), "colour": Run("cifar10", steps=25, guidance=1.0)}
"""The run of a page whose link says no more, by the page's path."""


def begin(run: Run, config: UNetConfig) -> tuple[Path, Guided]:
    """The sampler of ``run`` and who answers it with a network of ``config``."""
    own = generators(run.seed, range(run.count))
    noise, levels = normal(config.shape, own), grid(run.curve, run.steps)
    sampler, eta, guidance = run.method
    return SAMPLERS[sampler](levels, noise, eta, own), Guided(config, torch.tensor(run.labels), guidance, clip=True)


def perform(run: Run, network: Network) -> Iterator[Step]:
    """The T + 1 states of ``run`` on ``network``, each with x and x0 of shape (count, *D)."""
    path, guided = begin(run, network.config)
    return follow(path, guided.denoiser(network))
