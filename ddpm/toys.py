"""Toy distributions of points, with their exact denoisers and densities."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ddpm.exact import (
    Density,
    LogDensity,
    boxes,
    boxes_density,
    boxes_log_density,
    gaussian_mixture,
    gaussian_mixture_density,
    gaussian_mixture_log_density,
)
from ddpm.process import Denoise

MIXTURE_WEIGHTS, MIXTURE_MEANS, MIXTURE_STD = (1 / 3, 2 / 3), (-4.0, 4.0), 1.0
"""The exercise's two Gaussians in one dimension."""


# --- toys -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Toy:
    """A distribution of points: called as toy(count, generator) it draws (count, d) float32.

    ``exact`` denoises it, ``density`` is that of its noised points, ``log_density`` that of the points themselves.
    """

    draw: Callable[[int, Generator], Tensor]
    exact: Denoise
    density: Density
    log_density: LogDensity

    def __call__(self, count: int, generator: Generator) -> Tensor:
        return self.draw(count, generator)


def _mixture(weights: Tensor, means: Tensor, std: float) -> tuple[Denoise, Density, LogDensity]:
    return (
        gaussian_mixture(weights, means, std),
        gaussian_mixture_density(weights, means, std),
        gaussian_mixture_log_density(weights, means, std),
    )


def _mixture1d() -> Toy:
    """Two Gaussians, weights 1:2, means −4 and 4, σ = 1, in their own units."""
    weights, means = torch.tensor(MIXTURE_WEIGHTS), torch.tensor(MIXTURE_MEANS)[:, None]

    def draw(count: int, generator: Generator) -> Tensor:
        second = torch.rand(count, generator=generator) < MIXTURE_WEIGHTS[1]
        return means[second.long()] + MIXTURE_STD * torch.randn(count, 1, generator=generator)

    return Toy(draw, *_mixture(weights, means, MIXTURE_STD))


def _checkerboard() -> Toy:
    """The eight dark squares of a 4 × 4 board that fills [−1, 1]²."""

    def corner(column: Tensor, upper: Tensor) -> Tensor:
        return torch.stack([column, 2 * upper + column % 2], 1) / 2 - 1

    def draw(count: int, generator: Generator) -> Tensor:
        column, upper = (torch.randint(n, (count,), generator=generator) for n in (4, 2))
        return corner(column, upper) + torch.rand(count, 2, generator=generator) / 2

    low = corner(*torch.cartesian_prod(torch.arange(4), torch.arange(2)).T).double()
    high = low + 0.5
    return Toy(draw, boxes(low, high), boxes_density(low, high), boxes_log_density(low, high))


def _curves(place: Callable[[Tensor, Tensor], Tensor], count: int, jitter: float, nodes: int = 640) -> Toy:
    """``count`` curves, equally likely, blurred by a Gaussian of deviation ``jitter``.

    ``place`` maps u (N,), uniform on (0, 1), and the curve's number (N,) to points (N, 2). The exact denoiser integrates
    over u with ``nodes`` in all: they lie so much closer than the jitter that its ε is right to 10⁻⁶ up to λ = 12.
    """

    def draw(points: int, generator: Generator) -> Tensor:
        u = torch.rand(points, generator=generator)
        curve = torch.randint(count, (points,), generator=generator)
        return place(u, curve) + jitter * torch.randn(points, 2, generator=generator)

    u, weights = _quadrature(nodes // count)
    means = place(u.repeat(count), torch.arange(count).repeat_interleave(len(u)))
    return Toy(draw, *_mixture(weights.repeat(count) / count, means, jitter))


def _quadrature(nodes: int) -> tuple[Tensor, Tensor]:
    """Nodes in (0, 1) and their weights (N,): Fejér's first rule, exact for polynomials of degree below N."""
    angle, order = (torch.arange(nodes).double() + 0.5) * math.pi / nodes, torch.arange(1, nodes // 2 + 1)
    shares = 1 - 2 * ((2 * order * angle[:, None]).cos() / (4 * order**2 - 1)).sum(1)
    return (1 - angle.cos()) / 2, shares / nodes


def _moon(u: Tensor, curve: Tensor) -> Tensor:
    """Two interleaved half circles."""
    angle = math.pi * u
    x = torch.where(curve == 1, 1 - angle.cos(), angle.cos()) - 0.5
    y = torch.where(curve == 1, 0.5 - angle.sin(), angle.sin()) - 0.25
    return 0.6 * torch.stack([x, y], 1)


def _swiss_roll(u: Tensor, curve: Tensor) -> Tensor:
    """A spiral of one and a half turns."""
    angle = 1.5 * math.pi * (1 + 2 * u)
    return angle[:, None] * _on_circle(angle) / 15


def _circle(u: Tensor, curve: Tensor) -> Tensor:
    """Two circles, one inside the other."""
    return torch.where(curve == 1, 0.45, 0.9)[:, None] * _on_circle(2 * math.pi * u)


def _eighth(u: Tensor, curve: Tensor) -> Tensor:
    """Eight points on a circle."""
    return 0.8 * _on_circle(curve * math.pi / 4)


def _arm(u: Tensor, curve: Tensor) -> Tensor:
    """Two arms that wind around each other, denser by area than along their length."""
    turn = u.sqrt()
    return (0.95 * turn)[:, None] * _on_circle(3 * math.pi * turn + curve * math.pi)


def _on_circle(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], 1)


TOYS: dict[str, Toy] = {
    "mixture1d": _mixture1d(),
    "moons": _curves(_moon, 2, 0.03),
    "swiss_roll": _curves(_swiss_roll, 1, 0.02),
    "circles": _curves(_circle, 2, 0.03),
    "checkerboard": _checkerboard(),
    "gaussians": _curves(_eighth, 8, 0.06, nodes=8),
    "spiral": _curves(_arm, 2, 0.02),
}
