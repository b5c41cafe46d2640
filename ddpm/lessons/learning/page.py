"""The learning lesson: Algorithm 1 line by line on a real batch, and the network as it was while it was trained."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import gradio as gr
import torch
from PIL import Image

from ddpm.data import to_uint8
from ddpm.lessons.learning import screen as packing
from ddpm.lessons.learning.run import SETTINGS, Learning, samplers, samples, step
from ddpm.lessons.models import Snapshots
from ddpm.page.builder import (
    DRAW_SEED,
    LATEX,
    STREAMING,
    connect_presets,
    endpoint,
    last,
    open_with_link,
    pictures_and_run,
    seed,
    show_code,
    stream,
    streamed,
    taking,
    told,
)
from ddpm.page.client import Client, client_of
from ddpm.page.experiments import Experiment
from ddpm.plots import tile
from ddpm.serving.engine import Engine

INTRODUCTION = """
# How the network learns
Training is one small exercise, over and over: hide a real picture x₀ in noise ε, let the network say what the noise was (ε̂),
and change its weights a little so that it errs less. Choose how long the network has learned, and watch the dark error pictures and the
digits below: after 500 steps the error falls slowly, but the digits go on getting better.
"""

FORMULAS = r"""
### The formulas
Line 5 makes $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\;\varepsilon$ and asks the network, with its weights $\theta$, for the noise in it. The *loss* is the
mean squared error
$\;L_{\text{simple}}(\theta) = \mathbb E_{\,t,\,x_0,\,\varepsilon}\,\|\varepsilon - \varepsilon_\theta(x_t, t)\|^2$.

Its *gradient* $\nabla_\theta$ says for each weight in which direction the loss grows; the step goes the other way. The page takes
a plain step, on a copy; the trainings took larger strides (AdamW and Muon), with 16 pictures each. A low loss is not yet a good network: always answering
"it is all noise", $\hat\varepsilon = x_t$, already has a loss of less than a hundredth at large $t$.

**Two networks.** A small U-Net with 260,000 weights, which sees the whole picture at three resolutions and is told the digit; and two plain
convolutions of 3 × 3 pixels, which see 5 × 5 pixels at once. From so few, nobody can tell a digit. The convolutions answer $\hat\varepsilon$
itself, as Algorithm 1 has it. The U-Net answers $v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{1-\bar\alpha_t}\,x_0$ and was trained on the error of $v$, from which
$\hat\varepsilon = \sqrt{1-\bar\alpha_t}\;x_t + \sqrt{\bar\alpha_t}\;\hat v$ follows: one of its size that answers $\hat\varepsilon$ reached nearly the same loss here, and drew badly,
because near pure noise an error of $\hat\varepsilon$ counts 150 times in $\hat x_0$. All errors on this page are those of $\hat\varepsilon$.

*Sources:* Ho, Jain & Abbeel 2020, "Denoising diffusion probabilistic models", Algorithm 1 and eq. 14, linear schedule with $T = 1000$; $v$: Salimans & Ho 2022. The
two convolutions: the diffusion practical of Durham University's deep-learning course. *Pictures:* MNIST's test set, which no training saw.
"""

_SNAPSHOTS = {"0": "0", "100": "100", "500": "500", "2500": "2,500", "10000": "10,000", "end": "the end"}


PRESETS = {
    "Before the first step": Experiment(
        Learning("0"),
        "The U-Net knows nothing of digits: its answer amounts to “nearly all that I see is noise”, ε̂ = √(1 − ᾱ) xₜ. Where t is "
        "large that is nearly right: the error is small already, and what is left of it is the digit. Where t is small the error "
        "is the whole noise. The convolutions answer next to nothing. Now choose 100, then 500, and draw further steps.",
    ),
    "What two convolutions cannot do": Experiment(
        Learning("end"),
        "Look at the columns where t is less than 10 (draw another step if there is none). The U-Net errs at the digit alone; "
        "the two convolutions err everywhere, and their ε̂ shows the outline of the digit instead of noise. They see 5 × 5 pixels, "
        "never the whole, and their samples are textures without any digit, however long they learn.",
    ),
}


def lesson(engine: Engine, trained: Mapping[str, Snapshots]) -> None:
    """Adds the lesson to the ``gr.Blocks`` being built; ``trained`` are the U-Net and the two convolutions."""
    asked_to_sample = samplers(trained)

    def steps_of(asked: Learning, notes: list[str], client: Client) -> AsyncIterator[str]:
        opening = lambda job: packing.start(asked, job, notes, "step")
        return stream(engine, step(asked, trained), client, opening, packing.step)

    def samples_of(asked: Learning, client: Client) -> AsyncIterator[str]:
        # Of a session of its own, so that looking at another step does not end the samples under way.
        job = samples(asked, asked_to_sample)
        who = client.named(client.session and f"{client.session} samples")
        return stream(engine, job, who, lambda number: packing.start(asked, number, [], "samples"), packing.samples)

    def steps(query: dict[str, Any], request: gr.Request) -> AsyncIterator[str]:
        return steps_of(*Learning.from_query(query), client_of(request))

    def drawings(query: dict[str, Any], request: gr.Request) -> AsyncIterator[str]:
        return samples_of(Learning.from_query(query)[0], client_of(request))

    async def learning(query: dict[str, Any], request: gr.Request) -> AsyncIterator[str]:
        """Streams what the page's screen gets of a step of training, then of samples. A setting that is not allowed is corrected, and a note says so.

        Gives messages "header|payload" of a JSON object and base64: kind "start"; "step", whose payload is rows of eight
        pictures as bytes: x0, noise / 3, x, then of each network the predicted noise / 3 and its error; "end". Then
        "start"; "samples" at each step, with a row of pictures for every network that is kept, as bytes; "end".
        """
        asked, notes = Learning.from_query(query)
        for part in (steps_of(asked, notes, client_of(request)), samples_of(asked, client_of(request))):
            async with aclosing(part) as messages:
                async for message in messages:
                    yield message

    async def learn_step(query: dict[str, Any], request: gr.Request) -> tuple[Image.Image, dict[str, Any]]:
        """Takes one step of training a diffusion model on digits, with a network as it was, and draws with those kept.

        Gives one PNG, four pixels to the pixel, with what each kept network draws from the same noise, a row each: the
        U-Net from no training to its end, last the two convolutions at their end. And an object with the settings used,
        the query of the page's link to the same, notes, t and the digit of each picture of the step, the mean squared
        errors of both networks on it, the loss of the U-Net, the length of its gradient, and the loss after the step.
        """
        asked, notes = Learning.from_query(query)
        (batch, answers, descent), drawn = (
            await last(engine, step(asked, trained), request),
            await last(engine, samples(asked, asked_to_sample), request),
        )
        pictures = to_uint8(torch.from_numpy(drawn.x)).flatten(0, 1).numpy()
        errors = {answer.name: answer.error.tolist() for answer in answers}
        about = {"t": batch.t.tolist(), "digits": batch.label.tolist(), "errors": errors, **descent._asdict()}
        return tile(pictures, 4, across=drawn.x.shape[1]), told(asked, notes, **about)

    gr.Markdown(INTRODUCTION)
    with gr.Row(elem_id="presets"):
        presets = {name: gr.Button(name, size="sm", min_width=200) for name in PRESETS}
    look_for = gr.Markdown(visible=False, elem_id="look-for")
    with gr.Row(elem_id="ask"):
        controls: dict[str, gr.components.Component] = {
            "snapshot": gr.Radio(
                [(text, name) for name, text in _SNAPSHOTS.items()],
                value=Learning.snapshot,
                label="Steps learned so far",
                info="The networks were kept as they were then.",
                elem_id="snapshot",
                scale=1,
                min_width=300,
            )
        }
        with gr.Column(scale=0, min_width=210):
            following_step = gr.Button("Another step", variant="primary", elem_id="next")
            dice = gr.Button("Samples from new noise", size="sm", elem_id="dice")
    shown = packing.screen(trained)
    with gr.Row(elem_id="settings"):
        controls |= {
            "seed": seed(
                Learning, "The number of the step's draw: the same gives the same. Press Enter.", label="Draw"
            ),
            "noise": seed(
                Learning, "The noise that all of them begin with. Press Enter.", "noise", "Seed of the samples"
            ),
        }
    gr.Markdown(FORMULAS, latex_delimiters=LATEX)

    inputs, learn, sample = list(controls.values()), taking(controls, steps), taking(controls, drawings)
    streaming = {"outputs": shown, **STREAMING, "api_visibility": "private"}
    open_with_link(inputs, shown, learning, Learning.from_query, _values)
    gr.on([controls["snapshot"].input, controls["seed"].submit], learn, inputs, **streaming)
    counted = following_step.click(
        None, controls["seed"], controls["seed"], js="(seed) => (seed + 1) % 2 ** 31", api_visibility="private"
    )
    counted.then(learn, inputs, **streaming)
    drawn = dice.click(None, None, controls["noise"], js=DRAW_SEED, api_visibility="private")
    drawn.then(sample, inputs, **streaming)
    controls["noise"].submit(sample, inputs, **streaming)
    connect_presets(PRESETS, presets, inputs, look_for, _values, learn, shown)
    show_code(controls, Learning.from_query)
    streamed(learning, "learning", controls, shown, SETTINGS)
    endpoint(learn_step, "learn_step", controls, pictures_and_run(), SETTINGS)


def _values(asked: Learning) -> list[object]:
    return [getattr(asked, name) for name in SETTINGS]
