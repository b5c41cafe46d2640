"""The schedules lesson as one frozen value: all schedules beside each other, and a picture under each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ddpm.lessons.models import MODELS
from ddpm.lessons.shown import shown, strip_steps
from ddpm.lessons.words import EXAMPLE_INFO, MODEL_NAMES
from ddpm.picture import EXAMPLES, examples, fitted
from ddpm.process import add_noise, seeded
from ddpm.schedule import SCHEDULES, alpha_bar, betas, grid
from ddpm.serving.engine import Work
from ddpm.settings import (
    SEED,
    STEPS,
    TABLE,
    Choice,
    Number,
    Scheduled,
    decode_betas,
    encode_betas,
    scheduled,
    setting,
)

QUANTITIES = ("alpha_bar", "one_minus_alpha_bar", "sqrt_alpha_bar", "beta", "log_snr")
"""What is drawn of each schedule over t."""

MOST_HANDLES, HANDLES = 16, 10
"""A table of at most so many entries has a handle at each; a curve that is made bendable gets 10."""

NAMES = (*SCHEDULES, TABLE)


@dataclass(frozen=True)
class Curves(Scheduled):
    """Every setting of the schedules lesson: all NAMES with their parameters at T = ``steps``, one of them chosen.

    The picture under each is ``example`` of ``model``'s. Raises ValueError, in one sentence, for a setting that is not
    allowed.
    """

    model: str = setting(
        "mnist", Choice(tuple(MODELS)), "Picture", "Which examples to choose from.", names=MODEL_NAMES, look="radio"
    )
    example: int = setting(3, Number(0, EXAMPLES - 1, whole=True), "Example", EXAMPLE_INFO, look="typed")
    steps: int = setting(1000, STEPS, "Steps T", "From data to noise.")
    schedule: str = scheduled("cosine")
    seed: int = setting(0, SEED, "Seed", "The noise drawn: the same seed gives the same. Press Enter.", look="number")

    @property
    def handles(self) -> tuple[float, ...]:
        """ᾱ at the ends of the table's equal parts of time, none if it has too many to drag."""
        table = decode_betas(self.table)
        return tuple(np.cumprod(1 - np.array(table)).tolist()) if len(table) <= MOST_HANDLES else ()


class Compared(NamedTuple):
    """The schedules NAMES at the shown ``steps`` (K,): ``values`` (6, 5, K), the last of each 5 being λ.

    ``pictures`` (6, P, C, H, W) are x_t at the P ``strip_steps``, all with the same noise.
    """

    steps: tuple[int, ...]
    values: np.ndarray
    strip_steps: tuple[int, ...]
    pictures: np.ndarray


@torch.no_grad()
def compare(curves: Curves) -> Compared:
    """All schedules of ``curves``."""
    steps = sorted(shown(curves.steps, 200) - {0})
    in_strip = strip_steps(curves.steps)
    x0 = fitted(examples(curves.model)[curves.example], curves.model)[None]
    noise = torch.randn(x0.shape, generator=seeded(curves.seed))
    values, pictures = [], []
    for name in NAMES:
        levels = grid(curves.curve_of(name), curves.steps)
        log_snr, beta = levels[:-1].flip(0), betas(levels).flip(0)
        share = alpha_bar(log_snr)
        drawn = torch.stack([share, alpha_bar(-log_snr), share.sqrt(), beta, log_snr])
        values.append(drawn[:, [t - 1 for t in steps]])
        level = log_snr[[t - 1 for t in in_strip]]
        several = x0.expand(len(level), -1, -1, -1)
        pictures.append(add_noise(several, noise.expand_as(several), level))
    return Compared(tuple(steps), torch.stack(values).numpy(), tuple(in_strip), torch.stack(pictures).numpy())


def look(curves: Curves) -> Work:
    """The job of the lesson."""
    yield compare(curves)


# --- the visitor's own table ------------------------------------------------------------------------------------------


def table_through(alpha_bars: Sequence[float]) -> str:
    """The table of β whose ᾱ passes through ``alpha_bars``, from data to noise, as text."""
    shares = np.array([1.0, *alpha_bars])
    return encode_betas(1 - shares[1:] / shares[:-1])


def bendable(curves: Curves) -> str:
    """The chosen schedule as a table of HANDLES entries; its own table if that has a handle at each entry already."""
    if curves.schedule == TABLE and curves.handles:
        return curves.table
    return encode_betas(betas(grid(curves.curve, HANDLES)).flip(0).tolist())
