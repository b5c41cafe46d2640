"""The lessons on pictures, digits and colour: controls for every setting of a run, and the player that shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import torch
from PIL import Image

from ddpm.data import to_uint8
from ddpm.lessons.models import MODELS
from ddpm.lessons.pictures.frames import frames
from ddpm.lessons.pictures.run import ANY, EACH, FIRST, Run
from ddpm.lessons.pictures.screen import frame, player, start
from ddpm.page.builder import (
    NO_ETA,
    SAMPLER_NAMES,
    buttons,
    connect,
    dropdown,
    endpoint,
    experiments,
    follow_schedule,
    last,
    left_over,
    pictures_and_run,
    schedule,
    seed,
    slider,
    stream,
    told,
)
from ddpm.page.client import Client, client_of
from ddpm.page.experiments import pictures as experiments_of
from ddpm.plots import tile
from ddpm.process import Network
from ddpm.projection import Projection
from ddpm.serving.engine import Engine


@dataclass(frozen=True)
class Texts:
    """What differs between the pages of two models, for people; ``first`` is the run of a page whose link says no more."""

    first: Run
    introduction: str
    label: str
    info: str
    endpoint: str


_GIVES = """
Gives the pictures as one PNG, four pixels to the pixel, and an object with the settings used, the query of the page's link
to the same run, notes, labels and seconds computed."""

TEXTS = {
    "mnist": Texts(
        FIRST[""],
        """
# How a diffusion model draws a digit
A network looks at noise and says which clean picture it might hide (x̂₀). The process takes a step towards that picture,
and asks again: T times, until no noise is left. No picture is prepared: what you see was computed when you asked for it.
""",
        "Digit",
        "Which digit the network is asked for.",
        f"Draws handwritten digits with a diffusion model trained on MNIST, and answers once they are finished.\n{_GIVES}",
    ),
    "cifar10": Texts(
        FIRST["colour"],
        """
# How a diffusion model paints a picture
The same process as for the digits, with three colours a pixel and a larger network, trained on 50,000 photographs of
32 × 32 pixels. Watch how the layout settles first and the details last. The network has seen each photograph 76 times
only: it knows colours and scenes, and guidance w = 1 brings out the object that was asked for. At w = 0 you see the
network as it is: then the object is right in seven of ten pictures.
""",
        "Object",
        "Which kind of object the network is asked for.",
        f"Paints small colour pictures with a diffusion model trained on CIFAR-10, and answers once they are finished.\n{_GIVES}",
    ),
}

SCALE = 4
"""Pixels to the pixel in the pictures that programs get."""

MOST_ROWS = 25_000
"""How many times one run on the page may ask the network about a picture: 25 pictures at T = 1000, without guidance."""

_NAMES = tuple(name for name in Run().values() if name != "model")
"""The settings with a control, in the order in which handlers take them."""


def lesson(engine: Engine, model: str, network: Network, cloud: Projection) -> None:
    """Adds the lesson on ``model`` to the page of the ``gr.Blocks`` being built."""
    texts = TEXTS[model]

    def read(query: Mapping[str, Any]) -> tuple[Run, list[str]]:
        """The run of a link or of the controls on this page, which has one model, and what had to be corrected."""
        run, notes = Run.from_query({**texts.first.query(), **query, "model": model})
        if (asked := query.get("model", model)) != model:
            notes = [f"model = {str(asked)[:40]}: this page draws with {model}; other pages have the others.", *notes]
        return within_share(run, notes)

    def messages_of(run: Run, notes: list[str], client: Client) -> AsyncIterator[str]:
        notes = notes + _advice(run)
        steps = frames(run, network)
        return stream(
            engine, steps, client, lambda job: start(run, job, notes), lambda step, job: frame(step, job, cloud)
        )

    def denoise(query: dict[str, Any], request: gr.Request) -> AsyncIterator[str]:
        """Streams a run, step by step, as the page's player gets it. A setting that is not allowed is corrected, and a note says so.

        Gives messages "header|payload" of a JSON object and base64: kind "start", "frame" for each shown step, "end". A
        frame's payload is little-endian: x, what the header says the network "predicts" ("x0" or the "noise"), and what
        the step adds to its mean, if anything, as int16 times the header's "scales", count × C × H × W each; then x and
        x0 projected on the page's plane as float32, count × 2 each.
        """
        return messages_of(*read(query), client_of(request))

    async def generate(query: dict[str, Any], request: gr.Request) -> tuple[Image.Image, dict[str, Any]]:
        run, notes = read(query)
        end = await last(engine, frames(run, network), request)
        picture = tile(to_uint8(torch.from_numpy(end.x)).numpy(), SCALE)
        names = [*MODELS[model], "no label"]
        labels = [names[label] for label in run.labels]
        return picture, told(run, [*notes, *_advice(run)], labels=labels, seconds=round(end.seconds, 3))

    gr.Markdown(texts.introduction)
    with gr.Row(elem_id="ask"):
        controls = {"label": _label(model, texts)}
        offered = experiments(experiments_of(model))
        offered.choice.render()
        pressed = buttons()
    offered.text.render()
    with gr.Row(elem_id="stage"):
        with gr.Column(scale=3, min_width=320):
            screen = player(cloud, network.config.shape)
        with gr.Column(scale=1, min_width=280, elem_id="settings"):
            controls |= _settings()

    controls = {name: controls[name] for name in _NAMES}
    for name, control in controls.items():
        control.value = getattr(texts.first, name)
    run = connect(engine, pressed, controls, screen, denoise, read, f"denoise_{model}")
    generate.__doc__ = texts.endpoint
    endpoint(generate, f"generate_{model}", controls, pictures_and_run(), Run.allowed({"model": model}))
    offered.connect(controls, screen, run)
    follow_schedule(controls)


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
    return notes + left_over(run.curve)


def _label(model: str, texts: Texts) -> gr.Radio:
    choices = [("one of each", EACH), *((name, name) for name in MODELS[model]), ("any (no label)", ANY)]
    return gr.Radio(
        choices, value=Run.label, label=texts.label, info=texts.info, elem_id="label", scale=2, min_width=300
    )


def _settings() -> dict[str, gr.components.Component]:
    return {
        "count": slider(Run, "count", 1, "How many", "Pictures computed side by side."),
        "steps": slider(Run, "steps", 1, "Steps T", "From noise to data: fewer are faster, more are more accurate."),
        **schedule(Run),
        "sampler": dropdown(
            Run,
            "sampler",
            "Sampler",
            "How a step is taken: with or without new noise, to first or second order.",
            SAMPLER_NAMES,
        ),
        "eta": slider(Run, "eta", 0.05, "Noise added on the way, η", "0: none (DDIM). 1: as much as DDPM adds."),
        "guidance": slider(
            Run,
            "guidance",
            0.1,
            "Guidance w",
            "0: the network as it is. 0.2: fewer wrong ones. More: exaggerates what was asked for.",
        ),
        "seed": seed(Run, "The noise begun with: the same seed gives the same pictures."),
    }
