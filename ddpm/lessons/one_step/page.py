"""The lesson on few steps: the network and its student draw from the same noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image

from ddpm.data import to_uint8
from ddpm.lessons.one_step.program import program
from ddpm.lessons.one_step.run import MODEL, PICTURES, OneStep, draw
from ddpm.lessons.one_step.screen import pack, screen, start
from ddpm.page.api import pictures_and_run, run_summary
from ddpm.page.builder import House, Lesson, new_noise, read_text
from ddpm.page.stream import Answer, every_frame
from ddpm.plots import tile


def one_step(house: House, asked: OneStep, notes: list[str], request: gr.Request) -> Answer:
    """Streams what the page's screen gets. A setting that is not allowed is corrected, and a note says so.

    Gives messages "header|payload" of a JSON object and base64: kind "start"; "row", ten digits as bytes, for each way to
    draw them, from the same noise; "end".
    """
    return Answer(draw(asked, house.models.pictures), pack, start=lambda job: start(asked, job, notes))


async def draw_in_few_steps(
    house: House, asked: OneStep, notes: list[str], request: gr.Request
) -> tuple[Image.Image, dict[str, Any]]:
    """Draws ten digits from the same noise by a diffusion model in 1 and 50 steps and by its student in 1, 2 and 4.

    Gives one PNG, four pixels to the pixel, with a row for each way; and an object with the settings used, the query of
    the page's link to the same, notes, and of each row the network, its number of steps and the seconds computed.
    """
    rows = await every_frame(house.engine, draw(asked, house.models.pictures), request)
    pictures = to_uint8(torch.from_numpy(np.concatenate([row.x for row in rows]))).numpy()
    ways = [{"network": row.way.network, "steps": row.way.steps, "seconds": round(row.seconds, 3)} for row in rows]
    return tile(pictures, 4, across=PICTURES), run_summary(asked, notes, rows=ways)


LESSON = Lesson(
    name="In one step",
    path="one-step",
    first=OneStep(),
    text=read_text(Path(__file__).parent),
    screen=lambda house: screen(house.models.pictures[MODEL].config.shape),
    program=program,
    answer=one_step,
    tool=draw_in_few_steps,
    outputs=pictures_and_run,
    beside=("label", "seed", new_noise),
    watched=("label", "seed"),
    connect=lambda page: page.draw_seed(page.own.dice, "seed", page.show),
)
