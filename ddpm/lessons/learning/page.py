"""The learning lesson: Algorithm 1 line by line on a real batch, and the network as it was while it was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image

from ddpm.data import to_uint8
from ddpm.lessons.learning import screen as packing
from ddpm.lessons.learning.program import program
from ddpm.lessons.learning.run import Learning, samples, step
from ddpm.page.api import pictures_and_run, run_summary
from ddpm.page.builder import House, Lesson, Page, read_text
from ddpm.page.controls import moved
from ddpm.page.experiments import described
from ddpm.page.stream import Answer, last
from ddpm.plots import tile

TEXT = read_text(Path(__file__).parent)

PRESETS = described(TEXT, {"Before the first step": Learning("0"), "What two convolutions cannot do": Learning("end")})


def one_step(house: House, asked: Learning, notes: list[str], request: gr.Request) -> Answer:
    """The step of training alone."""
    work = step(asked, house.models.snapshots)
    return Answer(work, packing.step, start=lambda job: packing.start(asked, job, notes, "step"))


def drawings(house: House, asked: Learning, notes: list[str], request: gr.Request) -> Answer:
    """The samples alone, of a part of their own, so that looking at another step does not end those under way."""
    work = samples(asked, house.models.samplers)
    return Answer(work, packing.samples, start=lambda job: packing.start(asked, job, [], "samples"), part="samples")


def learning(house: House, asked: Learning, notes: list[str], request: gr.Request) -> list[Answer]:
    """Streams what the page's screen gets of a step of training, then of samples. A setting that is not allowed is corrected, and a note says so.

    Gives messages "header|payload" of a JSON object and base64: kind "start"; "step", whose payload is rows of eight
    pictures as bytes: x0, noise / 3, x, then of each network the predicted noise / 3 and its error; "end". Then
    "start"; "samples" at each step, with a row of pictures for every network that is kept, as bytes; "end".
    """
    return [one_step(house, asked, notes, request), drawings(house, asked, notes, request)]


async def learn_step(
    house: House, asked: Learning, notes: list[str], request: gr.Request
) -> tuple[Image.Image, dict[str, Any]]:
    """Takes one step of training a diffusion model on digits, with a network as it was, and draws with those kept.

    Gives one PNG, four pixels to the pixel, with what each kept network draws from the same noise, a row each: the
    U-Net from no training to its end, last the two convolutions at their end. And an object with the settings used,
    the query of the page's link to the same, notes, t and the digit of each picture of the step, the mean squared
    errors of both networks on it, the loss of the U-Net, the length of its gradient, and the loss after the step.
    """
    batch, answers, descent = await last(house.engine, step(asked, house.models.snapshots), request)
    drawn = await last(house.engine, samples(asked, house.models.samplers), request)
    pictures = to_uint8(torch.from_numpy(drawn.x)).flatten(0, 1).numpy()
    errors = {answer.name: answer.error.tolist() for answer in answers}
    about = {"t": batch.t.tolist(), "digits": batch.label.tolist(), "errors": errors, **descent._asdict()}
    return tile(pictures, 4, across=drawn.x.shape[1]), run_summary(asked, notes, **about)


def _buttons(page: Page) -> None:
    with gr.Column(scale=0, min_width=210):
        page.own.another = gr.Button("Another step", variant="primary", elem_id="next")
        page.own.dice = gr.Button("Samples from new noise", size="sm", elem_id="dice")


def _connect(page: Page) -> None:
    controls, learn, sample = page.controls, page.handler(one_step), page.handler(drawings)
    page.stream_on([*moved(controls, "snapshot"), *moved(controls, "seed")], learn)
    seed = controls["seed"]
    counted = page.own.another.click(None, seed, seed, js="(seed) => (seed + 1) % 2 ** 31", api_visibility="private")
    page.stream(counted.then, learn)
    page.draw_seed(page.own.dice, "noise", sample)
    page.stream(controls["noise"].submit, sample)


LESSON = Lesson(
    name="Learning",
    path="learning",
    first=Learning(),
    text=TEXT,
    screen=lambda house: packing.screen(house.models.snapshots),
    program=program,
    answer=learning,
    tool=learn_step,
    outputs=pictures_and_run,
    ask=("snapshot",),
    beside=("seed", "noise"),
    wide=True,
    buttons=_buttons,
    experiments=PRESETS,
    chosen=one_step,
    connect=_connect,
)
