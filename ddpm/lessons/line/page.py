"""The lesson on the line: noise splits into two Gaussians, with all that is known exactly drawn beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from ddpm.lessons.line.run import SETTINGS, Line, frames
from ddpm.lessons.line.screen import frame, player, start
from ddpm.page.builder import (
    FOLLOWING,
    NO_ETA,
    SAMPLER_NAMES,
    STREAMING,
    buttons,
    connect,
    dropdown,
    endpoint,
    follow_schedule,
    last,
    moved_by,
    schedule,
    schedule_moved,
    seed,
    slider,
    stream,
    taking,
    told,
)
from ddpm.page.client import Client, client_of
from ddpm.process import Network
from ddpm.serving.engine import Engine
from ddpm.toys import MIXTURE_MEANS, MIXTURE_STD

INTRODUCTION = """
# How noise splits into two humps
Numbers x begin as pure noise on the left and end on the right, spread like the data: two Gaussians, one
twice as heavy as the other. Watch when a path makes up its mind, and that hardly one changes it later. Move the modes, and
see the exact answer follow at once, while the network goes on believing in those that it has learned.
"""

_NAMES = tuple(SETTINGS)

_DATA = ("mean1", "mean2", "weight1", "weight2", "std")

_FIGURES = {
    "distribution": ("Figure: final distribution", {"figure": "distribution"}),
    "histories": ("Figure: 50 histories", {"figure": "histories", "paths": "50"}),
}
"""The figures of the exercise: a button's label, and what it sets in the player."""


def lesson(engine: Engine, network: Network) -> None:
    """Adds the lesson to the ``gr.Blocks`` being built; ``network`` is the one trained on the exercise's mixture."""

    def messages_of(line: Line, notes: list[str], client: Client, samples: bool = True) -> AsyncIterator[str]:
        notes = notes + _advice(line)
        return stream(
            engine,
            frames(line, network, samples),
            client,
            lambda job: start(line, job, notes, samples),
            lambda shown, job: frame(shown, job, line.count),
        )

    def sample(query: dict[str, Any], request: gr.Request) -> AsyncIterator[str]:
        """Streams a run, step by step, as the page's player gets it. A setting that is not allowed is corrected, and a note says so.

        Gives messages "header|payload" of a JSON object and base64: kind "start", "frame" for each shown step, "end". A
        frame's payload is little-endian: x0 on 401 points from -12 to 12 as float32, learned, then exact; how many
        samples lie in each of 240 bins from -12 to 12 as uint16; the first 100 samples as int16, 1024 to the unit.
        """
        return messages_of(*Line.from_query(query), client_of(request))

    def curves(query: dict[str, Any], request: gr.Request) -> AsyncIterator[str]:
        return messages_of(*Line.from_query(query), client_of(request), samples=False)

    async def generate_line(query: dict[str, Any], request: gr.Request) -> dict[str, Any]:
        """Samples numbers from a mixture of two Gaussians with a diffusion model, and answers once the run is over.

        Gives an object with the settings used, the query of the page's link to the same run, notes, seconds computed,
        how many samples lie in each of 240 bins from -12 to 12 (counts), the first 100 samples, and the weight,
        mean and standard deviation of the samples near each mode (modes; null where there are none).
        """
        line, notes = Line.from_query(query)
        end = await last(engine, frames(line, network), request)
        return told(
            line,
            [*notes, *_advice(line)],
            counts=end.counts.astype(int).tolist(),
            samples=end.paths.tolist(),
            modes=[mode and mode._asdict() for mode in end.modes],
            seconds=round(end.seconds, 3),
        )

    gr.Markdown(INTRODUCTION)
    with gr.Row(elem_id="ask"):
        with gr.Column(min_width=260):
            gr.Markdown(
                "**The exercise** in one click: weights 1 : 2, means ±4, standard deviation 1, T = 250, β = 0.02, DDPM."
            )
            with gr.Row():
                figures = {
                    name: gr.Button(label, size="sm", min_width=150, elem_id=name)
                    for name, (label, _) in _FIGURES.items()
                }
        pressed = buttons()
    with gr.Row(elem_id="stage"):
        with gr.Column(scale=3, min_width=320):
            screen = player()
        with gr.Column(scale=1, min_width=280, elem_id="settings"):
            controls = _settings()

    controls = {name: controls[name] for name in _NAMES}
    inputs = list(controls.values())
    streaming = {"outputs": screen, **STREAMING}
    run = connect(engine, pressed, controls, screen, sample, Line.from_query, "sample")
    endpoint(generate_line, "generate_line", controls, [gr.JSON(label="Run", visible=False)], SETTINGS)
    for name, (_, layers) in _FIGURES.items():
        script = f"() => {{ window.ddpm.choose({layers!r}); return []; }}"
        shown = figures[name].click(
            lambda: list(Line().values().values()),
            None,
            inputs,
            js=script,
            **FOLLOWING,
        )
        shown.then(run, inputs, **streaming, api_visibility="private")
    # Only what the visitor does: what a link sets comes with a run of its own.
    seen = [*schedule_moved(controls), *(controls[name].release for name in _DATA)]
    gr.on(seen, taking(controls, curves), inputs, **streaming, api_visibility="private")
    follow_schedule(controls)


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


def _settings() -> dict[str, gr.components.Component]:
    return {
        "mean1": slider(Line, "mean1", 0.1, "Mean of the first mode", "Where the first Gaussian of the data lies."),
        "mean2": slider(Line, "mean2", 0.1, "Mean of the second mode", "Where the second one lies."),
        "weight1": slider(Line, "weight1", 1, "Weight of the first", "Its share of the data, against the second's."),
        "weight2": slider(Line, "weight2", 1, "Weight of the second", "1 : 2 is one third to two thirds."),
        "std": slider(Line, "std", 0.05, "Standard deviation", "The width of both."),
        "denoiser": moved_by(Line),
        "count": slider(Line, "count", 100, "Samples", "More make the histogram finer."),
        "steps": slider(Line, "steps", 1, "Steps T", "From noise to data: fewer are faster, more are more accurate."),
        **schedule(Line),
        "sampler": dropdown(Line, "sampler", "Sampler", "How one step follows from x̂₀.", SAMPLER_NAMES),
        "eta": slider(
            Line, "eta", 0.05, "Noise added on the way, η", "0: none, smooth paths (DDIM). 1: as much as DDPM."
        ),
        "seed": seed(Line, "The noise begun with: the same seed gives the same samples."),
    }
