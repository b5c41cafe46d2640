"""Algorithm 2 line by line: the numbers in the lines of one reverse step, and what the step adds to its mean."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm.process import coefficients, posterior
from ddpm.run import Run
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


def lines(run: Run, log_snr_t: Tensor, log_snr_s: Tensor) -> Lines:
    """The numbers of the step of ``run`` from level t to the next cleaner level s, both ()."""
    share, share_next = (float(alpha_bar(level)) for level in (log_snr_t, log_snr_s))
    beta, deviation = float(betas(torch.stack([log_snr_t, log_snr_s]))), float(sigma(log_snr_t))
    own, std = coefficients(log_snr_t, log_snr_s, _eta(run)), float(_std(run, log_snr_t, log_snr_s, 1.0))
    return Lines(
        alpha_bar=share,
        alpha_bar_next=share_next,
        alpha=1 - beta,
        beta=beta,
        root=math.sqrt(share),
        sigma=deviation,
        scale=1 / math.sqrt(1 - beta),
        removal=beta / deviation,
        std=std,
        signal=math.sqrt(share_next),
        direction=float(sigma(log_snr_s)),
        own_direction=float(own.on_x) * deviation,
        own_std=float(_std(run, log_snr_t, log_snr_s, _eta(run))),
        on_x=float(own.on_x),
        on_x0=float(own.on_x0),
    )


def added(run: Run, step: Step, log_snr_s: Tensor, x_s: Tensor) -> Tensor | None:
    """What the step of ``run`` to x_s (B, *D) adds to its mean: the drawn noise z (B, *D), 0 in the last step.

    For a sampler of SECOND_ORDER it is the correction x_s − mean; DDIM adds nothing: None.
    """
    if run.sampler == "ddim" and run.eta == 0:
        return None
    mean, _ = posterior(step.x, step.x0, step.log_snr, log_snr_s, _eta(run))
    if run.sampler in SECOND_ORDER or log_snr_s.isinf():
        return x_s - mean
    return (x_s - mean) / _std(run, step.log_snr, log_snr_s, _eta(run)).to(x_s)


def _eta(run: Run) -> float:
    """η of the mean that ``run`` takes."""
    return {"ddim": run.eta, "ddpm-beta": 1.0}.get(run.sampler, 0.0)


def _std(run: Run, log_snr_t: Tensor, log_snr_s: Tensor, eta: float) -> Tensor:
    if run.sampler == "ddpm-beta":
        return betas(torch.stack([log_snr_t, log_snr_s]))[0].sqrt()
    return coefficients(log_snr_t, log_snr_s, eta).std
