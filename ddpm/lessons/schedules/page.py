"""The schedules lesson: all schedules over each other, a picture under each, and a table of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image

from ddpm.data import to_uint8
from ddpm.lessons.models import MODELS
from ddpm.lessons.schedules.program import program
from ddpm.lessons.schedules.run import MOST_HANDLES, NAMES, QUANTITIES, Curves, bendable, look, table_through
from ddpm.lessons.schedules.screen import pack, screen, start
from ddpm.page.api import pictures_and_run, run_summary
from ddpm.page.builder import House, Lesson, Page, new_noise, read_text
from ddpm.page.components.picker import picker
from ddpm.page.events import FOLLOWING, QUIET, given
from ddpm.page.experiments import described
from ddpm.page.stream import Answer, last
from ddpm.plots import tile
from ddpm.schedule import SCHEDULES
from ddpm.settings import MOST_TEXT, SCHEDULE, TABLE, decode_betas, encode_betas

MOST_PASTED = 50_000
"""Characters of a pasted table that are looked at."""

TEXT = read_text(Path(__file__).parent)

PRESETS = described(
    TEXT,
    {
        "Linear or cosine?": Curves(schedule="linear", example=17, model="cifar10"),
        "A schedule that never reaches noise": Curves(schedule="constant", c=1.0, steps=50),
        "Bend one yourself": Curves(schedule=TABLE, table="0.02 0.03 0.05 0.3 0.6 0.7 0.5 0.6 0.7 0.95"),
    },
)


def curves(house: House, asked: Curves, notes: list[str], request: gr.Request) -> Answer:
    """Streams what the page's screen gets of all schedules. A setting that is not allowed is corrected, and a note says so.

    Gives messages "header|payload" of a JSON object and base64: kind "start", "compared", "end". The payload of
    "compared" is six schedules in the order of its "left": ᾱ, 1 - ᾱ, √ᾱ, β and λ at its "steps", as float32; then
    the picture at its "stripSteps" as bytes.
    """
    return Answer(look(asked), lambda shown, job: pack(shown, job, asked), start=lambda job: start(asked, job, notes))


async def compare_schedules(
    house: House, asked: Curves, notes: list[str], request: gr.Request
) -> tuple[Image.Image, dict[str, Any]]:
    """Compares all noise schedules of diffusion models at the same number of steps T.

    Gives one PNG, two pixels to the pixel, with a row a schedule: a picture at eight levels, the last at T. And an
    object with the settings used, the query of the page's link to the same, notes, the steps t from data to noise,
    and by the name of the schedule alpha_bar, one_minus_alpha_bar, sqrt_alpha_bar, beta and log_snr there.
    """
    found = await last(house.engine, look(asked), request)
    pictures = to_uint8(torch.from_numpy(found.pictures)).flatten(0, 1).numpy()
    schedules = {name: dict(zip(QUANTITIES, rows.tolist())) for name, rows in zip(NAMES, found.values)}
    summary = run_summary(asked, notes, steps=found.steps, schedules=schedules)
    return tile(pictures, 2, across=len(found.strip_steps)), summary


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


def _bender(page: Page) -> None:
    page.own.bender = gr.Button("Bend the chosen curve", size="sm", elem_id="bend")


def _connect(page: Page) -> None:
    controls, own = page.controls, [page.controls["table"], page.controls["schedule"]]

    def bend(*values: Any) -> tuple[str, str]:
        return bendable(Curves.from_query(given(list(controls), values))[0]), TABLE

    parameters = [controls[name].release for name in SCHEDULE if name not in ("schedule", "table")]
    page.stream_on([controls["schedule"].select, *parameters], page.show)
    page.stream(controls["table"].submit(shortened, controls["table"], controls["table"], **FOLLOWING).then, page.show)
    page.stream(page.screen.select(_chosen, own, own, **FOLLOWING).then, page.show)
    page.stream(page.own.bender.click(bend, page.inputs, own, **FOLLOWING).then, page.show)
    page.draw_seed(page.own.dice, "seed", page.show)
    controls["model"].change(lambda model: gr.HTML(sheet=model), controls["model"], controls["example"], **QUIET)


LESSON = Lesson(
    name="Schedules",
    path="schedules",
    first=Curves(),
    text=TEXT,
    screen=lambda house: screen({name: path for name, path in house.scheduled.items() if path != "schedules"}),
    program=program,
    answer=curves,
    tool=compare_schedules,
    outputs=pictures_and_run,
    beside=("schedule", _bender, "steps", "model", "example", "seed", new_noise),
    controls={"example": lambda: picker(MODELS, Curves.model, Curves.example)},
    updates=lambda asked: {"example": gr.HTML(value=str(asked.example), sheet=asked.model)},
    experiments=PRESETS,
    watched=("model", "example", "steps", "seed"),
    connect=_connect,
)
