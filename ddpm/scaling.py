"""The coordinates that a network works in, beside those of the data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm.process import Denoise, like
from ddpm.schedule import alpha, sigma


@dataclass(frozen=True)
class Scaling:
    """z = (x − shift) / scale, with a shift (d,) and one scale > 0 for all coordinates, so that noise stays round."""

    shift: tuple[float, ...]
    scale: float

    def into(self, x: Tensor) -> Tensor:
        """Data coordinates x (B, d) to the network's."""
        return (x - torch.tensor(self.shift)) / self.scale

    def back(self, z: Tensor) -> Tensor:
        """The network's coordinates z (B, d) to the data's."""
        return self.scale * z + torch.tensor(self.shift)

    @property
    def inverse(self) -> Scaling:
        """The scaling that takes z to x."""
        return Scaling(tuple(-value / self.scale for value in self.shift), 1 / self.scale)

    def around(self, denoise: Denoise) -> Denoise:
        """A denoiser in z as one in x.

        x_t = α x0 + σ ε with x0 = shift + scale z0 is, but for shift and length, a noised z0:
        (x_t − α shift) / √(α² scale² + σ²) = α' z0 + σ' ε with α'² + σ'² = 1 and the log-SNR λ + 2 log scale.
        """
        if self.scale == 1 and not any(self.shift):
            return denoise
        offset = 2 * math.log(self.scale)

        def rescaled(x: Tensor, log_snr: Tensor) -> Tensor:
            a, s = alpha(log_snr), sigma(log_snr)
            length = (a**2 * self.scale**2 + s**2).sqrt()
            z = (x - like(a, x) * torch.tensor(self.shift)) / like(length, x)
            return self.back(denoise(z, log_snr + offset))

        return rescaled


AS_IT_IS = Scaling((0.0, 0.0), 1.0)
"""Of points in the plane whose coordinates the network takes as they are."""


def _to_unit(points: Tensor) -> Scaling:
    low, high = points.amin(0), points.amax(0)
    return _scaling((low + high) / 2, (high - low).max() / 2)


def _to_tenth(points: Tensor) -> Scaling:
    unit = _to_unit(points)
    return Scaling(unit.shift, 10 * unit.scale)


def _standardised(points: Tensor) -> Scaling:
    return _scaling(points.mean(0), points.var(0, correction=0).mean().sqrt())


def _scaling(shift: Tensor, scale: Tensor) -> Scaling:
    return Scaling(tuple(shift.tolist()), max(float(scale), 1e-3))  # a single point has no extent


SCALINGS: dict[str, Callable[[Tensor], Scaling]] = {
    "unit": _to_unit,
    "standard": _standardised,
    "small": _to_tenth,
    "none": lambda points: AS_IT_IS,
}
"""Points (N, 2) -> their scaling: the widest coordinate to [−1, 1]; mean 0 and mean variance 1; to [−0.1, 0.1]; none at all."""
