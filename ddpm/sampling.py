"""Samplers as generators that yield every step of the reverse process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ddpm.denoiser import Denoise
from ddpm.process import posterior, seeded


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
