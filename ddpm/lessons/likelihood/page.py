"""The likelihood lesson: the variational bound of pictures and of toys, and which steps its bits are spent in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from ddpm.lessons.likelihood.program import program
from ddpm.lessons.likelihood.run import ONE, Likelihood, estimates, look, strata
from ddpm.lessons.likelihood.screen import pack, screen
from ddpm.lessons.models import MODELS
from ddpm.page.api import run_summary
from ddpm.page.builder import House, Lesson, Page, read_text
from ddpm.page.components.picker import picker
from ddpm.page.controls import control
from ddpm.page.events import FOLLOWING, QUIET
from ddpm.page.experiments import described
from ddpm.page.stream import Answer, last

TEXT = read_text(Path(__file__).parent)

PRESETS = described(
    TEXT,
    {
        "Where do the bits go?": Likelihood("cifar10"),
        "A schedule that never reaches noise": Likelihood("mnist", schedule="constant", c=2.0),
        "Exact, and still a gap": Likelihood("mixture1d", denoiser="exact"),
    },
)


def bounds(house: House, asked: Likelihood, notes: list[str], request: gr.Request) -> Answer:
    """Streams estimates of the bound as the page's screen gets them. A setting that is not allowed is corrected, and a note says so.

    Gives messages "header|payload" of a JSON object and base64: kind "start", with the ranges of t; "estimate", one
    after another, each with the terms of the bound and their standard errors, in bits per dimension, and as payload
    the mean term of each range and its error as float32; "end".
    """
    told, network = [*notes, *_advice(asked)], house.models.networks[asked.data]
    return Answer(look(asked, network), lambda shown, job: pack(shown, job, asked, told))


async def estimate_bound(house: House, asked: Likelihood, notes: list[str], request: gr.Request) -> dict[str, Any]:
    """Estimates how likely a diffusion model holds pictures or points: the variational bound, term by term.

    Gives an object with the settings used, the query of the page's link to the same, notes, and in bits per
    dimension: prior (L_T), matching (the sum of L_t-1), reconstruction (L_0), their total, and the exact value
    where it is known, each with its standard error; of each of the ranges of t its first and last t, the mean of one
    term and its standard error; and the evaluations of the network and the seconds that this took.
    """
    found = await last(house.engine, estimates(asked, house.models.networks[asked.data]), request)
    parts = {name: getattr(found, name) for name in ("prior", "matching", "reconstruction", "total", "exact")}
    return run_summary(
        asked,
        notes + _advice(asked),
        **{name: part and part._asdict() for name, part in parts.items()},
        ranges=[list(each) for each in strata(asked.steps)],
        terms=found.terms.tolist(),
        errors=found.errors.tolist(),
        evaluations=found.evaluations,
        seconds=round(found.seconds, 3),
    )


def _advice(asked: Likelihood) -> list[str]:
    """What a visitor should know of the settings chosen."""
    if asked.of_pictures and asked.denoiser == "exact":
        return ["The exact denoiser of pictures is known to nobody: the network is asked."]
    return []


def _denoiser() -> gr.Radio:
    """Hidden at first: of pictures no exact denoiser is known."""
    radio = control(Likelihood(), "denoiser")
    radio.visible = False
    return radio


def _fitting(data: str) -> list[object]:
    """Shows the controls that mean something for ``data``: pictures are chosen, of points the exact denoiser is known."""
    pictures = data in MODELS
    sheet = data if pictures else ""  # a picker that is hidden before it was ever shown does not come back
    return [gr.update(visible=pictures), gr.HTML(sheet=sheet), gr.update(visible=not pictures)]


def _buttons(page: Page) -> None:
    with gr.Row():
        page.own.dice = gr.Button("Estimate with new draws", size="sm", min_width=180, elem_id="dice")
        page.own.halt = gr.Button("Stop", size="sm", min_width=70, elem_id="stop")


def _connect(page: Page) -> None:
    controls = page.controls
    page.draw_seed(page.own.dice, "seed", page.show)
    page.stream(controls["example"].input(lambda: ONE, None, controls["of"], **FOLLOWING).then, page.show)
    page.own.halt.click(page.stop, None, None, **QUIET)
    shown = [controls[name] for name in ("of", "example", "denoiser")]
    controls["data"].change(_fitting, controls["data"], shown, **QUIET)


LESSON = Lesson(
    name="Likelihood",
    path="likelihood",
    first=Likelihood(),
    text=TEXT,
    screen=lambda house: screen(),
    program=program,
    answer=bounds,
    tool=estimate_bound,
    beside=("data", "of", "example", "denoiser", "steps", "schedule", "seed", _buttons),
    controls={"example": lambda: picker(MODELS, "mnist", Likelihood.example), "denoiser": _denoiser},
    updates=lambda asked: {"example": str(asked.example)},
    experiments=PRESETS,
    watched=("data", "of", "denoiser", "steps", "seed", "schedule"),
    connect=_connect,
)
