"""Samplers as generators that ask for x̂0, and the states of the reverse process that follow from the answers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm.process import (
    Coefficients,
    Denoise,
    add_noise,
    coefficients,
    noise_from_x0,
    seeded,
    transition,
    x0_from_noise,
)
from ddpm.schedule import betas


class Step(NamedTuple):
    """One state of a run: x at ``log_snr`` and the x̂0 predicted from it, both (B, *D).

    ``index`` counts down from T (noise) to 0 (data); the last step has λ = +∞ and x0 = x.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks for
    log_snr: Tensor
    x: Tensor
    x0: Tensor


def generators(seed: int, indices: Iterable[int]) -> list[torch.Generator]:
    """One generator a sample, so that sample ``index`` of ``seed`` is the same in any batch."""
    return [seeded(seed, index) for index in indices]


def normal(shape: tuple[int, ...], generators: list[torch.Generator]) -> Tensor:
    """Standard normal noise of shape (B, *shape), row b drawn on the CPU from generator b."""
    return torch.stack([torch.randn(shape, generator=g) for g in generators])


class Query(NamedTuple):
    """A sampler's question: what is x̂0, as seen from x (B, *D) at ``log_snr``?

    ``index`` counts the states of a run down from T to 0, where x is clean and there is nothing to ask; it is None
    within a step.
    """

    index: int | None  # type: ignore[assignment]  # hides tuple.index, which nobody asks for
    log_snr: Tensor
    x: Tensor


Path = Generator[Query, Tensor, None]
"""A sampler under way: it asks and is sent x̂0. Whoever answers may do so for many samplers in one forward pass."""


def ddim(grid: Tensor, noise: Tensor, eta: float, own: list[torch.Generator] | None) -> Path:
    """η = 1 is DDPM (Ho et al. 2020, algorithm 2, with the posterior variance), η = 0 is DDIM (Song et al. 2021, eq. 12).

    ``own`` gives each row its noise; it is not needed at η = 0. Raises ValueError if it is missing.
    """
    if eta > 0 and len(grid) > 2 and own is None:
        raise ValueError(f"η is {eta}; above 0 the sampler draws noise and needs one generator a row.")
    x, steps = noise, len(grid) - 1
    for k, (on_x, on_x0, std) in enumerate(_numbers(grid, eta)):
        x0 = yield Query(steps - k, grid[k], x)
        x = on_x * x + on_x0 * x0
        if own is not None and eta > 0 and k < steps - 1:
            x = x + std * normal(tuple(x.shape[1:]), own).to(x)
    yield Query(0, grid[-1], x)


def ancestral(grid: Tensor, noise: Tensor, own: list[torch.Generator]) -> Path:
    """DDPM with the variance σ² = β_t instead of the posterior's, as the first papers have it.

    The other choice of Ho et al. 2020, section 3.2: right for data that is N(0, 1) itself; the mean is eq. 7 as ever.
    """
    x, steps, std = noise, len(grid) - 1, betas(grid).sqrt().tolist()
    for k, (on_x, on_x0, _) in enumerate(_numbers(grid, eta=1)):
        x0 = yield Query(steps - k, grid[k], x)
        x = on_x * x + on_x0 * x0
        if k < steps - 1:
            x = x + std[k] * normal(tuple(x.shape[1:]), own).to(x)
    yield Query(0, grid[-1], x)


def dpm_solver(grid: Tensor, noise: Tensor) -> Path:
    """DPM-Solver++(2M) (Lu et al. 2022, "DPM-Solver++", algorithm 2): second order at one evaluation a step.

    A DDIM step to a x̂0 that is extrapolated to the middle of the step, in λ, from the last two predictions. The first
    step has only one, and the last, to λ = +∞, has no middle: both are DDIM's.
    """
    x, steps, before = noise, len(grid) - 1, None
    for k, (on_x, on_x0, _) in enumerate(_numbers(grid, eta=0)):
        x0 = yield Query(steps - k, grid[k], x)
        ahead = x0
        if before is not None and grid[k + 1].isfinite():
            ratio = (grid[k + 1] - grid[k]) / (grid[k] - grid[k - 1])
            ahead = x0 + ratio.item() / 2 * (x0 - before)
        x = on_x * x + on_x0 * ahead
        before = x0
    yield Query(0, grid[-1], x)


def heun(grid: Tensor, noise: Tensor) -> Path:
    """Heun's method (Karras et al. 2022, algorithm 1): second order at two evaluations a step, but for the last.

    DDIM is Euler's method for d(x / α) / d(σ / α) = ε̂; this takes the mean of ε̂ at both ends of the step.
    """
    x, steps = noise, len(grid) - 1
    for k, (on_x, on_x0, _) in enumerate(_numbers(grid, eta=0)):
        t, s = grid[k], grid[k + 1]
        x0 = yield Query(steps - k, t, x)
        there = on_x * x + on_x0 * x0
        if s.isfinite():
            x0_there = yield Query(None, s, there)
            slope = (noise_from_x0(x, x0, t) + noise_from_x0(there, x0_there, s)) / 2
            there = on_x * x + on_x0 * x0_from_noise(x, slope, t)
        x = there
    yield Query(0, grid[-1], x)


def _numbers(grid: Tensor, eta: float) -> list[Coefficients[float]]:
    """Of each step along ``grid`` (T + 1,) what ``posterior`` multiplies with, as numbers: worked out once for all steps."""
    return [Coefficients(*step) for step in torch.stack(coefficients(grid[:-1], grid[1:], eta), 1).tolist()]


SAMPLERS: dict[str, Callable[[Tensor, Tensor, float, list[torch.Generator]], Path]] = {
    "ddim": ddim,
    "ddpm-beta": lambda grid, noise, eta, own: ancestral(grid, noise, own),
    "dpm-solver++": lambda grid, noise, eta, own: dpm_solver(grid, noise),
    "heun": lambda grid, noise, eta, own: heun(grid, noise),
}
"""The samplers offered by name: (grid (T + 1,), noise (B, *D), eta, one generator a row). Only "ddim" reads η."""


def as_one(denoise: Denoise) -> Denoise:
    """``denoise`` for one sample (1, N, *D) that holds N points, which then share one generator."""
    return lambda x, log_snr: denoise(x[0], log_snr)[None]


def levels_alone(grid: Tensor, shape: tuple[int, ...]) -> Iterator[Step]:
    """The steps of a run along ``grid`` (T + 1,) of no samples: x and x0 are (0, *shape)."""
    nothing = torch.empty(0, *shape)
    for k, log_snr in enumerate(grid):
        yield Step(len(grid) - 1 - k, log_snr, nothing, nothing)


@torch.no_grad()
def follow(path: Path, denoise: Denoise) -> Iterator[Step]:
    """The T + 1 states of a run along ``path`` when ``denoise`` answers its queries."""
    query = next(path)
    while query.index != 0:
        x0 = denoise(query.x, query.log_snr)
        if query.index is not None:
            yield Step(query.index, query.log_snr, query.x, x0)
        query = path.send(x0)
    yield Step(0, query.log_snr, query.x, query.x)


def sample(
    denoise: Denoise, grid: Tensor, noise: Tensor, *, eta: float = 1.0, generators: list[torch.Generator] | None = None
) -> Iterator[Step]:
    """The T + 1 states of a run from ``noise`` (B, *D) along ``grid`` (T + 1,): DDPM at η = 1, DDIM at η = 0.

    Raises ValueError if η > 0 and the rows have no ``generators``.
    """
    return follow(ddim(grid, noise, eta, generators), denoise)


@torch.no_grad()
def diffuse(x0: Tensor, grid: Tensor, generators: list[torch.Generator]) -> Iterator[Step]:
    """The forward process as a Markov chain (Ho et al. 2020, eq. 2): the T + 1 states from x0 (B, *D) to index T.

    It runs backwards along ``grid`` (T + 1,), with fresh noise in every step.
    """
    x, levels = x0, grid.flip(0)
    yield Step(0, levels[0], x0, x0)
    for index in range(1, len(levels)):
        noise = normal(tuple(x.shape[1:]), generators).to(x)
        x = transition(x, noise, levels[index - 1], levels[index])
        yield Step(index, levels[index], x, x0)


@torch.no_grad()
def jump(x0: Tensor, grid: Tensor, noise: Tensor) -> Iterator[Step]:
    """The same states, each in one jump from x0 (Ho et al. 2020, eq. 4), with the same noise (B, *D) at every level."""
    for index, level in enumerate(grid.flip(0)):
        yield Step(index, level, add_noise(x0, noise, level), x0)
