"""A run in the plane as one frozen value: particles that flow out of noise, or into it, in the field that moves them."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from ddpm.data import TOYS
from ddpm.denoiser import unlabelled
from ddpm.evaluation.judges import sliced_wasserstein_to
from ddpm.exact import Density, gaussian_mixture, gaussian_mixture_density
from ddpm.lessons.pictures.run import shown
from ddpm.process import Denoise, Network, seeded
from ddpm.sampling import SAMPLERS, Step, as_one, diffuse, follow, jump, levels_alone
from ddpm.scaling import AS_IT_IS, Scaling
from ddpm.schedule import alpha_bar, grid
from ddpm.settings import SCHEDULE, SEED, STEPS, Choice, Number, Scheduled, Setting

if TYPE_CHECKING:
    from typing import Self

NETWORKS = tuple(name for name in TOYS if name != "mixture1d")
"""The data sets of the plane, each with a trained network."""

DRAWN = "drawn"
"""The data that is the visitor's own points."""

MINE = "mine"
"""The denoiser that is a network of the visitor's own."""

MOST_POINTS = 500
"""Of a drawing: 1,334 characters in a link."""

STD = 0.03
"""Of the Gaussian around each point of a drawing, so that it has a density: the moons' own."""

AXIS = torch.arange(-2.475, 2.5, 0.05)
"""Centres of the cells, along each coordinate, on which the density is computed, (100,)."""

FIELD_AXIS = AXIS[2::5]
"""Coordinates of the points at which the field is computed, (20,): every fifth cell of the density."""

FIELD = torch.cartesian_prod(FIELD_AXIS, FIELD_AXIS).flip(1)
"""Those points, (400, 2), the first coordinate fastest."""

_SHOWN, _HELD_OUT, _FRESH, _START, _DIRECTIONS = range(41, 46)
"""Second parts of generator keys, apart from those that training and evaluation draw with."""


# --- a drawing as text ----------------------------------------------------------------------------------------------


def encode_points(points: Tensor) -> str:
    """Points (N, 2) in [−1, 1]² as base64url, a byte a coordinate: 8/3 characters a point, to 1/255 in each direction."""
    steps = ((points.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return base64.urlsafe_b64encode(steps.numpy().tobytes()).decode().rstrip("=")


def decode_points(text: str) -> Tensor:
    """What ``encode_points`` wrote, (N, 2) float32."""
    steps = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return torch.tensor(list(steps)).reshape(-1, 2) / 127.5 - 1


@dataclass(frozen=True)
class Drawing:
    """A setting that is a set of up to ``most`` points as ``encode_points`` writes them; empty if nothing is drawn."""

    most: int

    def problem(self, value: object) -> str | None:
        if isinstance(value, str) and self._is_points(value) and len(decode_points(value)) <= self.most:
            return None
        return f"must be at most {self.most} points, two bytes each, in base64url"

    def nearest(self, text: str) -> str | None:
        return encode_points(decode_points(text)[: self.most]) if self._is_points(text) else None

    @staticmethod
    def _is_points(text: str) -> bool:
        whole = re.fullmatch(r"[A-Za-z0-9_-]*", text) and len(text) * 3 // 4 % 2 == 0 and len(text) % 4 != 1
        return bool(whole) and encode_points(decode_points(text)) == text


# --- the settings ---------------------------------------------------------------------------------------------------

SETTINGS: dict[str, Setting] = {
    "data": Choice((*NETWORKS, DRAWN)),
    "points": Drawing(MOST_POINTS),
    "direction": Choice(("generate", "chain", "jump")),
    "denoiser": Choice(("learned", "exact", MINE)),
    "count": Number(100, 5000, whole=True),
    "steps": STEPS,
    **SCHEDULE,
    "sampler": Choice(tuple(SAMPLERS)),
    "eta": Number(0, 1),
    "seed": SEED,
}
"""What each setting of a run in the plane may be."""


@dataclass(frozen=True)
class Plane(Scheduled):
    """Every setting of a run in the plane: the same value gives the same particles.

    ``direction`` is "generate", or the forward process as a "chain" or in one "jump". ``denoiser`` moves the particles:
    the "learned" one, the "exact" one, or "mine", the visitor's own network; for ``drawn`` data none is shipped. s, p,
    reach and c belong to a schedule each. Raises ValueError, in one sentence, for a setting that is not allowed, and for
    drawn data without a point.
    """

    data: str = "moons"
    points: str = ""
    direction: str = "generate"
    denoiser: str = "learned"
    count: int = 1000
    steps: int = 100
    schedule: str = "cosine"
    sampler: str = "ddim"
    eta: float = 0.0
    seed: int = 0

    @classmethod
    def allowed(cls, given: Mapping[str, Any]) -> Mapping[str, Setting]:
        return SETTINGS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data == DRAWN and not self.points:
            raise ValueError(f"The data is {DRAWN!r}, but there is no point; draw 1 to {MOST_POINTS}.")

    @classmethod
    def from_query(cls, query: Mapping[str, Any]) -> tuple[Self, list[str]]:
        """As of every run; drawn data without a point becomes the default data, and one sentence says so."""
        asked, points = (SETTINGS[name].nearest(str(query.get(name, ""))) for name in ("data", "points"))
        if asked != DRAWN or points:
            return super().from_query(query)
        plane, notes = super().from_query({name: value for name, value in query.items() if name != "data"})
        return plane, [
            *notes,
            f"Nothing is drawn yet, so the data is {plane.data}: choose “draw your own” as the data to draw some.",
        ]


# --- data and what is known of it in closed form ----------------------------------------------------------------------


def source(plane: Plane) -> Callable[[int, Generator], Tensor]:
    """The data as the function count, generator -> fresh points (count, 2)."""
    if plane.data != DRAWN:
        return TOYS[plane.data]
    centres = decode_points(plane.points)

    def jittered(count: int, generator: Generator) -> Tensor:
        rows = torch.randint(len(centres), (count,), generator=generator)
        return centres[rows] + STD * torch.randn(count, 2, generator=generator)

    return jittered


def draw(plane: Plane, count: int, part: int, index: int = 0) -> Tensor:
    """``count`` points of the data, (count, 2), the same for the same ``part`` and ``index``."""
    return source(plane)(count, seeded(1, part, index))


def start(plane: Plane) -> Tensor:
    """The points (count, 2) of the data with which the forward process begins."""
    return draw(plane, plane.count, _START, plane.seed)


def sketch(plane: Plane) -> Tensor:
    """Points of the data to show, (N, 2): the drawing itself, or 1,000."""
    return decode_points(plane.points) if plane.data == DRAWN else draw(plane, 1000, _SHOWN)


def known(plane: Plane) -> tuple[Denoise, Density]:
    """The exact denoiser of the data, and the density of its noised points."""
    if plane.data != DRAWN:
        return TOYS[plane.data].exact, TOYS[plane.data].density
    means = decode_points(plane.points)
    of = torch.full((len(means),), 1 / len(means)), means, STD
    return gaussian_mixture(*of), gaussian_mixture_density(*of)


# --- carried out ----------------------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """One shown step: the particles x (count, 2), and the field's x̂0 at FIELD (400, 2), learned, if there is a network,
    and exact; p_t on AXIS × AXIS (100, 100); the sliced Wasserstein distance to held-out data of the particles, if there
    are any, and of fresh data.
    """

    index: int
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


@torch.no_grad()
def frames(
    plane: Plane, network: Network | None, particles: bool = True, scaling: Scaling = AS_IT_IS
) -> Iterator[Frame | None]:
    """The job of ``plane``: a frame for each step worth showing and None for the others.

    ``network`` works in the coordinates of ``scaling``. Without ``particles`` only the field and the density of each
    shown step, from noise to data.
    """
    begun, worth_showing = time.monotonic(), shown(plane.steps)
    exact, density = known(plane)
    learned = scaling.around(unlabelled(network)) if network else None
    distance, floor = distances(plane)
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


def distances(plane: Plane) -> tuple[Callable[[Tensor], float], float]:
    """The function x (count, 2) -> its sliced Wasserstein distance to held-out data, and what fresh data has."""
    count = min(plane.count, 500)
    to_held_out = sliced_wasserstein_to(draw(plane, count, _HELD_OUT), seeded(1, _DIRECTIONS), projections=32)
    fresh = [to_held_out(draw(plane, count, _FRESH, index)) for index in range(5)]
    return lambda x: to_held_out(x[:count]), sum(fresh) / len(fresh)
