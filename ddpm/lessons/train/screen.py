"""The training's player: packs a training into messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import gradio as gr
import numpy as np

from ddpm.lessons.plane.screen import SCALE, positions
from ddpm.lessons.points import FIELD_AXIS
from ddpm.lessons.train.run import Frame, Training
from ddpm.lessons.train.sessions import BUDGET
from ddpm.lessons.trained import LEVELS
from ddpm.page.components.shared import component, message

COOKIE = "ddpm_visitor"
"""Holds the visitor's secret name."""


def player() -> gr.HTML:
    """The component."""
    setup = {"fieldAxis": FIELD_AXIS.tolist(), "levels": LEVELS.tolist(), "scale": SCALE}
    setup |= {"budget": BUDGET, "cookie": COOKIE}
    return component(Path(__file__).parent, setup, ("field.css", "drawing.js"))


def start(
    training: Training,
    job: int,
    notes: Sequence[str],
    frames: int,
    data: np.ndarray,
    exact: np.ndarray,
    least: float,
    goes_on: bool = False,
    loaded: int | None = None,
) -> str:
    """Opens the player on ``training`` with points of the ``data`` (N, 2) and the ``exact`` field (3, 400, 2).

    ``least`` is the exact denoiser's loss. If it ``goes_on``, the player keeps what it has shown of the same training.
    Of a ``loaded`` network, trained on so many batches, the settings that the page has are not the network's.
    """
    return message(
        positions(data) + exact.astype("<f4").tobytes(),
        kind="start",
        job=job,
        run={**asdict(training), "steps": training.batches if loaded is None else loaded},
        query=training.query() if loaded is None else {},
        notes=list(notes),
        frames=frames,
        points=len(data),
        least=least,
        goesOn=goes_on,
    )


def frame(shown: Frame, job: int, left: float) -> str:
    """One frame: the fields as float32, the particles as int16; ``left`` is what is left of the visitor's budget, in seconds."""
    return message(
        shown.fields.astype("<f4").tobytes() + positions(shown.x),
        kind="frame",
        job=job,
        index=shown.trained.batches,
        loss=shown.loss,
        heldOut=shown.held_out,
        distance=shown.distance,
        floor=shown.floor,
        left=left,
        seconds=BUDGET - left,
    )


def note(sentence: str, job: int) -> str:
    """Tells the visitor something about a job."""
    return message(kind="note", job=job, note=sentence)


def file(content: bytes, name: str, number: int) -> str:
    """Hands the visitor a file of the given ``name``; another ``number`` makes it another message."""
    return message(content, kind="file", name=name, number=number)
