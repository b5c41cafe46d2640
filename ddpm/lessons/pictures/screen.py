"""The player of pictures: receives a run's frames as strings, keeps them, draws, replays and scrubs them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import gradio as gr
import numpy as np

from ddpm.lessons.models import MODELS
from ddpm.lessons.pictures.frames import Frame
from ddpm.lessons.pictures.run import Run
from ddpm.lessons.shown import shown
from ddpm.page.components.shared import component, message, place_of
from ddpm.plots import CLASS_COLOURS, columns, projection
from ddpm.projection import Projection


def player(cloud: Projection, shape: Sequence[int]) -> gr.HTML:
    """The component for pictures of ``shape`` (C, H, W), with their paths drawn in the plane of ``cloud``."""
    setup = {
        "plane": json.loads(projection(cloud).to_json()),
        "colours": CLASS_COLOURS,
        "shape": list(shape),
    }
    return component(Path(__file__).parent, setup, uses=("algorithm.css",))


def start(run: Run, job: int, notes: Sequence[str]) -> str:
    """Opens the player on ``run``; ``job`` grows from run to run, ``notes`` are sentences for the visitor."""
    names = [*MODELS[run.model], "no label"]
    return message(
        kind="start",
        job=job,
        run=run.values(),
        query=run.query(),
        notes=list(notes),
        frames=len(shown(run.steps)),
        labels=list(run.labels),
        names=names,
        columns=columns(run.count),
    )


def frame(step: Frame, job: int, cloud: Projection) -> str:
    """One step: x, the network's prediction, and what the step adds, if it adds something; then x and x0 in the plane.

    Pictures are int16 multiples of the units in ``scales``, the points float32. ``predicts`` says whether the prediction
    is "x0" or the "noise": from x and one the browser has the other, and this is the one that loses no digits.
    """
    predicts = "noise" if step.lines and step.log_snr > 0 else "x0"
    pictures = [step.x, getattr(step, predicts), *([] if step.added is None else [step.added])]
    scales = [max(float(np.abs(picture).max()), 1e-9) / 32767 for picture in pictures]
    pixels = [np.rint(picture / scale).astype("<i2") for picture, scale in zip(pictures, scales)]
    paths = [cloud(value).astype("<f4") for value in (step.x, step.x0)]
    return message(
        b"".join(part.tobytes() for part in pixels + paths),
        kind="frame",
        job=job,
        **place_of(step),
        predicts=predicts,
        scales=scales,
        lines=step.lines and step.lines._asdict(),
    )
