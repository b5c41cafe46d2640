"""The learning lesson's screen: packs a step of Algorithm 1, samples and the curves of the trainings into messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import gradio as gr
import numpy as np
import torch

from ddpm.data import to_uint8
from ddpm.lessons.learning.run import LABELS, PICTURES, SAMPLING_STEPS, STEPS, Learning, Samples, Shown
from ddpm.lessons.models import SNAPSHOTS, Snapshots
from ddpm.page.components.shared import component, message

NOISE_SHOWN = 3.0
"""Noise and x_t from −3 to 3 are drawn from black to white."""

ERROR_SHOWN = 2.0
"""|ε − ε̂| from 0 to 2 is drawn from dark to bright."""


def screen(trained: Mapping[str, Snapshots]) -> gr.HTML:
    """The component, set up with how the networks were ``trained``."""
    setup = {
        "shape": list(next(iter(trained.values())).networks[0].config.shape),
        "snapshots": SNAPSHOTS,
        "labels": LABELS,
        "pictures": PICTURES,
        "T": STEPS,
        "samplingSteps": SAMPLING_STEPS,
        "errorShown": ERROR_SHOWN,
        "trained": {name: {"steps": one.steps, "curves": one.curves} for name, one in trained.items()},
    }
    return component(Path(__file__).parent, setup, clock=False)


def start(asked: Learning, job: int, notes: Sequence[str], what: str) -> str:
    """Opens a job of ``what``, "step" or "samples"; ``notes`` are for the visitor."""
    return message(kind="start", what=what, job=job, run=asked.values(), query=asked.query(), notes=list(notes))


def step(shown: Shown, job: int) -> str:
    """The pictures, row by row, as bytes: x0, noise, x_t, then of each network ε̂ and |ε − ε̂|."""
    batch = shown.batch
    noise = batch.noise.numpy()
    rows = [_bytes(batch.x0.numpy()), _bytes(noise / NOISE_SHOWN), _bytes(batch.x.numpy())]
    for answer in shown.answers:
        off = np.abs(noise - answer.noise) / ERROR_SHOWN
        rows += [_bytes(answer.noise / NOISE_SHOWN), (255 * off.clip(0, 1)).round().astype(np.uint8).tobytes()]
    return message(
        b"".join(rows),
        kind="step",
        job=job,
        t=batch.t.tolist(),
        labels=batch.label.tolist(),
        alphaBars=batch.log_snr.sigmoid().tolist(),
        mean=float(noise.mean()),
        variance=float(noise.var()),
        errors={answer.name: [round(value, 6) for value in answer.error.tolist()] for answer in shown.answers},
        descent=shown.descent._asdict(),
    )


def samples(shown: Samples, job: int) -> str:
    """The samples of all networks at one step."""
    return message(_bytes(shown.x), kind="samples", job=job, index=shown.index)


def _bytes(pictures: np.ndarray) -> bytes:
    return to_uint8(torch.from_numpy(pictures)).numpy().tobytes()
