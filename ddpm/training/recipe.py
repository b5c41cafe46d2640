"""A training’s recipe as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.process import LogSnrDensity


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. ``ema`` is the largest decay a step, ``cooldown`` the share of the steps at the end
    over which the learning rates fall to 0. ``matrix_lr`` > 0 trains hidden matrices with Muon, ``matrix_decay`` is their
    weight decay: Muon's steps have one length, so without it weights grow and turn ever less."""

    steps: int
    batch: int
    lr: float = 2e-3
    matrix_lr: float = 0.0
    matrix_decay: float = 0.0
    warmup: int = 200
    cooldown: float = 0.3
    ema: float = 0.999
    label_dropout: float = 0.1
    density: LogSnrDensity = "cosine"
    clip_norm: float = 1.0
    bfloat16: bool = False
    compile: bool = False
    seed: int = 0
