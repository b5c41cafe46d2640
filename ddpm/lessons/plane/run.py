"""A run in the plane as one frozen value: particles that flow out of noise, or into it, in the field that moves them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm import streams
from ddpm.denoiser import unlabelled
from ddpm.lessons.models import NETWORKS
from ddpm.lessons.points import AXIS, DATA_NAMES, DRAWN, FIELD, PointData, distances, draw, known, sketch
from ddpm.lessons.shown import shown
from ddpm.lessons.words import SAMPLER_NAMES, STEPS_INFO
from ddpm.process import Denoise, Network, seeded
from ddpm.sampling import SAMPLERS, Step, as_one, diffuse, follow, jump, levels_alone
from ddpm.scaling import AS_IT_IS, Scaling
from ddpm.schedule import alpha_bar, grid
from ddpm.serving.engine import Work
from ddpm.settings import SEED, STEPS, Choice, Number, Scheduled, scheduled, setting

MINE = "mine"
"""The denoiser that is a network of the visitor's own."""

# --- the settings ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plane(PointData, Scheduled):
    """Every setting of a run in the plane: the same value gives the same particles.

    ``direction`` is "generate", or the forward process as a "chain" or in one "jump". ``denoiser`` moves the particles:
    the "learned" one, the "exact" one, or "mine", the visitor's own network; for ``drawn`` data none is shipped. s, p,
    reach and c belong to a schedule each. Raises ValueError, in one sentence, for a setting that is not allowed, and for
    drawn data without a point.
    """

    data: str = setting(
        "moons", Choice((*NETWORKS, DRAWN)), "Data", "The shape that the particles are to find.", names=DATA_NAMES
    )
    direction: str = setting(
        "generate",
        Choice(("generate", "chain", "jump")),
        "Direction",
        "Make data, or see how noise destroys it.",
        names={
            "generate": "noise to data: generate",
            "chain": "data to noise: the chain, step by step",
            "jump": "data to noise: in one jump from x₀",
        },
    )
    denoiser: str = setting(
        "learned",
        Choice(("learned", "exact", MINE)),
        "Moved by",
        "What predicts x̂₀: the network, the exact formula, or a network that you have trained.",
        look="radio",
    )
    count: int = setting(
        1000, Number(100, 5000, whole=True), "Particles", "More fill the shape, fewer are easier to follow.", step=100
    )
    steps: int = setting(100, STEPS, "Steps T", STEPS_INFO)
    schedule: str = scheduled("cosine")
    sampler: str = setting(
        "ddim", Choice(tuple(SAMPLERS)), "Sampler", "How one step follows from x̂₀.", names=SAMPLER_NAMES
    )
    eta: float = setting(
        0.0,
        Number(0, 1),
        "Noise added on the way, η",
        "0: none, the arrows alone (DDIM). 1: as much as DDPM.",
        step=0.05,
    )
    seed: int = setting(0, SEED, "Seed", "The noise begun with: the same seed gives the same particles.", look="number")


def start(plane: Plane) -> Tensor:
    """The points (count, 2) of the data with which the forward process begins."""
    return draw(plane, plane.count, streams.START, plane.seed)


# --- carried out ----------------------------------------------------------------------------------------------------


class Opening(NamedTuple):
    """What a run opens with: points of the data (N, 2)."""

    data: np.ndarray


class Frame(NamedTuple):
    """One shown step: the particles x (count, 2), and the field's x̂0 at FIELD (400, 2), learned, if there is a network,
    and exact; p_t on AXIS × AXIS (100, 100); the sliced Wasserstein distance to held-out data of the particles, if there
    are any, and of fresh data.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks for
    log_snr: float
    alpha_bar: float
    x: np.ndarray
    learned: np.ndarray | None
    exact: np.ndarray
    density: np.ndarray
    distance: float | None
    floor: float
    seconds: float
    """Since the computation began."""


def look(plane: Plane, network: Network | None, particles: bool = True, scaling: Scaling = AS_IT_IS) -> Work:
    """The job of the page: what it opens with, then the frames."""
    yield Opening(sketch(plane).numpy())
    yield from frames(plane, network, particles, scaling)


@torch.no_grad()
def frames(plane: Plane, network: Network | None, particles: bool = True, scaling: Scaling = AS_IT_IS) -> Work:
    """The steps of ``plane``: a frame for each step worth showing and None for the others.

    ``network`` works in the coordinates of ``scaling``. Without ``particles`` only the field and the density of each
    shown step, from noise to data.
    """
    begun, worth_showing = time.monotonic(), shown(plane.steps)
    exact, density = known(plane)
    learned = scaling.around(unlabelled(network)) if network else None
    distance, floor = distances(plane, plane.count)
    mover = exact if plane.denoiser == "exact" or not learned else learned
    for step in _states(plane, mover) if particles else levels_alone(grid(plane.curve, plane.steps), (2,)):
        if step.index not in worth_showing:
            yield None
            continue
        yield Frame(
            step.index,
            float(step.log_snr),
            float(alpha_bar(step.log_snr)),
            step.x.numpy(),
            _field(learned, step.log_snr).numpy() if learned else None,
            _field(exact, step.log_snr).numpy(),
            density(AXIS, step.log_snr).numpy(),
            distance(step.x) if particles else None,
            floor,
            time.monotonic() - begun,
        )


def _field(denoise: Denoise, log_snr: Tensor) -> Tensor:
    """x̂0 at FIELD (400, 2); where no noise is left, x is x̂0."""
    return denoise(FIELD, log_snr) if log_snr.isfinite() else FIELD


def _states(plane: Plane, denoise: Denoise) -> Iterator[Step]:
    """The states of the particles, which are together one sample of shape (count, 2)."""
    levels, generators = grid(plane.curve, plane.steps), [seeded(plane.seed)]
    if plane.direction == "chain":
        states = diffuse(start(plane)[None], levels, generators)
    else:
        noise = torch.randn(1, plane.count, 2, generator=generators[0])
        if plane.direction == "jump":
            states = jump(start(plane)[None], levels, noise)
        else:
            states = follow(SAMPLERS[plane.sampler](levels, noise, plane.eta, generators), as_one(denoise))
    for step in states:
        yield step._replace(x=step.x[0], x0=step.x0[0])
