"""The noising lesson: a picture disappears in noise, and the network says what it still sees in it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from ddpm.lessons.noising.run import DRAWN, EXAMPLE, UPLOADED, Noising, look, moment
from ddpm.lessons.noising.screen import errors, pack, row, screen, start
from ddpm.page.builder import (
    DRAW_SEED,
    FOLLOWING,
    LATEX,
    QUIET,
    STREAMING,
    connect_presets,
    endpoint,
    follow_schedule,
    last,
    open_with_link,
    pictures_and_run,
    schedule,
    schedule_moved,
    seed,
    show_code,
    show_for,
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
from ddpm.page.components.sketch import sketch
from ddpm.page.experiments import Experiment
from ddpm.picture import PictureError, encode, from_file
from ddpm.plots import tile
from ddpm.process import Network
from ddpm.serving.engine import Engine

INTRODUCTION = """
# How a picture disappears in noise
Move *t* from left to right: the clean picture x₀ is mixed with more and more random noise ε, until nothing is left of it.
Watch ε̂ and x̂₀. The network sees xₜ alone, and says which part of it is noise: near the data it finds
the picture easily, in the middle it guesses, and at the end it can only answer with the average of all pictures.
"""

FORMULAS = r"""
### The formulas
**One jump** to step $t$: $\quad x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\;\varepsilon,\qquad \varepsilon \sim \mathcal N(0, I)$.
The share of the signal's variance that is left is $\bar\alpha_t$.

**Step by step**, the Markov chain (each step depends on the one before alone): $\quad q(x_t \mid x_{t-1}) = \mathcal N\big(\sqrt{1-\beta_t}\,x_{t-1},\ \beta_t I\big)$.
With $\bar\alpha_t = \prod_{s \le t}(1-\beta_s)$ both have the same mean $\sqrt{\bar\alpha_t}\,x_0$ and the same variance $1-\bar\alpha_t$.

**Mixing**, as some introductions do: $\quad x_t = (1-a)\,x_0 + a\,\varepsilon$ with the amount $a = t/T$. The squares of its factors,
$(1-a)^2 + a^2$, do not add up to 1: half-way the picture has half of the variance, so the network, which was trained on
$\bar\alpha_t + (1-\bar\alpha_t) = 1$, sees a paler picture than any it knows. With uniform noise on $[-1, 1]$ the variance
ends at $1/3$, and the end is not the bell curve from which a sampler starts. Mixing is not wrong in itself, flow matching does so;
but the network must then be trained for it.

*Sources:* the chain and the jump: Ho, Jain & Abbeel 2020, "Denoising diffusion probabilistic models", eq. 2 and 4. Uniform
mixing: `corrupt` in the Hugging Face diffusion course, unit 1, here in the scale −1 … 1. *Examples:* test pictures of MNIST and CIFAR-10.
"""

_PICTURES = {"an example": EXAMPLE, "drawn by you": DRAWN, "uploaded by you": UPLOADED}

_WAYS = {
    "in one jump": "jump",
    "step by step": "chain",
    "mixing, Gaussian noise": "mix",
    "mixing, uniform noise": "mix-uniform",
}


SCALE = 4
"""Pixels to the pixel in the pictures that programs get."""


PRESETS = {
    "Where does the digit vanish?": Experiment(
        Noising(t=500, schedule="cosine"),
        "λ is close to 0: half of the variance is noise, and you may still guess the digit. Now move *t* to the right. The "
        "network goes on finding it for a while; then x̂₀ turns into a blur, the average of all digits that fit.",
    ),
    "What is wrong with mixing?": Experiment(
        Noising(model="cifar10", example=17, way="mix-uniform", t=500),
        "The bars are too narrow for the bell curve, and ε̂ is far off: the network was never trained on so little "
        "variance. Choose *in one jump* to compare, and see the curve of this way fall in *Is the variance kept?*",
    ),
}


def lesson(engine: Engine, networks: Mapping[str, Network]) -> None:
    """Adds the lesson to the ``gr.Blocks`` being built; ``networks`` are the image models by name."""

    def messages_of(noising: Noising, notes: list[str], client: Client, everything: bool) -> AsyncIterator[str]:
        network, notes = networks[noising.model], notes + _advice(noising)
        job = look(noising, network) if everything else moment(noising, network)
        # Of a session of its own, so that moving t does not end what is being measured.
        who = client if everything or not client.session else client.named(f"{client.session} t")
        return stream(engine, job, who, lambda number: start(noising, number, notes, everything), pack)

    def noise(query: dict[str, Any], request: gr.Request) -> AsyncIterator[str]:
        """Streams what the page's screen gets of a noised picture. A setting that is not allowed is corrected, and a note says so.

        Gives messages "header|payload" of a JSON object and base64: kind "start"; "strip", the picture at eight levels
        as bytes; "moment", step t: the density of the pixel values in 64 bins from -4 to 4 as float32, then x0, noise / 3,
        x, the predicted noise / 3 and x0 as bytes; "measured", many draws of the four ways, as float32: the factors on x0,
        the variances, both their errors, what both should be, each ways × steps; "end".
        """
        return messages_of(*Noising.from_query(query), client_of(request), True)

    def moved(query: dict[str, Any], request: gr.Request) -> AsyncIterator[str]:
        return messages_of(*Noising.from_query(query), client_of(request), False)

    async def noise_picture(query: dict[str, Any], request: gr.Request) -> tuple[Image.Image, dict[str, Any]]:
        """Noises a small picture up to step t, and has a diffusion model say what is noise in it and what is not.

        Gives one PNG of five pictures, four pixels to the pixel: x0, the noise, x, the predicted noise, the predicted x0
        (noise / 3); and an object with the settings used, the query of the page's link to the same, notes, the log
        signal-to-noise ratio of x (null if no signal is left), x = signal · x0 + std · noise, and the root mean square
        of the errors of both predictions.
        """
        noising, notes = Noising.from_query(query)
        found = await last(engine, moment(noising, networks[noising.model]), request)
        return tile(row(found), SCALE, across=5), told(
            noising,
            [*notes, *_advice(noising)],
            log_snr=found.log_snr if math.isfinite(found.log_snr) else None,
            signal=found.signal,
            std=found.std,
            errors=errors(found),
        )

    def values_of(noising: Noising) -> list[object]:
        updates = {
            "t": _fit(noising.t, noising.steps),
            "example": gr.HTML(value=str(noising.example), sheet=noising.model),
        }
        return [updates.get(name, getattr(noising, name)) for name in names]

    gr.Markdown(INTRODUCTION)
    with gr.Row(elem_id="presets"):
        presets = {name: gr.Button(name, size="sm", min_width=200) for name in PRESETS}
    to_settings()
    look_for = gr.Markdown(visible=False, elem_id="look-for")
    with gr.Row(elem_id="stage"):
        with gr.Column(scale=3, min_width=320):
            controls: dict[str, gr.components.Component] = {"t": _time()}
            shown = screen()
        with gr.Column(scale=1, min_width=280, elem_id="settings"):
            controls |= _picture()
            with gr.Column(visible=False, elem_id="drawer") as drawer:
                controls["drawing"] = sketch()
            bring = gr.UploadButton("Upload a picture", size="sm", file_types=["image"], elem_id="upload")
            gr.Markdown(
                "Its middle square is kept, as small as the network’s pictures. It stays between you and this page: a link does not hold it.",
                elem_id="upload-info",
            )
            controls |= _settings()
            dice = gr.Button("New noise", size="sm", elem_id="dice")
    gr.Markdown(FORMULAS, latex_delimiters=LATEX)

    names, inputs = list(controls), list(controls.values())
    show, move = taking(controls, noise), taking(controls, moved)
    streaming = {"outputs": shown, **STREAMING, "api_visibility": "private"}
    open_with_link(inputs, shown, noise, Noising.from_query, values_of)

    controls["t"].input(move, inputs, **{**streaming, "trigger_mode": "always_last"})
    shown.select(_clicked, None, controls["t"], **FOLLOWING).then(move, inputs, **streaming)
    changed = [controls[name].input for name in ("model", "picture", "example", "drawing", "way")]
    gr.on([*changed, controls["seed"].submit, *schedule_moved(controls)], show, inputs, **streaming)
    drawn = dice.click(None, None, controls["seed"], js=DRAW_SEED, api_visibility="private")
    drawn.then(show, inputs, **streaming)
    fitted = controls["steps"].release(_fit, [controls["t"], controls["steps"]], controls["t"], **FOLLOWING)
    fitted.then(show, inputs, **streaming)
    taken = bring.upload(take, [bring], [controls["upload"], controls["picture"]], **FOLLOWING)
    taken.success(show, inputs, **streaming)
    connect_presets(PRESETS, presets, inputs, look_for, values_of, show, shown)
    kind = [controls["model"], controls["picture"]]
    gr.on([one.change for one in kind], _examples, kind, controls["example"], **QUIET)
    show_for(controls["picture"], {drawer: [DRAWN]})
    follow_schedule(controls)
    show_code(controls, Noising.from_query)
    typed = {**controls, **_typed()}
    shared = Noising.allowed({})
    streamed(noise, "noise", typed, shown, shared)
    endpoint(noise_picture, "noise_picture", typed, pictures_and_run(), shared)


def _examples(model: str, picture: str) -> gr.HTML:
    """The picker with the examples of ``model``, empty if none is to be picked: hidden it would not come back."""
    return gr.HTML(sheet=model if picture == EXAMPLE else "")


async def take(path: str) -> tuple[str, str]:
    """The upload as text, and that it is the picture to show. Raises gr.Error, in one sentence, for a wrong file."""
    try:
        return encode(await asyncio.to_thread(from_file, Path(path)), 8), UPLOADED
    except PictureError as error:
        raise gr.Error(escape(str(error), quote=False), print_exception=False, title="Not this file") from error


def _clicked(event: gr.EventData) -> int:
    """The step that was clicked in the strip."""
    return int(event.t)


def _fit(t: int, steps: int) -> gr.Slider:
    """The slider of t for another number of steps; of a single step there is nothing to choose, but it wants two."""
    return gr.Slider(value=min(t, steps), maximum=max(2, steps), interactive=steps > 1)


def _advice(noising: Noising) -> list[str]:
    """What a visitor should know of the settings chosen."""
    notes = []
    if noising.picture == DRAWN and not noising.drawing:
        notes.append("Nothing is drawn yet, so the picture is black: draw in the box.")
    if noising.inverted:
        notes.append("Your picture is bright at its edge, so it is shown inverted: the network knows white on black.")
    return notes


def _typed() -> dict[str, gr.components.Component]:
    """How programs give the pictures."""
    return {
        "example": unseen(Noising.example, "Example", "The number of the example, which is of class number modulo 10."),
        "drawing": unseen("", "Drawing", "For the picture drawn: rows from the top, black 0 to white 15."),
        "upload": unseen("", "Upload", "For the picture uploaded: rows from the top, red, then green, then blue."),
    }


def _time() -> gr.Slider:
    return gr.Slider(
        1,
        Noising.steps,
        Noising.t,
        step=1,
        label="Step t",
        info="1: hardly any noise. T: hardly anything else.",
        elem_id="t",
    )


def _picture() -> dict[str, gr.components.Component]:
    return {
        "model": gr.Radio(
            [("digits", "mnist"), ("colour pictures", "cifar10")],
            value=Noising.model,
            label="Network",
            info="Which of our networks looks at the picture.",
            elem_id="model",
        ),
        "picture": gr.Radio(
            list(_PICTURES.items()),
            value=Noising.picture,
            label="Picture",
            info="What is noised.",
            elem_id="picture",
        ),
        "example": picker(Noising.model, Noising.example),
        "upload": gr.State(""),
    }


def _settings() -> dict[str, gr.components.Component]:
    return {
        "way": gr.Radio(
            list(_WAYS.items()),
            value=Noising.way,
            label="The way to xₜ",
            info="How the noise is put in.",
            elem_id="way",
        ),
        "steps": slider(Noising, "steps", 1, "Steps T", "From data to noise."),
        **schedule(Noising),
        "seed": seed(Noising, "The noise drawn: the same seed gives the same. Press Enter."),
    }
