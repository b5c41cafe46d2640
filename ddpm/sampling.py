"""Samplers as generators that yield every step of the reverse process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ddpm.denoiser import Denoise
from ddpm.process import add_noise, like, noise_from_x0, posterior, seeded, transition, x0_from_noise
from ddpm.schedule import betas


class Step(NamedTuple):
    """One state of a run: x at ``log_snr`` and the x̂0 predicted from it, both (B, *D).

    ``index`` counts down from T (noise) to 0 (data); the last step has λ = +∞ and x0 = x.
    """

    index: int
    log_snr: Tensor
    x: Tensor
    x0: Tensor


def generators(seed: int, indices: Iterable[int]) -> list[Generator]:
    """One generator a sample, so that sample ``index`` of ``seed`` is the same in any batch."""
    return [seeded(seed, index) for index in indices]


def normal(shape: tuple[int, ...], generators: list[Generator]) -> Tensor:
    """Standard normal noise of shape (B, *shape), row b drawn on the CPU from generator b."""
    return torch.stack([torch.randn(shape, generator=g) for g in generators])


@torch.no_grad()
def sample(
    denoise: Denoise, grid: Tensor, noise: Tensor, *, eta: float = 1.0, generators: list[Generator] | None = None
) -> Iterator[Step]:
    """The T + 1 states of a run from ``noise`` (B, *D) along ``grid`` (T + 1,).

    η = 1 is DDPM (Ho et al. 2020, algorithm 2, with the posterior variance), η = 0 is DDIM (Song et al. 2021, eq. 12).
    ``generators`` gives each row its own noise; it is not needed at η = 0. Raises ValueError if it is missing.
    """
    if eta > 0 and len(grid) > 2 and generators is None:
        raise ValueError(f"η is {eta}; above 0 the sampler draws noise and needs one generator a row.")
    x, steps = noise, len(grid) - 1
    for k in range(steps):
        x0 = denoise(x, grid[k])
        yield Step(steps - k, grid[k], x, x0)
        mean, std = posterior(x, x0, grid[k], grid[k + 1], eta)
        x = mean + std * normal(tuple(x.shape[1:]), generators).to(x) if eta > 0 and k < steps - 1 else mean
    yield Step(0, grid[-1], x, x)


@torch.no_grad()
def ancestral(denoise: Denoise, grid: Tensor, noise: Tensor, generators: list[Generator]) -> Iterator[Step]:
    """DDPM with the variance σ² = β_t instead of the posterior's, as the first papers have it.

    The other choice of Ho et al. 2020, section 3.2: right for data that is N(0, 1) itself; the mean is eq. 7 as ever.
    """
    x, steps, variance = noise, len(grid) - 1, betas(grid)
    for k in range(steps):
        x0 = denoise(x, grid[k])
        yield Step(steps - k, grid[k], x, x0)
        x, _ = posterior(x, x0, grid[k], grid[k + 1])
        if k < steps - 1:
            x = x + like(variance[k].sqrt(), x) * normal(tuple(x.shape[1:]), generators).to(x)
    yield Step(0, grid[-1], x, x)


@torch.no_grad()
def dpm_solver(denoise: Denoise, grid: Tensor, noise: Tensor) -> Iterator[Step]:
    """DPM-Solver++(2M) (Lu et al. 2022, "DPM-Solver++", algorithm 2): second order at one evaluation a step.

    A DDIM step to a x̂0 that is extrapolated to the middle of the step, in λ, from the last two predictions. The first
    step has only one, and the last, to λ = +∞, has no middle: both are DDIM's.
    """
    x, steps, before = noise, len(grid) - 1, None
    for k in range(steps):
        x0 = denoise(x, grid[k])
        yield Step(steps - k, grid[k], x, x0)
        ahead = x0
        if before is not None and grid[k + 1].isfinite():
            ratio = (grid[k + 1] - grid[k]) / (grid[k] - grid[k - 1])
            ahead = x0 + like(ratio / 2, x) * (x0 - before)
        x, _ = posterior(x, ahead, grid[k], grid[k + 1], eta=0)
        before = x0
    yield Step(0, grid[-1], x, x)


@torch.no_grad()
def heun(denoise: Denoise, grid: Tensor, noise: Tensor) -> Iterator[Step]:
    """Heun's method (Karras et al. 2022, algorithm 1): second order at two evaluations a step, but for the last.

    DDIM is Euler's method for d(x / α) / d(σ / α) = ε̂; this takes the mean of ε̂ at both ends of the step.
    """
    x, steps = noise, len(grid) - 1
    for k in range(steps):
        t, s = grid[k], grid[k + 1]
        x0 = denoise(x, t)
        yield Step(steps - k, t, x, x0)
        there, _ = posterior(x, x0, t, s, eta=0)
        if s.isfinite():
            slope = (noise_from_x0(x, x0, t) + noise_from_x0(there, denoise(there, s), s)) / 2
            there, _ = posterior(x, x0_from_noise(x, slope, t), t, s, eta=0)
        x = there
    yield Step(0, grid[-1], x, x)


@torch.no_grad()
def diffuse(x0: Tensor, grid: Tensor, generators: list[Generator]) -> Iterator[Step]:
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


Sampler = Callable[[Denoise, Tensor, Tensor, float, list[Generator]], Iterator[Step]]
"""(denoise, grid, noise, eta, one generator a row) -> the states of a run."""

SAMPLERS: dict[str, Sampler] = {
    "ddim": lambda denoise, grid, noise, eta, own: sample(denoise, grid, noise, eta=eta, generators=own),
    "ddpm-beta": lambda denoise, grid, noise, eta, own: ancestral(denoise, grid, noise, own),
    "dpm-solver++": lambda denoise, grid, noise, eta, own: dpm_solver(denoise, grid, noise),
    "heun": lambda denoise, grid, noise, eta, own: heun(denoise, grid, noise),
}
"""The samplers offered by name. Only "ddim" reads η: it is DDIM at 0 and DDPM at 1."""
