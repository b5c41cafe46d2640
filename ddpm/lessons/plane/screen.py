"""The plane's player: packs a run in the plane into messages, and is set up with the axes that they refer to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gradio as gr
import numpy as np

from ddpm.lessons.plane.run import Frame, Opening, Plane
from ddpm.lessons.points import AXIS, FIELD_AXIS, SCALE, positions
from ddpm.lessons.shown import shown
from ddpm.page.components.shared import component, message, place_of
from ddpm.page.still import PLOTLY_3D, address


def player() -> gr.HTML:
    """The component."""
    setup = {"axis": AXIS.tolist(), "fieldAxis": FIELD_AXIS.tolist(), "scale": SCALE, "plotly3d": address(PLOTLY_3D)}
    return component(Path(__file__).parent, setup, ("field.css",))


def pack(shown: Opening | Frame, job: int, plane: Plane, notes: Sequence[str], particles: bool, learned: bool) -> str:
    """What the job gives as a message; ``notes`` are for the visitor."""
    if isinstance(shown, Opening):
        return start(plane, job, notes, particles, shown.data, learned)
    return frame(shown, job)


def start(plane: Plane, job: int, notes: Sequence[str], particles: bool, data: np.ndarray, learned: bool) -> str:
    """Opens the player on ``plane`` with points of the ``data`` (N, 2); ``notes`` are sentences for the visitor.

    ``learned`` says whether there is a network, so that frames have its field.
    """
    return message(
        positions(data),
        kind="start",
        job=job,
        run=plane.values(),
        query=plane.query(),
        notes=list(notes),
        frames=len(shown(plane.steps)),
        particles=plane.count if particles else 0,
        learned=learned,
    )


def frame(step: Frame, job: int) -> str:
    """One step: particles as int16, x̂0 of the field as float32, the density as a byte a cell, its highest 255."""
    fields = [field.astype("<f4").tobytes() for field in (step.learned, step.exact) if field is not None]
    peak = float(step.density.max())
    cells = np.rint(step.density * (255 / peak)).astype(np.uint8).tobytes()
    return message(
        b"".join([positions(step.x), *fields, cells]),
        kind="frame",
        job=job,
        **place_of(step),
        peak=peak,
        distance=step.distance,
        floor=step.floor,
    )
