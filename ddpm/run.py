"""A run as one frozen value: validated, to and from a link's query, JSON and the command line, and carried out."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import nn

from ddpm import sampling
from ddpm.denoiser import denoiser
from ddpm.sampling import SAMPLERS, Step, normal
from ddpm.schedule import SCHEDULES, grid

MODELS: dict[str, tuple[str, ...]] = {
    "mnist": tuple("0123456789"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
"""The image models that the app offers, with their classes."""

EACH, ANY = "each", "any"
"""Labels beside the classes: one class after the other, and no label at all."""


@dataclass(frozen=True)
class Choice:
    """A setting that is one of ``options``."""

    options: tuple[str, ...]

    def problem(self, value: object) -> str | None:
        return None if value in self.options else f"must be one of {', '.join(self.options)}"

    def nearest(self, text: str) -> str | None:
        close = difflib.get_close_matches(text.strip().lower(), self.options, n=1)
        return close[0] if close else None


@dataclass(frozen=True)
class Number:
    """A setting between ``low`` and ``high``, a whole number if ``whole``."""

    low: float
    high: float
    whole: bool = False

    def problem(self, value: object) -> str | None:
        kind = int if self.whole else (int, float)
        if isinstance(value, kind) and not isinstance(value, bool) and self.low <= value <= self.high:
            return None
        return f"must be a {'whole ' if self.whole else ''}number from {self.low:g} to {self.high:.10g}"

    def nearest(self, text: str) -> float | int | None:
        try:
            value = float(text)
        except ValueError:
            return None
        if math.isnan(value):
            return None
        value = min(max(value, self.low), self.high)
        return round(value) if self.whole else value


Setting = Choice | Number

_MODEL = Choice(tuple(MODELS))
_COMMON: dict[str, Setting] = {
    "count": Number(1, 25, whole=True),
    "steps": Number(1, 1000, whole=True),
    "schedule": Choice(tuple(SCHEDULES)),
    "sampler": Choice(tuple(SAMPLERS)),
    "eta": Number(0, 1),
    "guidance": Number(0, 8),
    "seed": Number(0, 2**31 - 1, whole=True),
}


def settings(model: str) -> dict[str, Setting]:
    """What each setting of a run of ``model`` may be. Raises KeyError for a model that is not offered."""
    return {"model": _MODEL, "label": Choice((EACH, ANY, *MODELS[model])), **_COMMON}


@dataclass(frozen=True)
class Run:
    """Every setting of a run: the same value gives the same images on the page, from a link and on the command line.

    ``label`` is a class name, "each" (one class after the other) or "any" (no label). Sample i of a run depends on
    (``seed``, i) and its label alone. Raises ValueError, in one sentence, for a setting that is not allowed.
    """

    model: str = "mnist"
    label: str = EACH
    count: int = 10
    steps: int = 50
    schedule: str = "cosine"
    sampler: str = "ddim"
    eta: float = 0.0
    guidance: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        model = Run.model if _MODEL.problem(self.model) else self.model
        for name, setting in settings(model).items():
            value = getattr(self, name)
            if problem := setting.problem(value):
                raise ValueError(f"The {name} is {value!r}; it {problem}.")

    @property
    def labels(self) -> tuple[int, ...]:
        """The class index of each sample; the number of classes stands for "no label"."""
        classes = MODELS[self.model]
        if self.label == EACH:
            return tuple(i % len(classes) for i in range(self.count))
        return (len(classes) if self.label == ANY else classes.index(self.label),) * self.count

    def query(self) -> dict[str, str]:
        """The settings as a link's query: every one, as text."""
        return {name: str(value).removesuffix(".0") for name, value in asdict(self).items()}

    def json(self) -> str:
        """The settings as a JSON object."""
        return json.dumps(asdict(self), indent=2)


def from_json(text: str) -> Run:
    """The run that ``Run.json`` wrote. Raises ValueError for anything else."""
    given = json.loads(text)
    if not isinstance(given, dict):
        raise ValueError(f"A run's JSON must be an object, not {type(given).__name__}.")
    known = [field.name for field in fields(Run)]
    if unknown := sorted(given.keys() - set(known)):
        raise ValueError(f"The run has the unknown setting {unknown[0]!r}; known are {', '.join(known)}.")
    return Run(**given)


def from_query(query: Mapping[str, Any], model: str = "mnist") -> tuple[Run, list[str]]:
    """The run that a link asks for, and one sentence for each value that had to be corrected to an allowed one.

    ``model`` is the one meant where the link names none. Keys that are no setting are ignored: links carry others
    (Gradio's ``__theme``, for one).
    """
    values, corrections = {}, []
    defaults = {field.name: field.default for field in fields(Run)} | {"model": model}
    model = _MODEL.nearest(str(query.get("model", model))) or model
    for name, setting in settings(model).items():
        if name not in query:
            continue
        text = str(query[name])
        nearest = setting.nearest(text)
        value = defaults[name] if nearest is None else nearest
        values[name] = value
        if setting.nearest(text) is None or _differs(text, value):
            corrections.append(f"{name} = {text[:40] or 'nothing'}: it {setting.problem(text)}, so {value} is used.")
    return Run(**{"model": model, **values}), corrections


def _differs(text: str, value: object) -> bool:
    return float(text) != value if isinstance(value, (int, float)) else text != value


def perform(run: Run, network: nn.Module) -> Iterator[Step]:
    """The T + 1 states of ``run`` on ``network``, each with x and x0 of shape (count, *D)."""
    generators = sampling.generators(run.seed, range(run.count))
    noise = normal(network.config.shape, generators)
    denoise = denoiser(network, torch.tensor(run.labels), run.guidance, clip=True)
    log_snrs = grid(SCHEDULES[run.schedule](), run.steps)
    return SAMPLERS[run.sampler](denoise, log_snrs, noise, run.eta, generators)


def shown(steps: int, most: int = 100) -> frozenset[int]:
    """The step indices T … 0 worth showing: at most ``most``, evenly spaced, the first and the last among them."""
    count = min(steps + 1, most)
    return frozenset(round(i * steps / max(count - 1, 1)) for i in range(count))
