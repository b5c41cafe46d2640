"""The likelihood lesson: the variational bound, term by term, on test pictures and beside what is exactly known."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import gradio as gr

from ddpm.lessons.likelihood.run import ALL, ONE, SETTINGS, Likelihood, estimates, strata
from ddpm.lessons.likelihood.screen import frame, screen, start
from ddpm.lessons.models import MODELS
from ddpm.page.builder import (
    DRAW_SEED,
    FOLLOWING,
    LATEX,
    QUIET,
    STREAMING,
    connect_presets,
    dropdown,
    endpoint,
    follow_schedule,
    last,
    moved_by,
    open_with_link,
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
from ddpm.process import Network
from ddpm.serving.engine import Engine

INTRODUCTION = """
# How likely does the model think a picture is?
A diffusion model cannot say how probable it holds a picture, but it can name a *bound*: so many bits a pixel and colour at most
would describe it, if the model were used to compress it. The bound is a sum with one term for every step. Watch which steps cost the most
(those next to the data, about details that nobody sees), and, where the true answer is known, how far above it the bound stays.
"""

FORMULAS = r"""
### The formulas
**The bound**: $\quad -\log p(x_0)\ \le\ L_T + \sum_{t=2}^{T} L_{t-1} + L_0\quad$ with
- $L_T = D\big(q(x_T \mid x_0)\,\|\,\mathcal N(0, I)\big)$,
- $L_{t-1} = D\big(q(x_{t-1} \mid x_t, x_0)\,\|\,p(x_{t-1} \mid x_t)\big)$ for $t = T, \dots, 2$,
- $L_0 = -\log p(x_0 \mid x_1)$.

$D$ is the Kullback–Leibler divergence: how much is wasted by who believes the second distribution while the first is true. The
formulas are in nats and of the whole picture; table and plots divide them by $\ln 2$ and by its number of values: bits per dimension. Here every $p(x_{t-1} \mid x_t)$ is a bell curve with the variance $\tilde\beta_t$ of $q$, so that only the means differ, and
$L_{t-1} = \tfrac12\,(\mathrm{SNR}_{t-1} - \mathrm{SNR}_t)\ \mathbb E\,\|x_0 - \hat x_0(x_t)\|^2$, where
$\mathrm{SNR}_t = \bar\alpha_t / (1-\bar\alpha_t)$ is the ratio of signal to noise.

$L_0$ is a bell curve about $\hat x_0(x_1)$ with the variance $\beta_1$. Of a picture its share of each pixel's grey level counts; of
points its density, so there the bound is one on a density, which may well be negative. One point may be likelier by the
model than by the data; on *average* over the data no model is, so there the bound stays above the exact value.

**How it is estimated.** For each of about 32 ranges of $t$, finer near the data, we draw $t$, a picture and noise at random, over
and over; "±" is one standard error of the mean. A picture is asked about without its label.

*Sources:* Ho, Jain & Abbeel 2020, "Denoising diffusion probabilistic models", eq. 5, and 13 for $L_0$; Kingma et al. 2021,
"Variational diffusion models", eq. 11 and 13. *Pictures:* from the test sets of MNIST and CIFAR-10.
"""

_DATA = {
    "mnist": "digits (MNIST)",
    "cifar10": "colour pictures (CIFAR-10)",
    "mixture1d": "the line: two Gaussians",
    "moons": "plane: two moons",
    "swiss_roll": "plane: Swiss roll",
    "circles": "plane: circles",
    "checkerboard": "plane: checkerboard",
    "gaussians": "plane: eight Gaussians",
    "spiral": "plane: spiral",
}


PRESETS = {
    "Where do the bits go?": Experiment(
        Likelihood("cifar10"),
        "The curve falls to less than a hundred-thousandth from left to right. Almost all bits are spent next to the data, on details "
        "of single grey levels that the eye does not see; what the picture shows is settled at large t, for very few bits. So a "
        "model may draw well and yet compress badly.",
    ),
    "A schedule that never reaches noise": Experiment(
        Likelihood("mnist", schedule="constant", c=2.0),
        "L<sub>T</sub> is no longer nothing: x<sub>T</sub> still holds 14 % of the signal's variance, but the model begins with pure noise, and that "
        "must be paid for. Raise the rate c and see L<sub>T</sub> vanish.",
    ),
    "Exact, and still a gap": Experiment(
        Likelihood("mixture1d", denoiser="exact"),
        "Nothing is learned here: x̂₀ is the exact formula. The bound is above the exact value all the same. Next to the data "
        "each step halves the noise, and a bell curve of variance β̃ is too narrow for such leaps. Then set "
        "*x̂₀ from* to learned, and see what the network adds.",
    ),
}


def lesson(engine: Engine, networks: Mapping[str, Network]) -> None:
    """Adds the lesson to the ``gr.Blocks`` being built; ``networks`` are those of pictures and toys by name."""

    def messages_of(asked: Likelihood, notes: list[str], client: Client) -> AsyncIterator[str]:
        notes = notes + _advice(asked)
        job = estimates(asked, networks[asked.data])
        return stream(engine, job, client, lambda number: start(asked, number, notes), frame)

    def bounds(query: dict[str, Any], request: gr.Request) -> AsyncIterator[str]:
        """Streams estimates of the bound as the page's screen gets them. A setting that is not allowed is corrected, and a note says so.

        Gives messages "header|payload" of a JSON object and base64: kind "start", with the ranges of t; "estimate", one
        after another, each with the terms of the bound and their standard errors, in bits per dimension, and as payload
        the mean term of each range and its error as float32; "end".
        """
        return messages_of(*Likelihood.from_query(query), client_of(request))

    async def estimate_bound(query: dict[str, Any], request: gr.Request) -> dict[str, Any]:
        """Estimates how likely a diffusion model holds pictures or points: the variational bound, term by term.

        Gives an object with the settings used, the query of the page's link to the same, notes, and in bits per
        dimension: prior (L_T), matching (the sum of L_t-1), reconstruction (L_0), their total, and the exact value
        where it is known, each with its standard error; of each of the ranges of t its first and last t, the mean of one
        term and its standard error; and the evaluations of the network and the seconds that this took.
        """
        asked, notes = Likelihood.from_query(query)
        found = await last(engine, estimates(asked, networks[asked.data]), request)
        parts = {name: getattr(found, name) for name in ("prior", "matching", "reconstruction", "total", "exact")}
        return told(
            asked,
            notes + _advice(asked),
            **{name: part and part._asdict() for name, part in parts.items()},
            ranges=[list(each) for each in strata(asked.steps)],
            terms=found.terms.tolist(),
            errors=found.errors.tolist(),
            evaluations=found.evaluations,
            seconds=round(found.seconds, 3),
        )

    def stop(request: gr.Request) -> None:
        engine.stop(request.session_hash)

    gr.Markdown(INTRODUCTION)
    with gr.Row(elem_id="presets"):
        presets = {name: gr.Button(name, size="sm", min_width=200) for name in PRESETS}
    look_for = gr.Markdown(visible=False, elem_id="look-for")
    to_settings()
    with gr.Row(elem_id="stage"):
        with gr.Column(scale=3, min_width=320):
            shown = screen()
        with gr.Column(scale=1, min_width=280, elem_id="settings"):
            controls = _settings()
            with gr.Row():
                again = gr.Button("Estimate with new draws", size="sm", min_width=180, elem_id="dice")
                halt = gr.Button("Stop", size="sm", min_width=70, elem_id="stop")
    gr.Markdown(FORMULAS, latex_delimiters=LATEX)

    controls = {name: controls[name] for name in SETTINGS}
    inputs, bound = list(controls.values()), taking(controls, bounds)
    streaming = {"outputs": shown, **STREAMING, "api_visibility": "private"}
    open_with_link(inputs, shown, bounds, Likelihood.from_query, _values)

    changed = [controls[name].input for name in ("data", "of", "denoiser")]
    asked = [*changed, controls["steps"].release, controls["seed"].submit, *schedule_moved(controls)]
    gr.on(asked, bound, inputs, **streaming)
    drawn = again.click(None, None, controls["seed"], js=DRAW_SEED, api_visibility="private")
    drawn.then(bound, inputs, **streaming)
    picked = controls["example"].input(lambda: ONE, None, controls["of"], **FOLLOWING)
    picked.then(bound, inputs, **streaming)
    halt.click(stop, None, None, **QUIET)
    connect_presets(PRESETS, presets, inputs, look_for, _values, bound, shown)
    controls["data"].change(
        _fitting,
        controls["data"],
        [controls[name] for name in ("of", "example", "denoiser")],
        **QUIET,
    )
    follow_schedule(controls)
    show_code(controls, Likelihood.from_query)
    about = "Of one: the number of the picture, which is of class number modulo 10."
    typed = {**controls, "example": unseen(Likelihood.example, "Example", about)}
    streamed(bounds, "bounds", typed, shown, SETTINGS)
    endpoint(estimate_bound, "estimate_bound", typed, [gr.JSON(label="Run", visible=False)], SETTINGS)


def _values(asked: Likelihood) -> list[object]:
    return [str(asked.example) if name == "example" else getattr(asked, name) for name in SETTINGS]


def _fitting(data: str) -> list[object]:
    """Shows the controls that mean something for ``data``: pictures are chosen, of points the exact denoiser is known."""
    pictures = data in MODELS
    sheet = data if pictures else ""  # a picker that is hidden before it was ever shown does not come back
    return [gr.update(visible=pictures), gr.HTML(sheet=sheet), gr.update(visible=not pictures)]


def _advice(asked: Likelihood) -> list[str]:
    """What a visitor should know of the settings chosen."""
    if asked.of_pictures and asked.denoiser == "exact":
        return ["The exact denoiser of pictures is known to nobody: the network is asked."]
    return []


def _settings() -> dict[str, gr.components.Component]:
    return {
        "data": dropdown(Likelihood, "data", "Data", "Of points the exact answer is known, too.", _DATA),
        "of": gr.Radio(
            [("all test pictures here", ALL), ("one of them", ONE)],
            value=Likelihood.of,
            label="The bound of",
            info="The average, or the picture that you pick below.",
            elem_id="of",
        ),
        "example": picker("mnist", Likelihood.example),
        "denoiser": moved_by(Likelihood, label="x̂₀ from", visible=False),
        "steps": slider(Likelihood, "steps", 1, "Steps T", "From noise to data: one term of the sum each."),
        **schedule(Likelihood),
        "seed": seed(Likelihood, "Of all random draws. Press Enter."),
    }
