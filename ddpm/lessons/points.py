"""Data in the data: a toy set or the visitor’s own points, with what is known of it in closed form."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor

from ddpm import streams
from ddpm.distances import sliced_wasserstein_to
from ddpm.exact import Density, gaussian_mixture, gaussian_mixture_density
from ddpm.lessons.models import NETWORKS
from ddpm.process import Denoise, seeded
from ddpm.settings import Choice, Settings, setting
from ddpm.toys import TOYS

if TYPE_CHECKING:
    from typing import Self

DRAWN = "drawn"
"""The data that is the visitor's own points."""

DATA_NAMES = {
    "moons": "two moons",
    "swiss_roll": "Swiss roll",
    "circles": "circles",
    "checkerboard": "checkerboard",
    "gaussians": "eight Gaussians",
    "spiral": "spiral",
    DRAWN: "draw your own",
}
"""What pages call the data."""

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


# --- data and what is known of it in closed form ----------------------------------------------------------------------


@dataclass(frozen=True)
class PointData(Settings):
    """Data in the plane. Raises ValueError, in one sentence, for drawn data without a point."""

    data: str = setting("moons", Choice((*NETWORKS, DRAWN)), "Data", names=DATA_NAMES)
    points: str = setting("", Drawing(MOST_POINTS), look="own")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data == DRAWN and not self.points:
            raise ValueError(f"The data is {DRAWN!r}, but there is no point; draw 1 to {MOST_POINTS}.")

    @classmethod
    def from_query(cls, query: Mapping[str, Any]) -> tuple[Self, list[str]]:
        """As of all settings; drawn data without a point becomes the default data, and one sentence says so."""
        asked, points = (cls.allowed({})[name].nearest(str(query.get(name, ""))) for name in ("data", "points"))
        if asked != DRAWN or points:
            return super().from_query(query)
        found, notes = super().from_query({name: value for name, value in query.items() if name != "data"})
        return found, [
            *notes,
            f"Nothing is drawn yet, so the data is {found.data}: choose “draw your own” as the data to draw some.",
        ]

    @property
    def alone(self) -> PointData:
        """The data alone, without what else is set; of other data than a drawing the points mean nothing."""
        return PointData(self.data, self.points if self.data == DRAWN else "")


def source(data: PointData) -> Callable[[int, Generator], Tensor]:
    """The data as the function count, generator -> fresh points (count, 2)."""
    if data.data != DRAWN:
        return TOYS[data.data]
    centres = decode_points(data.points)

    def jittered(count: int, generator: Generator) -> Tensor:
        rows = torch.randint(len(centres), (count,), generator=generator)
        return centres[rows] + STD * torch.randn(count, 2, generator=generator)

    return jittered


def draw(data: PointData, count: int, part: int, index: int = 0) -> Tensor:
    """``count`` points of the data, (count, 2), the same for the same ``part`` and ``index``."""
    return source(data)(count, seeded(1, part, index))


def sketch(data: PointData) -> Tensor:
    """Points of the data to show, (N, 2): the drawing itself, or 1,000."""
    return decode_points(data.points) if data.data == DRAWN else draw(data, 1000, streams.SHOWN)


def known(data: PointData) -> tuple[Denoise, Density]:
    """The exact denoiser of the data, and the density of its noised points."""
    if data.data != DRAWN:
        return TOYS[data.data].exact, TOYS[data.data].density
    means = decode_points(data.points)
    of = torch.full((len(means),), 1 / len(means)), means, STD
    return gaussian_mixture(*of), gaussian_mixture_density(*of)


def distances(data: PointData, count: int) -> tuple[Callable[[Tensor], float], float]:
    """The function x (count, 2) -> its sliced Wasserstein distance to held-out data, and what fresh data has."""
    count = min(count, 500)
    to_held_out = sliced_wasserstein_to(
        draw(data, count, streams.HELD_OUT), seeded(1, streams.PROJECTIONS), projections=32
    )
    fresh = [to_held_out(draw(data, count, streams.OTHERS, index)) for index in range(5)]
    return lambda x: to_held_out(x[:count]), sum(fresh) / len(fresh)


SCALE = 4096
"""Positions travel as int16 multiples of 1 / 4096: ±8, a tenth of a pixel apart."""


def positions(points: np.ndarray) -> bytes:
    """Points (N, 2) as little-endian int16."""
    return np.clip(points * SCALE, -32768, 32767).round().astype("<i2").tobytes()
