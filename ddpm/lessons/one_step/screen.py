"""The few steps lesson's screen: packs a row of pictures into a message."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gradio as gr
import torch

from ddpm.data import to_uint8
from ddpm.lessons.one_step.run import MODEL, WAYS, OneStep, Row
from ddpm.page.components.shared import component, message


def screen(shape: Sequence[int]) -> gr.HTML:
    """The component for pictures of ``shape`` (C, H, W)."""
    ways = [{"student": way.network != MODEL, "steps": way.steps, "guidance": way.guidance} for way in WAYS]
    return component(Path(__file__).parent, {"ways": ways, "shape": list(shape)}, clock=False)


def start(asked: OneStep, job: int, notes: Sequence[str]) -> str:
    """Opens the answer to ``asked``; ``notes`` are for the visitor."""
    return message(kind="start", job=job, run=asked.values(), query=asked.query(), notes=list(notes))


def pack(row: Row, job: int) -> str:
    """A row, as bytes."""
    pixels = to_uint8(torch.from_numpy(row.x)).numpy().tobytes()
    return message(pixels, kind="row", job=job, place=WAYS.index(row.way), seconds=round(row.seconds, 3))
