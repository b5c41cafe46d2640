"""The noising lesson as one frozen value: a picture, four ways to noise it, and what a network sees in it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm.denoiser import Guided
from ddpm.lessons.models import MODELS
from ddpm.lessons.shown import shown, strip_steps
from ddpm.lessons.words import EXAMPLE_INFO, MODEL_NAMES
from ddpm.picture import DRAWING, EXAMPLES, UPLOAD, Pixels, decode, examples, fitted
from ddpm.process import Network, add_noise, seeded
from ddpm.sampling import diffuse, normal
from ddpm.schedule import alpha, grid, sigma
from ddpm.serving.engine import Forward, Work
from ddpm.settings import SEED, STEPS, Choice, Number, Scheduled, Setting, scheduled, setting

if TYPE_CHECKING:
    from typing import Self

WAYS = ("jump", "chain", "mix", "mix-uniform")
"""From x0 to x_t: the closed form, the Markov chain, and mixing (1 − t/T) x0 + (t/T) noise, Gaussian or uniform."""

EXAMPLE, DRAWN, UPLOADED = "example", "drawn", "uploaded"

BINS, EDGE = 64, 4.0
"""Of the histogram of pixel values, from −EDGE to EDGE."""

VALUES = 50_000
"""Pixel values in the many draws that are measured: 63 draws of a digit, 16 of a colour picture."""


def _no_upload(query: Mapping[str, Any]) -> str:
    """Why an example stands in the place of an upload: a link has none, the page has none yet, a program gave a wrong one."""
    if "upload" not in query:
        return "A link does not hold an uploaded picture, so an example stands here: upload it again."
    if not query["upload"]:
        return "No picture is uploaded yet, so an example stands here: choose one with “Upload a picture”."
    return "The upload is not a picture as this page keeps it, so an example stands here: upload it again."


@dataclass(frozen=True)
class Noising(Scheduled):
    """Every setting of the noising lesson: the same value gives the same pictures.

    ``model`` is the network asked and the shape of the picture: the ``example`` of that number, the ``drawing`` or the
    ``upload``. It is noised up to step ``t`` of ``steps`` by one of the WAYS. Raises ValueError, in one sentence, for a
    setting that is not allowed, and for an uploaded picture that is missing.
    """

    model: str = setting(
        "mnist",
        Choice(tuple(MODELS)),
        "Network",
        "Which of our networks looks at the picture.",
        names=MODEL_NAMES,
        look="radio",
    )
    picture: str = setting(
        EXAMPLE,
        Choice((EXAMPLE, DRAWN, UPLOADED)),
        "Picture",
        "What is noised.",
        names={EXAMPLE: "an example", DRAWN: "drawn by you", UPLOADED: "uploaded by you"},
        look="radio",
    )
    example: int = setting(3, Number(0, EXAMPLES - 1, whole=True), "Example", EXAMPLE_INFO, look="typed")
    drawing: str = setting(
        "",
        Pixels(DRAWING, 4),
        "Drawing",
        "For the picture drawn: rows from the top, black 0 to white 15.",
        look="typed",
    )
    upload: str = setting(
        "",
        Pixels(UPLOAD, 8),
        "Upload",
        "For the picture uploaded: rows from the top, red, then green, then blue.",
        look="typed",
    )
    way: str = setting(
        "jump",
        Choice(WAYS),
        "The way to xₜ",
        "How the noise is put in.",
        names={
            "jump": "in one jump",
            "chain": "step by step",
            "mix": "mixing, Gaussian noise",
            "mix-uniform": "mixing, uniform noise",
        },
        look="radio",
    )
    t: int = setting(300, STEPS, "Step t", "1: hardly any noise. T: hardly anything else.", look="own")
    steps: int = setting(1000, STEPS, "Steps T", "From data to noise.")
    schedule: str = scheduled("linear")
    seed: int = setting(0, SEED, "Seed", "The noise drawn: the same seed gives the same. Press Enter.", look="number")

    @classmethod
    def allowed(cls, given: Mapping[str, Any]) -> Mapping[str, Setting]:
        return {
            **super().allowed(given),
            "t": Number(1, STEPS.nearest(str(given.get("steps"))) or cls.steps, whole=True),
        }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.picture == UPLOADED and not self.upload:
            raise ValueError(f"The picture is {UPLOADED!r}, but there is no upload; give one or choose {EXAMPLE!r}.")

    def query(self) -> dict[str, str]:
        """As of all settings, but without the uploaded picture: it is too large for a link, and the visitor's own."""
        return {name: text for name, text in super().query().items() if name != "upload"}

    @classmethod
    def from_query(cls, query: Mapping[str, Any]) -> tuple[Self, list[str]]:
        """As of all settings; an uploaded picture that is missing becomes an example, and one sentence says so.

        A ``t`` that is missing is the default's share of the steps.
        """
        steps = STEPS.nearest(str(query.get("steps"))) or cls.steps
        query = {"t": math.ceil(cls.t * steps / cls.steps), **query}
        allowed = cls.allowed({})
        wanted = allowed["picture"].nearest(str(query.get("picture"))) == UPLOADED
        if not wanted or allowed["upload"].nearest(str(query.get("upload", ""))):
            return super().from_query(query)
        noising, notes = super().from_query({**query, "picture": EXAMPLE})
        return noising, [*notes, _no_upload(query)]

    @property
    def x0(self) -> Tensor:
        """The picture, (C, H, W) in [−1, 1]."""
        if self.picture == EXAMPLE:
            return fitted(examples(self.model)[self.example], self.model)
        if self.picture == DRAWN:
            return fitted(decode(self.drawing, DRAWING, 4), self.model)
        x0 = fitted(decode(self.upload, UPLOAD, 8), self.model)
        return -x0 if self.inverted else x0

    @property
    def inverted(self) -> bool:
        """Whether the picture is an upload that is bright at its edge, shown inverted: MNIST is white on black."""
        if self.picture != UPLOADED or self.model != "mnist":
            return False
        pixels = decode(self.upload, UPLOAD, 8)
        return float(torch.cat([pixels[:, [0, -1]].flatten(), pixels[:, :, [0, -1]].flatten()]).median()) > 127


# --- the ways --------------------------------------------------------------------------------------------------------


def factors(noising: Noising, way: str) -> tuple[Tensor, Tensor]:
    """What x0 is multiplied by and the noise's standard deviation at t = 1 … T, each (T,) float64."""
    if way in ("jump", "chain"):
        log_snr = _levels(noising).flip(0)[1:]
        return alpha(log_snr), sigma(log_snr)
    amount = torch.arange(1, noising.steps + 1, dtype=torch.float64) / noising.steps
    return 1 - amount, amount if way == "mix" else amount / math.sqrt(3)


def noised(noising: Noising, steps: Collection[int]) -> Tensor:
    """x_t at each of ``steps``, (len(steps), C, H, W), on the way chosen with the seed's noise."""
    x0 = noising.x0[None]
    if noising.way == "chain":
        return _walk(replace(noising, t=1))[list(steps)]
    return torch.cat([_at_once(noising, noising.way, x0, t, seeded(noising.seed)) for t in steps])


@lru_cache(maxsize=4)
def _walk(noising: Noising) -> Tensor:
    """The chain's states (T + 1, *D), 12 MB at most; kept, because a visitor who moves t asks for them time and again."""
    states = diffuse(noising.x0[None], _levels(noising), [seeded(noising.seed)])
    return torch.cat([step.x for step in states])


def _at_once(noising: Noising, way: str, x0: Tensor, t: int, generator: torch.Generator) -> Tensor:
    """x_t (1, *D) from x0 (1, *D) without the steps between."""
    if way == "jump":  # Ho et al. 2020, eq. 4
        return add_noise(x0, normal(tuple(x0.shape[1:]), [generator]), _levels(noising)[noising.steps - t])
    amount = t / noising.steps
    gaussian = way == "mix"
    noise = normal(tuple(x0.shape[1:]), [generator]) if gaussian else 2 * torch.rand(x0.shape, generator=generator) - 1
    return (1 - amount) * x0 + amount * noise


def _levels(noising: Noising) -> Tensor:
    return grid(noising.curve, noising.steps)


# --- what is shown ---------------------------------------------------------------------------------------------------


class Moment(NamedTuple):
    """Step t: x_t = ``signal`` x0 + ``std`` ε; all pictures (C, H, W), the histogram of x_t's pixels as a density (64,).

    ``noise`` and ``predicted_noise`` are in units of ``std``; ``log_snr`` is −∞ where no signal is left.
    """

    t: int
    log_snr: float
    signal: float
    std: float
    x0: np.ndarray
    noise: np.ndarray
    x: np.ndarray
    predicted_noise: np.ndarray
    predicted_x0: np.ndarray
    histogram: np.ndarray


class Strip(NamedTuple):
    """The picture at eight levels (8, C, H, W), at fewer if there are fewer steps, with their t and their λ."""

    steps: tuple[int, ...]
    log_snrs: tuple[float, ...]
    x: np.ndarray


class Measured(NamedTuple):
    """What many draws of x_t are: the factor on x0 and the variance, each (ways, K) for the K ``steps``.

    ``errors`` are their standard errors and ``true`` what the formulas say, both (2, ways, K).
    """

    steps: tuple[int, ...]
    draws: int
    factor: np.ndarray
    variance: np.ndarray
    errors: np.ndarray
    true: np.ndarray


@torch.no_grad()
def moment(noising: Noising, network: Network) -> Work:
    """The job of one step: what x_t is made of, and what ``network``, asked without a label, makes of it."""
    x0, t = noising.x0[None], noising.t
    signal, std = (float(factor[t - 1]) for factor in factors(noising, noising.way))
    x = noised(noising, (t,))
    log_snr = 2 * torch.tensor(signal / std, dtype=torch.float64).log()
    guided = Guided(network.config, torch.tensor([network.config.num_classes]))
    known = x / math.hypot(signal, std)  # at the variance that the network was trained on; mixing has less
    output = yield Forward(network, *guided.rows(known, log_snr))
    predicted = guided.x0(known, log_snr, output)
    noise, predicted_noise = ((x - signal * clean) / std for clean in (x0, predicted))
    yield Moment(
        t,
        float(log_snr),
        signal,
        std,
        x0[0].numpy(),
        noise[0].numpy(),
        x[0].numpy(),
        predicted_noise[0].numpy(),
        predicted[0].numpy(),
        x.histc(BINS, -EDGE, EDGE).numpy() / (x.numel() * 2 * EDGE / BINS),
    )


@torch.no_grad()
def strip(noising: Noising) -> Strip:
    """The picture at levels evenly spaced in t, the last at T."""
    steps = strip_steps(noising.steps)
    signal, std = factors(noising, noising.way)
    log_snrs = tuple(float(2 * (signal[t - 1] / std[t - 1]).log()) for t in steps)
    return Strip(tuple(steps), log_snrs, noised(noising, steps).numpy())


@torch.no_grad()
def measure(noising: Noising) -> Iterator[Measured | None]:
    """None a step of the chain, and last what all WAYS give, measured over draws that are independent of each other."""
    x0, recorded = noising.x0, sorted(shown(noising.steps) - {0})
    draws = VALUES // x0.numel()
    many = x0.expand(1, draws, *x0.shape)
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    own = [seeded(noising.seed, 1 + index) for index in range(len(WAYS))]
    for step in diffuse(many, _levels(noising), own[:1]):
        if step.index in recorded:
            found["chain"].append(_moments(step.x[0], x0))
            for way, generator in zip(("jump", "mix", "mix-uniform"), own[1:]):
                found[way].append(_moments(_at_once(noising, way, many, step.index, generator)[0], x0))
        yield None
    factor, variance = np.array([found[way] for way in WAYS]).transpose(2, 0, 1)
    true = torch.stack([torch.stack(factors(noising, way))[:, [t - 1 for t in recorded]] for way in WAYS], 1)
    std = true[1]
    flatness = torch.tensor([2.0, 2.0, 2.0, 0.8], dtype=torch.float64)[:, None]  # kurtosis − 1: uniform noise has 1.8
    errors = std / (math.sqrt(draws) * float(x0.norm())), std**2 * (flatness / ((draws - 1) * x0.numel())).sqrt()
    exact = torch.stack([true[0], std**2])
    yield Measured(tuple(recorded), draws, factor, variance, torch.stack(errors).numpy(), exact.numpy())


def _moments(x: Tensor, x0: Tensor) -> tuple[float, float]:
    """Of draws x (N, *D): what x0 (*D) is multiplied by in their mean, and their variance about it, over all pixels."""
    mean = x.mean(0)
    factor = (mean * x0).sum() / x0.square().sum()
    return float(factor), float((x - mean).square().sum() / ((len(x) - 1) * x0.numel()))


def look(noising: Noising, network: Network) -> Work:
    """The job of a new picture or schedule: the strip, the moment, and what is measured."""
    yield strip(noising)
    yield from moment(noising, network)
    yield from measure(noising)
