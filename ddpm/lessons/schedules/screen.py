"""The schedules lesson's screen: packs all schedules into a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import gradio as gr
import torch

from ddpm.data import to_uint8
from ddpm.lessons.schedules.run import NAMES, QUANTITIES, Compared, Curves
from ddpm.page.components.shared import component, message
from ddpm.settings import parameters


def screen(pages: Mapping[str, str]) -> gr.HTML:
    """The component, with links to ``pages``, paths by name.

    It triggers ``select`` with a ``schedule`` that the visitor clicks, or with the ``handles`` that they have dragged.
    """
    setup = {"names": NAMES, "quantities": QUANTITIES, "pages": list(pages.items())}
    return component(Path(__file__).parent, setup, clock=False)


def start(curves: Curves, job: int, notes: Sequence[str]) -> str:
    """Opens the answer to ``curves``; ``notes`` are for the visitor. ``own`` is what goes with the schedule to other pages."""
    query = curves.query()
    own = {name: query[name] for name in ("schedule", *parameters(curves.schedule))}
    return message(kind="start", job=job, run=curves.values(), query=query, own=own, notes=list(notes))


def pack(shown: Compared, job: int, curves: Curves) -> str:
    """The answer: ``values`` as float32, then the pictures as bytes."""
    return message(
        shown.values.astype("<f4").tobytes() + to_uint8(torch.from_numpy(shown.pictures)).numpy().tobytes(),
        kind="compared",
        job=job,
        steps=shown.steps,
        stripSteps=shown.strip_steps,
        shape=shown.pictures.shape[2:],
        left=dict(zip(NAMES, shown.values[:, QUANTITIES.index("alpha_bar"), -1].tolist())),
        handles=curves.handles,
    )
