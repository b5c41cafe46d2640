"""Noise schedules as curves λ(t) of the log signal-to-noise ratio, and the grids of steps cut from them.

For a variance-preserving process (α² + σ² = 1) the log-SNR λ = log(ᾱ / (1 − ᾱ)) alone fixes q(x_λ | x0)
(Kingma et al. 2021, "Variational diffusion models", section 3). All arithmetic here is float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

LOG_SNR_MIN = -12.0
"""Where time is truncated for a curve that would end at λ = −∞: ᾱ = 6e-6 of the signal is left."""


class Schedule(Protocol):
    """A strictly decreasing curve λ(t) on (0, 1]; t = 0 is data, t = 1 is noise."""

    def log_snr(self, t: Tensor) -> Tensor:
        """λ(t) in float64, the shape of ``t``."""
        ...


def alpha_bar(log_snr: Tensor) -> Tensor:
    """ᾱ = sigmoid(λ): the share of the signal's variance that is left, same shape, float64."""
    return log_snr.double().sigmoid()


def alpha(log_snr: Tensor) -> Tensor:
    """α = √ᾱ, the factor on x0; same shape, float64."""
    return alpha_bar(log_snr).sqrt()


def sigma(log_snr: Tensor) -> Tensor:
    """σ = √(1 − ᾱ) = √sigmoid(−λ), the factor on the noise; same shape, float64."""
    return alpha_bar(-log_snr).sqrt()


def _log_snr_of(minus_log_alpha_bar: Tensor) -> Tensor:
    """λ = −log(expm1(−log ᾱ)): exact where ᾱ is near 1."""
    return -torch.expm1(minus_log_alpha_bar).log()


@dataclass(frozen=True)
class Linear:
    """β rises linearly from 1e-4 to 0.02 in 1,000 steps (Ho et al. 2020, section 4), in continuous time.

    Agrees with the paper's table within 0.1 in λ, and stays valid down to T = 1, where scaling
    the table by 1000 / T would give β ≥ 1.
    """

    def log_snr(self, t: Tensor) -> Tensor:
        t = t.double()
        return _log_snr_of(0.1 * t + 9.95 * t**2)


@dataclass(frozen=True)
class Cosine:
    """ᾱ(t) = cos²(b) / cos²(a), b = (t + s) / (1 + s) · π/2, a = b(0) (Nichol & Dhariwal 2021, eq. 17).

    The angle runs not to π/2, where λ = −∞, but evenly to where λ = −12.
    """

    s: float = 0.008

    def __post_init__(self) -> None:
        _require(self.s >= 0, f"The cosine schedule's offset is {self.s}; it must not be negative.")

    def log_snr(self, t: Tensor) -> Tensor:
        start = self.s / (1 + self.s) * math.pi / 2
        end = math.acos(math.cos(start) * math.sqrt(1 / (1 + math.exp(-LOG_SNR_MIN))))
        angle = start + t.double() * (end - start)
        # cos²a − cos²b = sin(b − a) sin(b + a): no cancellation near the data.
        return 2 * angle.cos().log() - ((angle - start).sin() * (angle + start).sin()).log()


@dataclass(frozen=True)
class Polynomial:
    """ᾱ(t) = 1 − tᵖ, truncated where λ = −12."""

    p: float = 2.0

    def __post_init__(self) -> None:
        _require(self.p > 0, f"The polynomial schedule's power is {self.p}; it must be positive.")

    def log_snr(self, t: Tensor) -> Tensor:
        one_minus_alpha_bar = t.double() ** self.p / (1 + math.exp(LOG_SNR_MIN))
        return torch.log1p(-one_minus_alpha_bar) - one_minus_alpha_bar.log()


@dataclass(frozen=True)
class Sigmoid:
    """ᾱ(t) falls along a logistic curve from −``reach`` to ``reach`` (Jabri et al. 2022; Chen 2023, algorithm 1)."""

    reach: float = 3.0

    def __post_init__(self) -> None:
        _require(self.reach > 0, f"The sigmoid schedule's reach is {self.reach}; it must be positive.")

    def log_snr(self, t: Tensor) -> Tensor:
        low, high = 1 / (1 + math.exp(self.reach)), 1 / (1 + math.exp(-self.reach))
        last = high - (high - low) / (1 + math.exp(-LOG_SNR_MIN))
        end = math.log(last / (1 - last))
        level = (-self.reach + t.double() * (end + self.reach)).sigmoid()
        return (high - level).log() - (level - low).log()


@dataclass(frozen=True)
class Constant:
    """ᾱ(t) = exp(−c t): the same β at every step. c = 5 stands for 250 steps of β = 0.02.

    It need not reach noise: at c = 5, ᾱ(1) = 0.0067 and the run starts from a distribution that is not quite N(0, 1).
    """

    c: float = 5.0

    def __post_init__(self) -> None:
        _require(self.c > 0, f"The constant schedule's rate is {self.c}; it must be positive.")

    def log_snr(self, t: Tensor) -> Tensor:
        return _log_snr_of(self.c * t.double())


@dataclass(frozen=True)
class Table:
    """The table β_1 … β_T given by the user; −log ᾱ is linear between its entries, so T steps give it back."""

    betas: tuple[float, ...]

    def __post_init__(self) -> None:
        _require(len(self.betas) > 0, "The table of β is empty; it needs at least one value between 0 and 1.")
        for beta in self.betas:
            _require(0 < beta < 1, f"The table of β holds {beta}; every β must lie between 0 and 1, ends excluded.")

    def log_snr(self, t: Tensor) -> Tensor:
        rates = -torch.log1p(-torch.tensor(self.betas, dtype=torch.float64))
        knots = torch.cat([rates.new_zeros(1), rates.cumsum(0)])
        position = t.double() * len(self.betas)
        left = position.floor().long().clamp(0, len(self.betas) - 1)
        return _log_snr_of(knots[left] + (position - left) * rates[left])


SCHEDULES: dict[str, type] = {
    "linear": Linear,
    "cosine": Cosine,
    "polynomial": Polynomial,
    "sigmoid": Sigmoid,
    "constant": Constant,
}
"""The curves offered by name; each has defaults for its parameters."""


def grid(schedule: Schedule, steps: int) -> Tensor:
    """The ``steps + 1`` log-SNR values of a run, shape (T + 1,), float64, from noise to data.

    They are λ at t = 1, (T − 1)/T, …, 1/T and last +∞, the data itself. Raises ValueError if ``steps`` < 1.
    """
    _require(steps >= 1, f"The number of steps is {steps}; at least 1 is needed.")
    t = torch.arange(steps, 0, -1, dtype=torch.float64) / steps
    return torch.cat([schedule.log_snr(t), t.new_full((1,), math.inf)])


def betas(log_snrs: Tensor) -> Tensor:
    """β_T … β_1 of a grid of shape (T + 1,): β_t = 1 − ᾱ_t / ᾱ_{t−1}, shape (T,) (Ho et al. 2020, eq. 4)."""
    log_alpha_bar = logsigmoid(log_snrs.double())
    return -torch.expm1(log_alpha_bar[:-1] - log_alpha_bar[1:])


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
