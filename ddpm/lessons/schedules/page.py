"""The schedules lesson: all schedules over each other, a picture under each, and a table of one's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import gradio as gr
import torch
from PIL import Image

from ddpm.data import to_uint8
from ddpm.lessons.schedules.run import MOST_HANDLES, NAMES, QUANTITIES, SETTINGS, Curves, bendable, look, table_through
from ddpm.lessons.schedules.screen import pack, screen, start
from ddpm.page.builder import (
    DRAW_SEED,
    FOLLOWING,
    LATEX,
    QUIET,
    STREAMING,
    connect_presets,
    endpoint,
    follow_schedule,
    given,
    last,
    open_with_link,
    pictures_and_run,
    schedule,
    schedule_moved,
    seed,
    show_code,
    slider,
    stream,
    streamed,
    taking,
    to_settings,
    told,
    unseen,
)
from ddpm.page.client import Client, client_of
from ddpm.page.components.picker import picker
from ddpm.page.experiments import Experiment
from ddpm.plots import tile
from ddpm.schedule import SCHEDULES
from ddpm.serving.engine import Engine
from ddpm.settings import MOST_TEXT, TABLE, decode_betas, encode_betas

INTRODUCTION = """
# How fast should a picture disappear?
A noise schedule says how much noise each of the T steps adds. All of them begin with the picture and should end with noise
alone: look at how much signal is left at t = T, and at how many pictures of each strip still show something. Steps spent
where nothing is left, or nothing happens, are wasted. Choose one, bend a curve of your own, and try it on another page.
"""

FORMULAS = r"""
### The formulas
Step $t$ keeps the share $1-\beta_t$ of the variance and adds $\beta_t$ of noise. After $t$ steps the share of the signal is
$\bar\alpha_t = \prod_{s\le t}(1-\beta_s)$, and the log signal-to-noise ratio $\lambda_t = \log\frac{\bar\alpha_t}{1-\bar\alpha_t}$.
Our schedules are curves over the time $\tau = t/T$, so they hold for any $T$:

- **linear** (Ho et al. 2020, section 4): $\beta$ rises evenly; $\bar\alpha = \exp(-0.1\,\tau - 9.95\,\tau^2)$
- **cosine** (Nichol & Dhariwal 2021, eq. 17): $\bar\alpha \propto \cos^2\big(\tfrac{\tau+s}{1+s}\tfrac{\pi}{2}\big)$
- **polynomial**: $\bar\alpha = 1-\tau^p$ $\quad$ **constant**: $\bar\alpha = e^{-c\tau}$, the same $\beta$ in every step
- **sigmoid** (Jabri et al. 2022; Chen 2023, algorithm 1): $\bar\alpha$ falls along a logistic curve from −reach to reach
- **your own table**: the $\beta$ that you give; between its entries $-\log\bar\alpha$ is linear, so that it holds for any $T$ as well

Cosine, polynomial and sigmoid would end at $\lambda = -\infty$; they are cut off at $\lambda = -12$, where 0.0006 % of the signal is left.
"""

MOST_PASTED = 50_000
"""Characters of a pasted table that are looked at."""


PRESETS = {
    "Linear or cosine?": Experiment(
        Curves(schedule="linear", example=17, model="cifar10"),
        "Look at the right half of both strips. Under the linear schedule the last four pictures are noise to the eye: a "
        "sampler spends half of its steps there. The cosine schedule was made to spread the loss of the signal evenly.",
    ),
    "A schedule that never reaches noise": Experiment(
        Curves(schedule="constant", c=1.0, steps=50),
        "37 % of the signal is left at t = T: the digit is still there. A sampler that starts from pure noise starts from "
        "something that this process never makes. Send the schedule to another page to see what comes of it.",
    ),
    "Bend one yourself": Experiment(
        Curves(schedule=TABLE, table="0.02 0.03 0.05 0.3 0.6 0.7 0.5 0.6 0.7 0.95"),
        "This table falls steeply between t = 0.3 T and 0.6 T. Drag the rings: the strip of *your own table* follows, and "
        "β, on its logarithmic axis, shows how hard each step has to work.",
    ),
}


def lesson(engine: Engine, pages: Mapping[str, str]) -> None:
    """Adds the lesson to the ``gr.Blocks`` being built; ``pages`` are the lessons that take a schedule, paths by name."""

    def messages_of(curves: Curves, notes: list[str], client: Client) -> AsyncIterator[str]:
        return stream(
            engine,
            look(curves),
            client,
            lambda job: start(curves, job, notes),
            lambda shown, job: pack(shown, job, curves),
        )

    def curves(query: dict[str, Any], request: gr.Request) -> AsyncIterator[str]:
        """Streams what the page's screen gets of all schedules. A setting that is not allowed is corrected, and a note says so.

        Gives messages "header|payload" of a JSON object and base64: kind "start", "compared", "end". The payload of
        "compared" is six schedules in the order of its "left": ᾱ, 1 - ᾱ, √ᾱ, β and λ at its "steps", as float32; then
        the picture at its "stripSteps" as bytes.
        """
        return messages_of(*Curves.from_query(query), client_of(request))

    async def compare_schedules(query: dict[str, Any], request: gr.Request) -> tuple[Image.Image, dict[str, Any]]:
        """Compares all noise schedules of diffusion models at the same number of steps T.

        Gives one PNG, two pixels to the pixel, with a row a schedule: a picture at eight levels, the last at T. And an
        object with the settings used, the query of the page's link to the same, notes, the steps t from data to noise,
        and by the name of the schedule alpha_bar, one_minus_alpha_bar, sqrt_alpha_bar, beta and log_snr there.
        """
        asked, notes = Curves.from_query(query)
        found = await last(engine, look(asked), request)
        pictures = to_uint8(torch.from_numpy(found.pictures)).flatten(0, 1).numpy()
        schedules = {name: dict(zip(QUANTITIES, rows.tolist())) for name, rows in zip(NAMES, found.values)}
        told_of = told(asked, notes, steps=found.steps, schedules=schedules)
        return tile(pictures, 2, across=len(found.strip_steps)), told_of

    def bend(*values: Any) -> tuple[str, str]:
        return bendable(Curves.from_query(given(names, values))[0]), TABLE

    def values_of(curves: Curves) -> list[object]:
        example = gr.HTML(value=str(curves.example), sheet=curves.model)
        return [example if name == "example" else getattr(curves, name) for name in names]

    gr.Markdown(INTRODUCTION)
    with gr.Row(elem_id="presets"):
        presets = {name: gr.Button(name, size="sm", min_width=200) for name in PRESETS}
    to_settings()
    look_for = gr.Markdown(visible=False, elem_id="look-for")
    with gr.Row(elem_id="stage"):
        with gr.Column(scale=3, min_width=320):
            shown = screen(pages)
        with gr.Column(scale=1, min_width=280, elem_id="settings"):
            controls: dict[str, gr.components.Component] = schedule(Curves)
            bender = gr.Button("Bend the chosen curve", size="sm", elem_id="bend")
            controls |= _settings()
            dice = gr.Button("New noise", size="sm", elem_id="dice")
    gr.Markdown(FORMULAS, latex_delimiters=LATEX)

    names, inputs, show = list(controls), list(controls.values()), taking(controls, curves)
    streaming = {"outputs": shown, **STREAMING, "api_visibility": "private"}
    own = [controls["table"], controls["schedule"]]
    open_with_link(inputs, shown, curves, Curves.from_query, values_of)

    moved = [event for event in schedule_moved(controls) if event != controls["table"].submit]
    changed = [controls["model"].input, controls["example"].input, controls["steps"].release, controls["seed"].submit]
    gr.on([*changed, *moved], show, inputs, **streaming)
    controls["table"].submit(shortened, controls["table"], controls["table"], **FOLLOWING).then(
        show, inputs, **streaming
    )
    shown.select(_chosen, own, own, **FOLLOWING).then(show, inputs, **streaming)
    bender.click(bend, inputs, own, **FOLLOWING).then(show, inputs, **streaming)
    drawn = dice.click(None, None, controls["seed"], js=DRAW_SEED, api_visibility="private")
    drawn.then(show, inputs, **streaming)
    connect_presets(PRESETS, presets, inputs, look_for, values_of, show, shown)
    controls["model"].change(lambda model: gr.HTML(sheet=model), controls["model"], controls["example"], **QUIET)
    follow_schedule(controls)
    show_code(controls, Curves.from_query)
    about = "The number of the example, which is of class number modulo 10."
    typed = {**controls, "example": unseen(Curves.example, "Example", about)}
    streamed(curves, "curves", typed, shown, SETTINGS)
    endpoint(compare_schedules, "compare_schedules", typed, pictures_and_run(), SETTINGS)


def shortened(table: str) -> str:
    """A pasted table that is too long for a link as the same table in short; anything else as it is."""
    if not MOST_TEXT < len(table) <= MOST_PASTED:
        return table
    try:
        return encode_betas(decode_betas(table))
    except ValueError:
        return table


def _chosen(table: str, schedule: str, event: gr.EventData) -> tuple[str, str]:
    """The table and the schedule after a click on a schedule's name, or after handles were dragged."""
    asked = event._data or {}
    if asked.get("schedule") in (*SCHEDULES, TABLE):
        return table, asked["schedule"]
    handles = asked.get("handles")
    if isinstance(handles, list) and 0 < len(handles) <= MOST_HANDLES and all(_is_share(value) for value in handles):
        return table_through(handles), TABLE
    return table, schedule


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 < value <= 1


def _settings() -> dict[str, gr.components.Component]:
    return {
        "steps": slider(Curves, "steps", 1, "Steps T", "From data to noise."),
        "model": gr.Radio(
            [("digits", "mnist"), ("colour pictures", "cifar10")],
            value=Curves.model,
            label="Picture",
            info="Which examples to choose from.",
            elem_id="model",
        ),
        "example": picker(Curves.model, Curves.example),
        "seed": seed(Curves, "The noise drawn: the same seed gives the same. Press Enter."),
    }
