"""The player of pictures: receives a run's frames as strings, keeps them, draws, replays and scrubs them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import gradio as gr
import numpy as np

from ddpm.data import Projection
from ddpm.engine import Frame
from ddpm.plots import CLASS_COLOURS, columns, projection
from ddpm.run import MODELS, Run, shown
from ddpm.ui.components.shared import component, message

VALUE_SCALE = 4096
"""Pixels travel as int16 multiples of 1 / 4096: ±8 with a step far below a grey level."""


def player(cloud: Projection, shape: Sequence[int]) -> gr.HTML:
    """The component for pictures of ``shape`` (C, H, W), with their paths drawn in the plane of ``cloud``."""
    setup = {
        "plane": json.loads(projection(cloud).to_json()),
        "colours": CLASS_COLOURS,
        "shape": list(shape),
        "scale": VALUE_SCALE,
    }
    return component("player", setup)


def start(run: Run, job: int, notes: Sequence[str]) -> str:
    """Opens the player on ``run``; ``job`` grows from run to run, ``notes`` are sentences for the visitor."""
    names = [*MODELS[run.model], "no label"]
    return message(
        kind="start",
        job=job,
        run=asdict(run),
        query=run.query(),
        notes=list(notes),
        frames=len(shown(run.steps)),
        labels=list(run.labels),
        names=names,
        columns=columns(run.count),
    )


def frame(step: Frame, job: int, cloud: Projection) -> str:
    """One step: x and x0 as int16, then both projected on the plane as float32."""
    pixels = [np.clip(value * VALUE_SCALE, -32768, 32767).round().astype("<i2") for value in (step.x, step.x0)]
    paths = [cloud(value).astype("<f4") for value in (step.x, step.x0)]
    level = {"index": step.index, "alphaBar": step.alpha_bar, "seconds": round(step.seconds, 3)}
    level["logSnr"] = step.log_snr if step.index else None
    return message(b"".join(part.tobytes() for part in pixels + paths), kind="frame", job=job, **level)
