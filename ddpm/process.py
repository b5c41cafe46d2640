"""The forward process, its posterior, the three ways to say a prediction, and the training loss.

Shapes: x, x0, noise and v are (B, *D); log_snr is (B,) or (). Coefficients are computed in float64 and
applied in the dtype of x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ddpm.schedule import LOG_SNR_MIN, Linear, alpha, grid, sigma

Prediction = Literal["noise", "x0", "v"]


class Network(Protocol):
    """(x, log_snr, label) -> prediction, the shape of x; ``config`` says what it was made for."""

    config: Any

    def __call__(self, x: Tensor, log_snr: Tensor, label: Tensor, /) -> Tensor: ...


Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The same of which nothing else need be known: a network, or a function."""

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x of shape (B, *D), log_snr of shape (B,) or ()) -> x̂0 of shape (B, *D)."""

LOG_SNR_MAX = -LOG_SNR_MIN


def like(coefficient: Tensor, x: Tensor) -> Tensor:
    """``coefficient`` of shape (B,) or () as a tensor that multiplies x of shape (B, *D), in the dtype of x."""
    return coefficient.reshape(coefficient.shape + (1,) * (x.ndim - coefficient.ndim)).to(x)


def factors(log_snr: Tensor, x: Tensor) -> tuple[Tensor, Tensor] | tuple[float, float]:
    """α and σ at log_snr (B,) or (), as what multiplies x of shape (B, *D): numbers at one level for all rows."""
    if log_snr.ndim == 0:
        return _factors(log_snr.item())
    return like(alpha(log_snr), x), like(sigma(log_snr), x)


@lru_cache(maxsize=10_000)
def _factors(log_snr: float) -> tuple[float, float]:
    """Kept, as runs share their levels and small pictures are multiplied faster than these are worked out."""
    level = torch.tensor(log_snr, dtype=torch.float64)
    return alpha(level).item(), sigma(level).item()


def add_noise(x0: Tensor, noise: Tensor, log_snr: Tensor) -> Tensor:
    """x_t = α x0 + σ ε (Ho et al. 2020, eq. 4)."""
    a, s = factors(log_snr, x0)
    return a * x0 + s * noise


def transition(x: Tensor, noise: Tensor, log_snr_s: Tensor, log_snr_t: Tensor) -> Tensor:
    """x_t from x_s at a cleaner level s: (α_t / α_s) x_s + σ_t √(1 − SNR_t / SNR_s) ε (Ho et al. 2020, eq. 2)."""
    std = sigma(log_snr_t) * (-torch.expm1(log_snr_t.double() - log_snr_s.double())).sqrt()
    return like(alpha(log_snr_t) / alpha(log_snr_s), x) * x + like(std, x) * noise


def noise_from_x0(x: Tensor, x0: Tensor, log_snr: Tensor) -> Tensor:
    """ε = (x − α x0) / σ."""
    a, s = factors(log_snr, x)
    return (x - a * x0) / s


def x0_from_noise(x: Tensor, noise: Tensor, log_snr: Tensor) -> Tensor:
    """x0 = (x − σ ε) / α (Ho et al. 2020, eq. 15)."""
    a, s = factors(log_snr, x)
    return (x - s * noise) / a


def v_from_x0(x: Tensor, x0: Tensor, log_snr: Tensor) -> Tensor:
    """v = α ε − σ x0 = (α x − x0) / σ (Salimans & Ho 2022, section 4)."""
    a, s = factors(log_snr, x)
    return (a * x - x0) / s


def x0_from_v(x: Tensor, v: Tensor, log_snr: Tensor) -> Tensor:
    """x0 = α x − σ v (Salimans & Ho 2022, section 4)."""
    a, s = factors(log_snr, x)
    return a * x - s * v


def score_from_x0(x: Tensor, x0: Tensor, log_snr: Tensor) -> Tensor:
    """∇ log p_t(x) = −ε / σ (Song, Sohl-Dickstein et al. 2021, score SDEs; Tweedie's formula)."""
    _, s = factors(log_snr, x)
    return -noise_from_x0(x, x0, log_snr) / s


T = TypeVar("T", Tensor, float)


class Coefficients(NamedTuple, Generic[T]):
    """Of a reverse step: x_s = ``on_x`` x_t + ``on_x0`` x0 + ``std`` z; all float64, of the shape of the levels, or numbers."""

    on_x: T
    on_x0: T
    std: T


def coefficients(log_snr_t: Tensor, log_snr_s: Tensor, eta: float = 1.0) -> Coefficients[Tensor]:
    """What ``posterior`` multiplies with: k, α_s − k α_t and the standard deviation."""
    variance = eta**2 * -torch.expm1(log_snr_t.double() - log_snr_s.double()) * sigma(log_snr_s) ** 2
    k = (sigma(log_snr_s) ** 2 - variance).clamp(min=0).sqrt() / sigma(log_snr_t)
    return Coefficients(k, alpha(log_snr_s) - k * alpha(log_snr_t), variance.sqrt())


def posterior(x: Tensor, x0: Tensor, log_snr_t: Tensor, log_snr_s: Tensor, eta: float = 1.0) -> tuple[Tensor, Tensor]:
    """Mean (B, *D) and standard deviation, shaped to multiply it, of q(x_s | x_t, x0) for a cleaner level s.

    With c = 1 − SNR_t / SNR_s: variance = η² c σ_s², k = √(σ_s² − variance) / σ_t,
    mean = k x + (α_s − k α_t) x0. η = 1 is Ho et al. 2020, eq. 7; η = 0 is DDIM (Song et al. 2021, eq. 12;
    η scales the standard deviation as in their eq. 16). At λ_s = +∞ the mean is x0 and the deviation 0.
    """
    on_x, on_x0, std = coefficients(log_snr_t, log_snr_s, eta)
    return like(on_x, x) * x + like(on_x0, x) * x0, like(std, x)


_X0_FROM: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "noise": x0_from_noise,
    "x0": lambda x, x0, log_snr: x0,
    "v": x0_from_v,
}


def x0_from(prediction: Prediction) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The function (x, output, log_snr) -> x̂0 for a network that predicts ``prediction``."""
    return _X0_FROM[prediction]


FROM_X0: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "noise": noise_from_x0,
    "x0": lambda x, x0, log_snr: x0,
    "v": v_from_x0,
}
"""By what a network predicts, its answer at x if it takes x0 for the clean value: what ``x0_from`` turns round."""


def target(prediction: Prediction, x: Tensor, x0: Tensor, noise: Tensor, log_snr: Tensor) -> Tensor:
    """What a network that predicts ``prediction`` should answer at x."""
    if prediction == "noise":
        return noise
    return x0 if prediction == "x0" else v_from_x0_and_noise(x0, noise, log_snr)


def v_from_x0_and_noise(x0: Tensor, noise: Tensor, log_snr: Tensor) -> Tensor:
    """v = α ε − σ x0, without the division that loses digits where σ is small."""
    a, s = factors(log_snr, x0)
    return a * noise - s * x0


def cosine_density(u: Tensor) -> Tensor:
    """Uniform u in (0, 1) to λ in [−12, 12] with the density of the cosine schedule, λ = −2 log tan(π u' / 2).

    u' is u squeezed to the part of (0, 1) that maps into the range, so the density covers it and no more.
    """
    edge = 2 / math.pi * math.atan(math.exp(-LOG_SNR_MAX / 2))
    return -2 * torch.tan(math.pi / 2 * (edge + u.double() * (1 - 2 * edge))).log()


def uniform_density(u: Tensor) -> Tensor:
    """Uniform u in (0, 1) to λ uniform in [−12, 12]."""
    return LOG_SNR_MAX - u.double() * (LOG_SNR_MAX - LOG_SNR_MIN)


def steps_density(u: Tensor) -> Tensor:
    """Uniform u in [0, 1) to the λ of the linear schedule's 1,000 steps, each as likely (Ho et al. 2020, algorithm 1)."""
    return grid(Linear(), 1000).to(u.device)[(1000 * (1 - u.double())).long().clamp(max=999)]


LogSnrDensity = Literal["cosine", "uniform", "steps"]
DENSITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "cosine": cosine_density,
    "uniform": uniform_density,
    "steps": steps_density,
}


def stratified(count: int, generator: torch.Generator) -> Tensor:
    """``count`` numbers in (0, 1), shape (B,), one in each of as many equal intervals (Kingma et al. 2021, appendix I.1)."""
    device = generator.device
    shift = torch.rand((), generator=generator, dtype=torch.float64, device=device)
    return (torch.arange(count, dtype=torch.float64, device=device) + shift) / count


def loss(network: Predict, prediction: Prediction, x0: Tensor, noise: Tensor, log_snr: Tensor, label: Tensor) -> Tensor:
    """Squared error of each sample's prediction, averaged over its entries: shape (B,) (Ho et al. 2020, eq. 14)."""
    x = add_noise(x0, noise, log_snr)
    error = network(x, log_snr.to(x.dtype), label) - target(prediction, x, x0, noise, log_snr)
    return error.square().flatten(1).mean(1)


def seeded(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for a key of whole numbers from 0 to 2³² − 1, such as (seed, index).

    Different keys give unrelated streams, but for zeros at their end: (1,) and (1, 0) are one key.
    """
    for part in key:
        if not 0 <= part < 2**32:
            raise ValueError(f"A generator's key holds {part}; its parts are whole numbers from 0 to {2**32 - 1}.")
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(state)
