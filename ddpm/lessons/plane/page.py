"""The lesson in the plane: particles flow out of noise, along the arrows that a network learned, with the true ones beside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import gradio as gr

from ddpm.lessons.plane.run import MINE, SETTINGS, Frame, Plane, frames
from ddpm.lessons.plane.screen import frame, player, start
from ddpm.lessons.points import DATA_NAMES, DRAWN, sketch
from ddpm.lessons.trained import Trained
from ddpm.page.builder import (
    NO_ETA,
    SAMPLER_NAMES,
    STREAMING,
    buttons,
    connect,
    dropdown,
    endpoint,
    experiments,
    follow_schedule,
    last,
    left_over,
    moved_by,
    schedule,
    schedule_moved,
    seed,
    show_for,
    slider,
    stream,
    taking,
    told,
)
from ddpm.page.client import client_of
from ddpm.page.components.pad import pad
from ddpm.page.experiments import PLANE as EXPERIMENTS
from ddpm.process import Network
from ddpm.scaling import AS_IT_IS
from ddpm.serving.engine import Engine

INTRODUCTION = """
# How noise flows into a shape
Each blue dot starts as pure noise and follows the arrows, which a network of 300,000 weights has learned (or what you
choose under "Moved by"), until it lies on the data. Watch when the shape appears: late, once the noise is about as small as its details. Set "from" to
*both* to see the true arrows beside the learned ones: they differ most where there is no data to learn from.
"""

_NAMES = tuple(SETTINGS)

_DIRECTIONS = {
    "generate": "noise to data: generate",
    "chain": "data to noise: the chain, step by step",
    "jump": "data to noise: in one jump from x₀",
}

_NOT_YET = (
    "You have no network of your own here yet: train or load one on the page Train it yourself. "
    "Until then the learned denoiser moves the particles."
)


def lesson(engine: Engine, networks: Mapping[str, Network], mine_of: Callable[[gr.Request], Trained | None]) -> None:
    """Adds the lesson to the ``gr.Blocks`` being built; ``networks`` are the trained ones by the name of their data.

    ``mine_of`` gives the visitor's own network, if there is one.
    """

    def job_of(
        plane: Plane, notes: list[str], request: gr.Request, particles: bool = True
    ) -> tuple[Plane, list[str], Network | None, Iterator[Frame | None]]:
        """The run with the network that there is, the notes on it, that network, and its steps."""
        mine = mine_of(request) if plane.denoiser == MINE else None
        if plane.denoiser == MINE and not mine:
            plane, notes = replace(plane, denoiser="learned"), [*notes, _NOT_YET]
        network, scaling = (mine.network, mine.scaling) if mine else (networks.get(plane.data), AS_IT_IS)
        return plane, notes + _advice(plane, mine), network, frames(plane, network, particles, scaling)

    def messages_of(plane: Plane, notes: list[str], request: gr.Request, particles: bool = True) -> AsyncIterator[str]:
        plane, notes, network, steps = job_of(plane, notes, request, particles)
        data = sketch(plane).numpy()

        def opening(job: int) -> str:
            return start(plane, job, notes, particles, data, network is not None)

        return stream(engine, steps, client_of(request), opening, frame)

    def flow(query: dict[str, Any], request: gr.Request) -> AsyncIterator[str]:
        """Streams a run, step by step, as the page's player gets it. A setting that is not allowed is corrected, and a note says so.

        Gives messages "header|payload" of a JSON object and base64: kind "start", "frame" for each shown step, "end". A
        frame's payload is little-endian: the particles as int16, 4096 to the unit, count × 2; x0 on the arrows'
        20 × 20 points as float32, learned, if there is a network, then exact, 400 × 2 each; the density on
        100 × 100 points as a byte each.
        """
        return messages_of(*Plane.from_query(query), request)

    def field(query: dict[str, Any], request: gr.Request) -> AsyncIterator[str]:
        return messages_of(*Plane.from_query(query), request, particles=False)

    async def generate_plane(query: dict[str, Any], request: gr.Request) -> dict[str, Any]:
        """Sends particles from noise to a data set in the plane with a diffusion model, and answers once the run is over.

        Gives an object with the settings used, the query of the page's link to the same run, notes, seconds computed,
        the particles (count × 2), their sliced Wasserstein distance to held-out data, and the floor: what fresh
        data would have in their place.
        """
        plane, notes, _, steps = job_of(*Plane.from_query(query), request)
        end = await last(engine, steps, request)
        particles = end.x.round(4).tolist()
        return told(
            plane, notes, particles=particles, distance=end.distance, floor=end.floor, seconds=round(end.seconds, 3)
        )

    gr.Markdown(INTRODUCTION)
    with gr.Row(elem_id="ask"):
        controls = {
            "data": dropdown(Plane, "data", "Data", "The shape that the particles are to find.", DATA_NAMES),
            "direction": dropdown(
                Plane, "direction", "Direction", "Make data, or see how noise destroys it.", _DIRECTIONS
            ),
        }
        offered = experiments(EXPERIMENTS)
        offered.choice.render()
        pressed = buttons()
    offered.text.render()
    with gr.Row(elem_id="stage"):
        with gr.Column(scale=3, min_width=320):
            screen = player()
        with gr.Column(scale=1, min_width=280, elem_id="settings"):
            with gr.Column(visible=False, elem_id="drawer") as drawer:
                controls["points"] = pad()
            controls |= _settings()

    controls = {name: controls[name] for name in _NAMES}
    inputs = list(controls.values())
    streaming = {"outputs": screen, **STREAMING}
    run = connect(engine, pressed, controls, screen, flow, Plane.from_query, "flow")
    endpoint(generate_plane, "generate_plane", controls, [gr.JSON(label="Run", visible=False)], SETTINGS)
    offered.connect(controls, screen, run)
    # Only what the visitor does: what a link sets comes with a run of its own.
    seen = [*schedule_moved(controls), controls["data"].select, controls["points"].input]
    gr.on(seen, taking(controls, field), inputs, **streaming, api_visibility="private")
    show_for(controls["data"], {drawer: [DRAWN]})
    follow_schedule(controls)


def _advice(plane: Plane, mine: Trained | None) -> list[str]:
    """What a visitor should know of the settings chosen, of which ``mine`` is the network if it is the visitor's own."""
    notes = []
    if plane.data == DRAWN and not mine and plane.denoiser != "exact":
        notes.append(
            "No network has been trained on your drawing, so the exact denoiser of its points moves the particles: "
            "it knows the drawing by heart, and the particles end on its points, give or take 0.03."
        )
    if plane.eta > 0 and plane.sampler != "ddim":
        notes.append(NO_ETA)
    if mine and not mine.has_seen(plane):
        notes.append(
            f"Your network was trained on other data ({DATA_NAMES[mine.plane.data]}), so that is what it makes here; "
            "the data and the exact arrows are of the data chosen."
        )
    return notes + left_over(plane.curve)


def _settings() -> dict[str, gr.components.Component]:
    return {
        "denoiser": moved_by(
            Plane, "What predicts x̂₀: the network, the exact formula, or a network that you have trained."
        ),
        "count": slider(Plane, "count", 100, "Particles", "More fill the shape, fewer are easier to follow."),
        "steps": slider(Plane, "steps", 1, "Steps T", "From noise to data: fewer are faster, more are more accurate."),
        **schedule(Plane),
        "sampler": dropdown(Plane, "sampler", "Sampler", "How one step follows from x̂₀.", SAMPLER_NAMES),
        "eta": slider(
            Plane, "eta", 0.05, "Noise added on the way, η", "0: none, the arrows alone (DDIM). 1: as much as DDPM."
        ),
        "seed": seed(Plane, "The noise begun with: the same seed gives the same particles."),
    }
