"""Denoisers known in closed form, for lessons and as the tests' oracle."""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm.process import Denoise, like
from ddpm.schedule import alpha, sigma


def gaussian_mixture(weights: Tensor, means: Tensor, std: float) -> Denoise:
    """E[x0 | x_t] when x0 is Σ_k w_k N(m_k, std² I): weights (K,), means (K, d), x (B, d).

    Each component's posterior mean is m_k + gain (x − α m_k) with gain = α std² / (α² std² + σ²).
    """

    def denoise(x: Tensor, log_snr: Tensor) -> Tensor:
        a, s = like(alpha(log_snr), x), like(sigma(log_snr), x)
        variance = a**2 * std**2 + s**2
        off = x[:, None, :] - a[..., None] * means.to(x)
        log_weight = weights.to(x).log() - off.square().sum(-1) / (2 * variance)
        mean = means.to(x) + (a * std**2 / variance)[..., None] * off
        return (log_weight.softmax(1)[..., None] * mean).sum(1)

    return denoise


def finite(points: Tensor) -> Denoise:
    """E[x0 | x_t] when x0 is one of ``points`` (N, *D), equally likely: their softmax-weighted mean; x is (B, *D)."""

    def denoise(x: Tensor, log_snr: Tensor) -> Tensor:
        data = points.to(x).flatten(1)
        a, s = (like(f(log_snr), x.flatten(1)) for f in (alpha, sigma))
        # |x − α x0| as α |x / α − x0|, so that each row may have its own α.
        distance = a * torch.cdist(x.flatten(1) / a, data, compute_mode="donot_use_mm_for_euclid_dist")
        return ((-distance.square() / (2 * s**2)).softmax(1) @ data).view_as(x)

    return denoise
