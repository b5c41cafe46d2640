"""Algorithm 2 line by line: the numbers in the lines of one reverse step, and what the step adds to its mean."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ddpm.lessons.pictures.run import Run
from ddpm.process import coefficients, posterior
from ddpm.sampling import Step
from ddpm.schedule import alpha_bar, betas, sigma

SECOND_ORDER = ("dpm-solver++", "heun")
"""The samplers that take DDIM's step and correct it, instead of drawing noise."""


class Lines(NamedTuple):
    """The numbers of the step from x_t to x_s, s = t − 1, as Ho et al. 2020 (algorithm 2) and Song et al. 2021 (eq. 12) write it.

    The mean is ``scale`` (x_t − ``removal`` ε̂) for DDPM, ``signal`` x̂0 + ``direction`` ε̂ for DDIM, and with the run's
    own η, between them, ``signal`` x̂0 + ``own_direction`` ε̂ = ``on_x`` x_t + ``on_x0`` x̂0.
    """

    alpha_bar: float
    """ᾱ_t."""
    alpha_bar_next: float
    """ᾱ_s."""
    alpha: float
    """α_t = ᾱ_t / ᾱ_s: unlike in the rest of this library, where α = √ᾱ."""
    beta: float
    """1 − α_t."""
    root: float
    """√ᾱ_t."""
    sigma: float
    """√(1 − ᾱ_t)."""
    scale: float
    """1 / √α_t."""
    removal: float
    """β_t / √(1 − ᾱ_t)."""
    std: float
    """σ_t of DDPM: √β̃_t, or √β_t for the sampler that has this variance."""
    signal: float
    """√ᾱ_s."""
    direction: float
    """√(1 − ᾱ_s)."""
    own_direction: float
    """√(1 − ᾱ_s − own_std²)."""
    own_std: float
    """σ_t of the run: η √β̃_t, √β_t, or 0."""
    on_x: float
    on_x0: float


def lines(run: Run, levels: Tensor) -> list[Lines]:
    """The numbers of each step of ``run`` from one of ``levels`` (n + 1,) to the next cleaner one: n of them."""
    t, s = levels[:-1], levels[1:]
    share, share_next, beta, deviation = alpha_bar(t), alpha_bar(s), betas(levels), sigma(t)
    own = coefficients(t, s, _eta(run))
    numbers = {
        "alpha_bar": share,
        "alpha_bar_next": share_next,
        "alpha": 1 - beta,
        "beta": beta,
        "root": share.sqrt(),
        "sigma": deviation,
        "scale": 1 / (1 - beta).sqrt(),
        "removal": beta / deviation,
        "std": _std(run, levels, 1.0),
        "signal": share_next.sqrt(),
        "direction": sigma(s),
        "own_direction": own.on_x * deviation,
        "own_std": _std(run, levels, _eta(run)),
        "on_x": own.on_x,
        "on_x0": own.on_x0,
    }
    return [Lines(*step) for step in torch.stack([numbers[name] for name in Lines._fields], 1).tolist()]


def added(run: Run, step: Step, log_snr_s: Tensor, x_s: Tensor) -> Tensor | None:
    """What the step of ``run`` to x_s (B, *D) adds to its mean: the drawn noise z (B, *D), 0 in the last step.

    For a sampler of SECOND_ORDER it is the correction x_s − mean; DDIM adds nothing: None.
    """
    if run.sampler == "ddim" and run.eta == 0:
        return None
    mean, _ = posterior(step.x, step.x0, step.log_snr, log_snr_s, _eta(run))
    if run.sampler in SECOND_ORDER or log_snr_s.isinf():
        return x_s - mean
    std = _std(run, torch.stack([step.log_snr, log_snr_s]), _eta(run)).to(x_s)
    # Of an η that vanishes in float32 nothing was added.
    return (x_s - mean) / std.clamp(min=torch.finfo(std.dtype).tiny)


def _eta(run: Run) -> float:
    """η of the mean that ``run`` takes."""
    sampler, eta, _ = run.method
    return {"ddim": eta, "ddpm-beta": 1.0}.get(sampler, 0.0)


def _std(run: Run, levels: Tensor, eta: float) -> Tensor:
    if run.sampler == "ddpm-beta":
        return betas(levels).sqrt()
    return coefficients(levels[:-1], levels[1:], eta).std
