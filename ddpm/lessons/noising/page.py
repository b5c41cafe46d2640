"""The noising lesson: a picture disappears in noise, and the network says what it still sees in it."""

from __future__ import annotations

import asyncio
import math
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from ddpm.lessons.models import MODELS
from ddpm.lessons.noising.program import program
from ddpm.lessons.noising.run import DRAWN, EXAMPLE, UPLOADED, Noising, look, moment
from ddpm.lessons.noising.screen import errors, pack, row, screen, start
from ddpm.page.api import pictures_and_run, run_summary
from ddpm.page.builder import House, Lesson, Page, new_noise, read_text
from ddpm.page.components.pad import drawer
from ddpm.page.components.picker import picker
from ddpm.page.components.sketch import sketch
from ddpm.page.events import FOLLOWING, QUIET, show_for
from ddpm.page.experiments import described
from ddpm.page.stream import Answer, last
from ddpm.picture import PictureError, encode, from_file
from ddpm.plots import tile

SCALE = 4
"""Pixels to the pixel in the pictures that programs get."""

TEXT = read_text(Path(__file__).parent)

PRESETS = described(
    TEXT,
    {
        "Where does the digit vanish?": Noising(t=500, schedule="cosine"),
        "What is wrong with mixing?": Noising(model="cifar10", example=17, way="mix-uniform", t=500),
    },
)


def noise(house: House, asked: Noising, notes: list[str], request: gr.Request) -> Answer:
    """Streams what the page's screen gets of a noised picture. A setting that is not allowed is corrected, and a note says so.

    Gives messages "header|payload" of a JSON object and base64: kind "start"; "strip", the picture at eight levels
    as bytes; "moment", step t: the density of the pixel values in 64 bins from -4 to 4 as float32, then x0, noise / 3,
    x, the predicted noise / 3 and x0 as bytes; "measured", many draws of the four ways, as float32: the factors on x0,
    the variances, both their errors, what both should be, each ways × steps; "end".
    """
    told, network = [*notes, *_advice(asked)], house.models.pictures[asked.model]
    return Answer(look(asked, network), pack, start=lambda job: start(asked, job, told, everything=True))


def moved(house: House, asked: Noising, notes: list[str], request: gr.Request) -> Answer:
    """The moment alone, of a part of its own, so that moving t does not end what is being measured."""
    told, network = [*notes, *_advice(asked)], house.models.pictures[asked.model]
    return Answer(moment(asked, network), pack, start=lambda job: start(asked, job, told, everything=False), part="t")


async def noise_picture(
    house: House, asked: Noising, notes: list[str], request: gr.Request
) -> tuple[Image.Image, dict[str, Any]]:
    """Noises a small picture up to step t, and has a diffusion model say what is noise in it and what is not.

    Gives one PNG of five pictures, four pixels to the pixel: x0, the noise, x, the predicted noise, the predicted x0
    (noise / 3); and an object with the settings used, the query of the page's link to the same, notes, the log
    signal-to-noise ratio of x (null if no signal is left), x = signal · x0 + std · noise, and the root mean square
    of the errors of both predictions.
    """
    found = await last(house.engine, moment(asked, house.models.pictures[asked.model]), request)
    return tile(row(found), SCALE, across=5), run_summary(
        asked,
        [*notes, *_advice(asked)],
        log_snr=found.log_snr if math.isfinite(found.log_snr) else None,
        signal=found.signal,
        std=found.std,
        errors=errors(found),
    )


async def take(path: str) -> tuple[str, str]:
    """The upload as text, and that it is the picture to show. Raises gr.Error, in one sentence, for a wrong file."""
    try:
        return encode(await asyncio.to_thread(from_file, Path(path)), 8), UPLOADED
    except PictureError as error:
        raise gr.Error(escape(str(error), quote=False), print_exception=False, title="Not this file") from error


def _advice(asked: Noising) -> list[str]:
    """What a visitor should know of the settings chosen."""
    notes = []
    if asked.picture == DRAWN and not asked.drawing:
        notes.append("Nothing is drawn yet, so the picture is black: draw in the box.")
    if asked.inverted:
        notes.append("Your picture is bright at its edge, so it is shown inverted: the network knows white on black.")
    return notes


def _time() -> gr.Slider:
    said = Noising.declared()["t"]
    return gr.Slider(1, Noising.steps, Noising.t, step=1, label=said.label, info=said.info, elem_id="t")


def _fit(t: int, steps: int) -> gr.Slider:
    """The slider of t for another number of steps; of a single step there is nothing to choose, but it wants two."""
    return gr.Slider(value=min(t, steps), maximum=max(2, steps), interactive=steps > 1)


def _examples(model: str, picture: str) -> gr.HTML:
    """The picker with the examples of ``model``, empty if none is to be picked: hidden it would not come back."""
    return gr.HTML(sheet=model if picture == EXAMPLE else "")


def _clicked(event: gr.EventData) -> int:
    """The step that was clicked in the strip."""
    return int(event.t)


def _upload(page: Page) -> None:
    page.own.bring = gr.UploadButton("Upload a picture", size="sm", file_types=["image"], elem_id="upload")
    gr.Markdown(
        "Its middle square is kept, as small as the network’s pictures. It stays between you and this page: a link does not hold it.",
        elem_id="upload-info",
    )


def _connect(page: Page) -> None:
    controls, move = page.controls, page.handler(moved)
    page.stream(controls["t"].input, move, trigger_mode="always_last")
    page.stream(page.screen.select(_clicked, None, controls["t"], **FOLLOWING).then, move)
    page.draw_seed(page.own.dice, "seed", page.show)
    fitted = controls["steps"].release(_fit, [controls["t"], controls["steps"]], controls["t"], **FOLLOWING)
    page.stream(fitted.then, page.show)
    taken = page.own.bring.upload(take, [page.own.bring], [controls["upload"], controls["picture"]], **FOLLOWING)
    page.stream(taken.success, page.show)
    kind = [controls["model"], controls["picture"]]
    gr.on([one.change for one in kind], _examples, kind, controls["example"], **QUIET)
    show_for(controls["picture"], {page.own.drawer: [DRAWN]})


LESSON = Lesson(
    name="Noising",
    path="noising",
    first=Noising(),
    text=TEXT,
    screen=lambda house: screen(),
    program=program,
    answer=noise,
    tool=noise_picture,
    outputs=pictures_and_run,
    above=("t",),
    beside=(
        *("model", "picture", "example", "upload", drawer("drawing"), _upload),
        *("way", "steps", "schedule", "seed", new_noise),
    ),
    controls={
        "t": _time,
        "example": lambda: picker(MODELS, Noising.model, Noising.example),
        "upload": lambda: gr.State(""),
        "drawing": sketch,
    },
    updates=lambda asked: {
        "t": _fit(asked.t, asked.steps),
        "example": gr.HTML(value=str(asked.example), sheet=asked.model),
    },
    experiments=PRESETS,
    watched=("model", "picture", "example", "drawing", "way", "seed", "schedule"),
    connect=_connect,
)
