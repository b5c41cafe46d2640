"""The lesson on the line: noise splits into two Gaussians, with all that is known exactly drawn beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from ddpm.lessons.line.program import program
from ddpm.lessons.line.run import Line, frames, look
from ddpm.lessons.line.screen import pack, player
from ddpm.lessons.words import NO_ETA
from ddpm.page.api import run_summary
from ddpm.page.builder import House, Lesson, Page, connect_run_buttons, read_text, run_buttons
from ddpm.page.events import FOLLOWING
from ddpm.page.stream import Answer, last
from ddpm.toys import MIXTURE_MEANS, MIXTURE_STD

_FIGURES = {
    "distribution": ("Figure: final distribution", {"figure": "distribution"}),
    "histories": ("Figure: 50 histories", {"figure": "histories", "paths": "50"}),
}
"""The figures of the exercise: a button's label, and what it sets in the player."""


def sample(house: House, line: Line, notes: list[str], request: gr.Request, samples: bool = True) -> Answer:
    """Streams a run, step by step, as the page's player gets it. A setting that is not allowed is corrected, and a note says so.

    Gives messages "header|payload" of a JSON object and base64: kind "start", "frame" for each shown step, "end". A
    frame's payload is little-endian: x0 on 401 points from -12 to 12 as float32, learned, then exact; how many
    samples lie in each of 240 bins from -12 to 12 as uint16; the first 100 samples as int16, 1024 to the unit.
    """
    told = [*notes, *_advice(line)]
    return Answer(look(line, house.models.line, samples), lambda shown, job: pack(shown, job, line, told, samples))


def curves(house: House, line: Line, notes: list[str], request: gr.Request) -> Answer:
    """The same without samples."""
    return sample(house, line, notes, request, samples=False)


async def generate_line(house: House, line: Line, notes: list[str], request: gr.Request) -> dict[str, Any]:
    """Samples numbers from a mixture of two Gaussians with a diffusion model, and answers once the run is over.

    Gives an object with the settings used, the query of the page's link to the same run, notes, seconds computed,
    how many samples lie in each of 240 bins from -12 to 12 (counts), the first 100 samples, and the weight,
    mean and standard deviation of the samples near each mode (modes; null where there are none).
    """
    end = await last(house.engine, frames(line, house.models.line), request)
    return run_summary(
        line,
        [*notes, *_advice(line)],
        counts=end.counts.astype(int).tolist(),
        samples=end.paths.tolist(),
        modes=[mode and mode._asdict() for mode in end.modes],
        seconds=round(end.seconds, 3),
    )


def _advice(line: Line) -> list[str]:
    """What a visitor should know of the settings chosen."""
    notes = []
    if line.eta > 0 and line.sampler != "ddim":
        notes.append(NO_ETA)
    if not line.is_exercise:
        notes.append(
            f"The network has learned one mixture only: weights 1 : 2, means ±{MIXTURE_MEANS[1]:g}, standard deviation {MIXTURE_STD:g}. "
            "It does not know that you have changed the data: compare its curve with the exact one below, and set "
            '"moved by" to exact for samples of your mixture.'
        )
    return notes


def _exercise(page: Page) -> None:
    with gr.Column(min_width=260):
        gr.Markdown(
            "**The exercise** in one click: weights 1 : 2, means ±4, standard deviation 1, T = 250, β = 0.02, DDPM."
        )
        with gr.Row():
            page.own.figures = {
                name: gr.Button(label, size="sm", min_width=150, elem_id=name) for name, (label, _) in _FIGURES.items()
            }


def _connect(page: Page) -> None:
    connect_run_buttons(page)
    for name, (_, layers) in _FIGURES.items():
        script = f"() => {{ window.ddpm.choose({layers!r}); return []; }}"
        exercise = page.own.figures[name].click(lambda: page.values(Line()), None, page.inputs, js=script, **FOLLOWING)
        page.stream(exercise.then, page.show)


LESSON = Lesson(
    name="On the line",
    path="line",
    first=Line(),
    text=read_text(Path(__file__).parent),
    screen=lambda house: player(),
    program=program,
    answer=sample,
    tool=generate_line,
    ask=(_exercise,),
    beside=(
        *("mean1", "mean2", "weight1", "weight2", "std", "denoiser", "count", "steps"),
        *("schedule", "sampler", "eta", "seed"),
    ),
    buttons=run_buttons,
    watched=("schedule", "mean1", "mean2", "weight1", "weight2", "std"),
    watcher=curves,
    connect=_connect,
)
