"""The training's player: packs a training into messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import gradio as gr

from ddpm.lessons.points import FIELD_AXIS, SCALE, positions
from ddpm.lessons.train.run import Frame, Opening, Training
from ddpm.lessons.train.sessions import BUDGET
from ddpm.lessons.trained import LEVELS
from ddpm.page.components.shared import component, message

COOKIE = "ddpm_visitor"
"""Holds the visitor's secret name."""


def player() -> gr.HTML:
    """The component."""
    setup = {"fieldAxis": FIELD_AXIS.tolist(), "levels": LEVELS.tolist(), "scale": SCALE}
    setup |= {"budget": BUDGET, "cookie": COOKIE}
    return component(Path(__file__).parent, setup, ("field.css",))


class Told(NamedTuple):
    """What the player is told of a job besides what it computes: the training, notes for the visitor, and its ``frames``.

    If it ``goes_on``, the player keeps what it has shown of the same training. Of a ``loaded`` network, trained on so many
    batches, the settings that the page has are not the network's.
    """

    training: Training
    notes: Sequence[str]
    frames: int
    goes_on: bool = False
    loaded: int | None = None


def pack(shown: Opening | Frame | str, job: int, told: Told, left: float) -> str:
    """What the job gives as a message; ``left`` is what is left of the visitor's budget, in seconds."""
    if isinstance(shown, Opening):
        return start(shown, job, told)
    return note(shown, job) if isinstance(shown, str) else frame(shown, job, left)


def start(opening: Opening, job: int, told: Told) -> str:
    """Opens the player."""
    training, loaded = told.training, told.loaded
    return message(
        positions(opening.data) + opening.exact.astype("<f4").tobytes(),
        kind="start",
        job=job,
        run={**asdict(training), "steps": training.batches if loaded is None else loaded},
        query=training.query() if loaded is None else {},
        notes=list(told.notes),
        frames=told.frames,
        points=len(opening.data),
        least=opening.least,
        goesOn=told.goes_on,
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
