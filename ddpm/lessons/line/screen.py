"""The line's player: packs a run on the line into messages, and is set up with the axis that they refer to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gradio as gr
import numpy as np

from ddpm.lessons.line.run import AXIS, BINS, EDGE, Frame, Line, Mode, Opening
from ddpm.lessons.shown import shown
from ddpm.page.components.shared import component, message, place_of

SCALE = 1024
"""Positions travel as int16 multiples of 1 / 1024: ±32."""


def player() -> gr.HTML:
    """The component."""
    return component(Path(__file__).parent, {"axis": AXIS.tolist(), "edge": EDGE, "bins": BINS, "scale": SCALE})


def pack(shown: Opening | Frame, job: int, line: Line, notes: Sequence[str], samples: bool) -> str:
    """What the job gives as a message; ``notes`` are for the visitor."""
    return start(line, job, notes, samples, shown) if isinstance(shown, Opening) else frame(shown, job, line.count)


def start(line: Line, job: int, notes: Sequence[str], samples: bool, opening: Opening) -> str:
    """Opens the player on ``line`` with p_t at every shown step, uint16 of its peak; ``notes`` are for the visitor."""
    density = opening.densities
    peak = float(density.max())
    return message(
        np.rint(density * (65535 / peak)).astype("<u2").tobytes(),
        kind="start",
        job=job,
        run=line.values(),
        query=line.query(),
        notes=list(notes),
        frames=len(density),
        shown=sorted(shown(line.steps), reverse=True),
        peak=peak,
        samples=line.count if samples else 0,
        trained=line.is_exercise,
        truth=[mode._asdict() for mode in opening.truth],
    )


def frame(step: Frame, job: int, count: int) -> str:
    """One step of ``count`` samples: x̂0 on the axis, learned and exact, as float32, the followed samples as int16, the counts as uint16."""
    fields = np.stack([step.learned, step.exact]).astype("<f4").tobytes()
    paths = np.clip(step.paths * SCALE, -32768, 32767).round().astype("<i2").tobytes()
    return message(
        fields + step.counts.astype("<u2").tobytes() + paths,
        kind="frame",
        job=job,
        **place_of(step),
        modes=step.modes and [_estimate(mode, count) for mode in step.modes],
    )


def _estimate(mode: Mode | None, count: int) -> dict | None:
    return mode and {**mode._asdict(), "errors": mode.standard_errors(count)._asdict()}
