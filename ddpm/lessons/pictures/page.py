"""The lessons on pictures, digits and colour: controls for every setting of a run, and the player that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image

from ddpm.data import to_uint8
from ddpm.lessons.models import MODELS, STUDENTS
from ddpm.lessons.pictures.frames import frames
from ddpm.lessons.pictures.program import program
from ddpm.lessons.pictures.run import ANY, EACH, FEW, FIRST, Run
from ddpm.lessons.pictures.screen import frame, player, start
from ddpm.lessons.words import NO_ETA, left_over
from ddpm.page.api import named, pictures_and_run, run_summary
from ddpm.page.builder import House, Lesson, Page, connect_run_buttons, read_text, run_buttons
from ddpm.page.events import FOLLOWING
from ddpm.page.experiments import Experiment, described
from ddpm.page.stream import Answer, last
from ddpm.plots import tile

SCALE = 4
"""Pixels to the pixel in the pictures that programs get."""

MOST_ROWS = 25_000
"""How many times one run on the page may ask the network about a picture: 25 pictures at T = 1000, without guidance."""

TEXT = read_text(Path(__file__).parent)

_FOR_FEW = f"(sampler, ...others) => sampler === '{FEW}' ? [2, 'polynomial'] : others"
"""Sets the steps and the schedule that suit the student when it is chosen."""


def experiments(model: str) -> dict[str, Experiment]:
    """Of the lesson that draws with ``model``: by name, in the order of the page."""
    return described(
        TEXT,
        {
            "DDIM: the noise decides": Run(model),
            "DDPM, from the same noise": Run(model, eta=1.0),
            "Two steps: too few": Run(model, steps=2),
            "A constant β that never reaches noise": Run(model, schedule="constant", c=1.0),
            "Guidance: sure, but all alike": Run(model, MODELS[model][7], guidance=4.0),
            **(_in_few_steps(model) if model in STUDENTS else {}),
        },
    )


def _in_few_steps(model: str) -> dict[str, Run]:
    return {
        "One step of the network": Run(model, steps=1, schedule="polynomial"),
        "One step of a student": Run(model, steps=1, schedule="polynomial", sampler=FEW),
        "Two steps of the student": Run(model, steps=2, schedule="polynomial", sampler=FEW),
    }


def denoise(house: House, run: Run, notes: list[str], request: gr.Request) -> Answer:
    """Streams a run, step by step, as the page's player gets it. A setting that is not allowed is corrected, and a note says so.

    Gives messages "header|payload" of a JSON object and base64: kind "start", "frame" for each shown step, "end". A
    frame's payload is little-endian: x, what the header says the network "predicts" ("x0" or the "noise"), and what
    the step adds to its mean, if anything, as int16 times the header's "scales", count × C × H × W each; then x and
    x0 projected on the page's plane as float32, count × 2 each.
    """
    told, cloud = [*notes, *_advice(run)], house.models.clouds[run.model]
    work = frames(run, house.models.pictures[run.network])
    return Answer(work, lambda step, job: frame(step, job, cloud), start=lambda job: start(run, job, told))


async def generate(house: House, run: Run, notes: list[str], request: gr.Request) -> tuple[Image.Image, dict[str, Any]]:
    """Gives the pictures as one PNG, four pixels to the pixel, and an object with the settings used, the query of the page's link
    to the same run, notes, labels and seconds computed."""
    end = await last(house.engine, frames(run, house.models.pictures[run.network]), request)
    names = [*MODELS[run.model], "no label"]
    labels = [names[label] for label in run.labels]
    summary = run_summary(run, [*notes, *_advice(run)], labels=labels, seconds=round(end.seconds, 3))
    return tile(to_uint8(torch.from_numpy(end.x)).numpy(), SCALE), summary


def lesson(model: str, name: str, path: str, label: str, info: str, about: str) -> Lesson:
    """The lesson that draws with ``model``: ``label`` and ``info`` are its classes', ``about`` tells programs of it."""
    first = FIRST[path]

    def labels() -> gr.Radio:
        choices = [("one of each", EACH), *((each, each) for each in MODELS[model]), ("any (no label)", ANY)]
        value = first.label
        return gr.Radio(choices, value=value, label=label, info=info, elem_id="label", scale=2, min_width=300)

    return Lesson(
        name=name,
        path=path,
        first=first,
        text={**TEXT, "introduction": TEXT[model]},
        screen=lambda house: player(house.models.clouds[model], house.models.pictures[model].config.shape),
        program=program,
        answer=named(denoise, f"denoise_{model}", denoise.__doc__),
        tool=named(generate, f"generate_{model}", f"{about}\n\n{generate.__doc__}"),
        outputs=pictures_and_run,
        read=partial(read, first),
        ask=("label",),
        beside=("count", "steps", "schedule", "sampler", "eta", "guidance", "seed"),
        buttons=run_buttons,
        controls={"label": labels},
        experiments=experiments(model),
        connect=_connect,
    )


def read(first: Run, query: Mapping[str, Any]) -> tuple[Run, list[str]]:
    """The run of a link or of the controls on the page of ``first``, which has one model, and what had to be corrected."""
    run, notes = Run.from_query({**first.query(), **query, "model": first.model})
    if (asked := query.get("model", first.model)) != first.model:
        notes = [f"model = {str(asked)[:40]}: this page draws with {first.model}; other pages have the others.", *notes]
    return within_share(run, notes)


def _connect(page: Page) -> None:
    connect_run_buttons(page)
    chosen = [page.controls[name] for name in ("sampler", "steps", "schedule")]
    page.controls["sampler"].select(None, chosen, chosen[1:], js=_FOR_FEW, **FOLLOWING)


def within_share(run: Run, notes: list[str]) -> tuple[Run, list[str]]:
    """``run`` with as few pictures as a visitor's share of the machine allows, and one sentence more if that is fewer."""
    affordable = MOST_ROWS // run.rows_each
    if run.count <= affordable:
        return run, notes
    asked = f"{run.count} pictures at {run.steps} steps with these settings ask the network {run.count * run.rows_each:,} times"
    reason = f"a run may ask {MOST_ROWS:,} times, so that every visitor gets a turn"
    return replace(run, count=affordable), [*notes, f"{asked}; {reason}: {affordable} are computed."]


def _advice(run: Run) -> list[str]:
    """What a visitor should know of the settings chosen."""
    notes = []
    if run.label == ANY and run.guidance > 0:
        notes.append("Guidance pulls towards a label; with no label asked for, it has no effect.")
    if run.eta > 0 and run.sampler != "ddim":
        notes.append(NO_ETA)
    if run.sampler == FEW:
        notes += _advice_on_few(run)
    return notes + left_over(run.curve)


def _advice_on_few(run: Run) -> list[str]:
    notes = []
    if run.steps > 4:
        notes.append("The student was made to jump: T = 1, 2 or 4 are enough, more only take longer.")
    if run.guidance > 0:
        notes.append("The student has a guidance of w = 0.2 built in; w has no effect.")
    return notes


DIGITS = lesson(
    "mnist",
    "Digits",
    "",
    "Digit",
    "Which digit the network is asked for.",
    "Draws handwritten digits with a diffusion model trained on MNIST, and answers once they are finished.",
)

COLOUR = lesson(
    "cifar10",
    "Colour pictures",
    "colour",
    "Object",
    "Which kind of object the network is asked for.",
    "Paints small colour pictures with a diffusion model trained on CIFAR-10, and answers once they are finished.",
)
