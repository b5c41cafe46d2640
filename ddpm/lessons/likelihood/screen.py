"""The likelihood lesson's screen: packs its estimates into messages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from ddpm.lessons.likelihood.run import REFERENCE, ROUNDS, Estimate, Likelihood, Mean, Opening, strata
from ddpm.page.components.shared import component, message

SHOWN = 20
"""Pictures shown of those that are averaged over."""


def screen() -> gr.HTML:
    """The component."""
    return component(Path(__file__).parent, {"rounds": ROUNDS, "reference": REFERENCE}, clock=False)


def pack(shown: Opening | Estimate, job: int, asked: Likelihood, notes: Sequence[str]) -> str:
    """What the job gives as a message; ``notes`` are for the visitor."""
    return start(asked, job, notes, shown) if isinstance(shown, Opening) else frame(shown, job)


def start(asked: Likelihood, job: int, notes: Sequence[str], opening: Opening) -> str:
    """Opens an estimate of ``asked`` with the pictures that it is of; ``notes`` are for the visitor."""
    pictures = opening.pictures
    return message(
        b"" if pictures is None else pictures[:SHOWN].numpy().tobytes(),
        kind="start",
        job=job,
        run=asked.values(),
        query=asked.query(),
        notes=list(notes),
        ranges=strata(asked.steps),
        shape=None if pictures is None else pictures.shape[1:],
        pictures=0 if pictures is None else len(pictures),
        byExact=asked.is_exact,
    )


def frame(estimate: Estimate, job: int) -> str:
    """One estimate: the mean term of each range of t and its error as float32, and the sums in the header."""
    return message(
        estimate.terms.astype("<f4").tobytes() + estimate.errors.astype("<f4").tobytes(),
        kind="estimate",
        job=job,
        evaluations=estimate.evaluations,
        seconds=round(estimate.seconds, 2),
        parts={name: list(getattr(estimate, name)) for name in ("prior", "matching", "reconstruction", "total")},
        exact=list(estimate.exact) if isinstance(estimate.exact, Mean) else None,
    )
