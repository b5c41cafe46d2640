"""Denoisers known in closed form, for lessons and as the tests' oracle."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ddpm.process import Denoise, like
from ddpm.schedule import alpha, sigma

_ROWS = 128
"""Rows computed together: with a few thousand components their distances stay in the CPU's cache."""


def gaussian_mixture(weights: Tensor, means: Tensor, std: float) -> Denoise:
    """E[x0 | x_t] when x0 is Σ_k w_k N(m_k, std² I): weights (K,), means (K, d), x (B, d).

    With the variance v = α² std² + σ² of a component of x_t, this is (α std² x + σ² Σ_k r_k m_k) / v, where
    r_k ∝ w_k exp(−|x − α m_k|² / 2v). What of that square is the same for all k cancels; the rest is a matrix product.
    """

    def denoise(x: Tensor, log_snr: Tensor) -> Tensor:
        a, s, m = like(alpha(log_snr), x), like(sigma(log_snr), x), means.to(x)
        variance = a**2 * std**2 + s**2
        prior = weights.to(x).log() - a**2 / (2 * variance) * m.square().sum(1)
        rows = zip(prior.expand(len(x), -1).split(_ROWS), (a / variance * x).split(_ROWS))
        mean = torch.cat([torch.addmm(own, scaled, m.T).softmax(1) @ m for own, scaled in rows])
        return (a * std**2 * x + s**2 * mean) / variance

    return denoise


Density = Callable[[Tensor, Tensor], Tensor]
"""(axis (G,), λ ()) -> p_t on the grid of ``axis`` in each coordinate, (G,) or (G, G) float32, row by second coordinate."""


def gaussian_mixture_density(weights: Tensor, means: Tensor, std: float) -> Density:
    """p_t when x0 is Σ_k w_k N(m_k, std² I) on the line or in the plane: weights (K,), means (K, d)."""

    def density(axis: Tensor, log_snr: Tensor) -> Tensor:
        variance = alpha(log_snr) ** 2 * std**2 + sigma(log_snr) ** 2
        off = axis[:, None] - like(alpha(log_snr), axis) * means.T[:, None].to(axis)
        along = (off.square() * like(-0.5 / variance, axis)).exp() / like((2 * math.pi * variance).sqrt(), axis)
        return _on_grid(along, weights.to(axis))

    return density


LogDensity = Callable[[Tensor], Tensor]
"""x (B, d) -> log p(x) of the data itself, (B,) float64, in nats."""


def gaussian_mixture_log_density(weights: Tensor, means: Tensor, std: float) -> LogDensity:
    """log Σ_k w_k N(x; m_k, std² I): weights (K,), means (K, d)."""
    prior, means = weights.double().log() - means.shape[1] / 2 * math.log(2 * math.pi * std**2), means.double()

    def log_density(x: Tensor) -> Tensor:
        off = (
            torch.cdist(rows, means, compute_mode="donot_use_mm_for_euclid_dist") for rows in x.double().split(_ROWS)
        )
        return torch.cat([(prior - distance.square() / (2 * std**2)).logsumexp(1) for distance in off])

    return log_density


def boxes_log_density(low: Tensor, high: Tensor) -> LogDensity:
    """The log-density of one of K boxes, equally likely: corners ``low`` and ``high`` (K, d); −∞ outside them."""
    volume = (high - low).double().prod(1)

    def log_density(x: Tensor) -> Tensor:
        inside = ((low <= x[:, None]) & (x[:, None] <= high)).all(-1)
        return (inside / volume).mean(1).log()

    return log_density


def _on_grid(along: Tensor, weights: Tensor) -> Tensor:
    """Σ_k w_k times the product over coordinates of ``along`` (d, G, K): components that are products make a matrix one."""
    return along[0] @ weights if len(along) == 1 else along[1] @ (along[0] * weights).T


def finite(points: Tensor) -> Denoise:
    """E[x0 | x_t] when x0 is one of ``points`` (N, *D), equally likely: their softmax-weighted mean; x is (B, *D)."""

    def denoise(x: Tensor, log_snr: Tensor) -> Tensor:
        data = points.to(x).flatten(1)
        a, s = (like(f(log_snr), x.flatten(1)) for f in (alpha, sigma))
        # |x − α x0| as α |x / α − x0|, so that each row may have its own α.
        distance = a * torch.cdist(x.flatten(1) / a, data, compute_mode="donot_use_mm_for_euclid_dist")
        return ((-distance.square() / (2 * s**2)).softmax(1) @ data).view_as(x)

    return denoise


def boxes(low: Tensor, high: Tensor) -> Denoise:
    """E[x0 | x_t] when x0 is uniform in one of K boxes, equally likely: corners ``low`` and ``high`` (K, d), x (B, d).

    Without the box's walls x0 would be N(x / α, (σ / α)² I) given x_t. In units of that deviation, a wall pair at
    a < b truncates a coordinate to the mean (φ(a) − φ(b)) / (Φ(b) − Φ(a)), and Φ(b) − Φ(a) over the
    box's width is its likelihood.
    """

    def denoise(x: Tensor, log_snr: Tensor) -> Tensor:
        centre = (x.double() / like(alpha(log_snr), x.double()))[:, None]
        width = like(sigma(log_snr) / alpha(log_snr), centre)
        log_mass, mean = _truncated_normal((low - centre) / width, (high - centre) / width)
        share = (log_mass - (high - low).log()).sum(-1).softmax(1)
        inside = torch.clamp(centre + width * mean, low, high)
        return (share[..., None] * inside).sum(1).to(x)

    return denoise


def boxes_density(low: Tensor, high: Tensor) -> Density:
    """p_t when x0 is uniform in one of K boxes, equally likely: corners ``low`` and ``high`` (K, d), d = 1 or 2.

    In each coordinate (Φ((x − α low) / σ) − Φ((x − α high) / σ)) / (α (high − low)).
    """

    def density(axis: Tensor, log_snr: Tensor) -> Tensor:
        a, s, x = alpha(log_snr), sigma(log_snr).clamp(min=1e-9), axis[:, None].double()
        left, right = (a * edge.T[:, None] for edge in (low, high))
        inside = torch.special.ndtr((x - left) / s) - torch.special.ndtr((x - right) / s)
        return _on_grid((inside / (right - left)).to(axis), torch.full((len(low),), 1 / len(low)).to(axis))

    return density


def log_mass_between(a: Tensor, b: Tensor) -> Tensor:
    """The log of a standard normal's mass between a < b, which may be infinite; float64, exact in the far tails."""
    mirrored = a + b > 0  # Φ resolves its lower tail only
    a, b = torch.where(mirrored, -b, a), torch.where(mirrored, -a, b)
    upper = torch.special.log_ndtr(b)
    return upper + (-torch.expm1(torch.special.log_ndtr(a) - upper)).log()


def _truncated_normal(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The log of a standard normal's mass between a and b, and its mean there; float64, exact in the far tails."""
    log_mass, mirrored = log_mass_between(a, b), a + b > 0
    a, b = torch.where(mirrored, -b, a), torch.where(mirrored, -a, b)
    below, above = ((-(z**2) / 2 - math.log(2 * math.pi) / 2 - log_mass).exp() for z in (a, b))
    return log_mass, torch.where(mirrored, above - below, below - above)
