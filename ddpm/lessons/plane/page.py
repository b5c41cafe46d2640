"""The lesson in the plane: particles flow out of noise, along the arrows that a network learned, with the true ones beside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from ddpm.lessons.plane.program import program
from ddpm.lessons.plane.run import MINE, Plane, frames, look
from ddpm.lessons.plane.screen import pack, player
from ddpm.lessons.points import DATA_NAMES, DRAWN, MOST_POINTS, encode_points
from ddpm.lessons.trained import Trained
from ddpm.lessons.words import NO_ETA, left_over
from ddpm.page.api import run_summary
from ddpm.page.builder import House, Lesson, Page, connect_run_buttons, read_text, run_buttons
from ddpm.page.components.pad import drawer, pad
from ddpm.page.events import show_for
from ddpm.page.experiments import described
from ddpm.page.stream import Answer, last
from ddpm.process import Network, seeded
from ddpm.scaling import AS_IT_IS, Scaling
from ddpm.toys import TOYS

TEXT = read_text(Path(__file__).parent)

_PATHS = {"trails": "all", "arrows": "none", "contours": "none", "of": "learned"}
_FIELD = {"trails": "clicked", "arrows": "noise", "contours": "none", "of": "learned"}
_FEW = encode_points(TOYS["moons"](24, seeded(5)))

EXPERIMENTS = described(
    TEXT,
    {
        "Ten steps: linear schedule": Plane(steps=10, schedule="linear"),
        "Ten steps: polynomial schedule": Plane(steps=10, schedule="polynomial"),
        "A constant β that never reaches noise": Plane(schedule="constant", c=0.5),
        "DDIM, smooth paths": Plane(steps=50, count=300),
        "DDPM, from the same noise": Plane(steps=50, count=300, eta=1.0),
        "Too few steps on the checkerboard": Plane(data="checkerboard", steps=5),
        "A field that has memorised its data": Plane(data=DRAWN, points=_FEW, denoiser="exact"),
    },
    {
        "Ten steps: linear schedule": _PATHS,
        "Ten steps: polynomial schedule": _PATHS,
        "A constant β that never reaches noise": {
            "contours": "exact",
            "trails": "none",
            "arrows": "none",
            "of": "learned",
        },
        "DDIM, smooth paths": _PATHS,
        "DDPM, from the same noise": _PATHS,
        "Too few steps on the checkerboard": _PATHS,
        "A field that has memorised its data": _FIELD | {"of": "exact"},
    },
)

_NOT_YET = (
    "You have no network of your own here yet: train or load one on the page Train it yourself. "
    "Until then the learned denoiser moves the particles."
)


def _mover(
    house: House, plane: Plane, notes: list[str], request: gr.Request
) -> tuple[Plane, list[str], Network | None, Scaling]:
    """The run with the network that there is, the notes on it, that network, and its scaling."""
    mine = house.mine(request) if plane.denoiser == MINE else None
    if plane.denoiser == MINE and not mine:
        plane, notes = replace(plane, denoiser="learned"), [*notes, _NOT_YET]
    network, scaling = (mine.network, mine.scaling) if mine else (house.models.plane.get(plane.data), AS_IT_IS)
    return plane, notes + _advice(plane, mine), network, scaling


def flow(house: House, plane: Plane, notes: list[str], request: gr.Request, particles: bool = True) -> Answer:
    """Streams a run, step by step, as the page's player gets it. A setting that is not allowed is corrected, and a note says so.

    Gives messages "header|payload" of a JSON object and base64: kind "start", "frame" for each shown step, "end". A
    frame's payload is little-endian: the particles as int16, 4096 to the unit, count × 2; x0 on the arrows'
    20 × 20 points as float32, learned, if there is a network, then exact, 400 × 2 each; the density on
    100 × 100 points as a byte each.
    """
    plane, notes, network, scaling = _mover(house, plane, notes, request)
    work = look(plane, network, particles, scaling)
    return Answer(work, lambda shown, job: pack(shown, job, plane, notes, particles, network is not None))


def field(house: House, plane: Plane, notes: list[str], request: gr.Request) -> Answer:
    """The same without particles."""
    return flow(house, plane, notes, request, particles=False)


async def generate_plane(house: House, plane: Plane, notes: list[str], request: gr.Request) -> dict[str, Any]:
    """Sends particles from noise to a data set in the plane with a diffusion model, and answers once the run is over.

    Gives an object with the settings used, the query of the page's link to the same run, notes, seconds computed,
    the particles (count × 2), their sliced Wasserstein distance to held-out data, and the floor: what fresh
    data would have in their place.
    """
    plane, notes, network, scaling = _mover(house, plane, notes, request)
    end = await last(house.engine, frames(plane, network, scaling=scaling), request)
    measures = {"distance": end.distance, "floor": end.floor, "seconds": round(end.seconds, 3)}
    return run_summary(plane, notes, particles=end.x.round(4).tolist(), **measures)


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


def _connect(page: Page) -> None:
    connect_run_buttons(page)
    show_for(page.controls["data"], {page.own.drawer: [DRAWN]})


LESSON = Lesson(
    name="In the plane",
    path="plane",
    first=Plane(),
    text=TEXT,
    screen=lambda house: player(),
    program=program,
    answer=flow,
    tool=generate_plane,
    ask=("data", "direction"),
    beside=(drawer("points"), "denoiser", "count", "steps", "schedule", "sampler", "eta", "seed"),
    buttons=run_buttons,
    controls={"points": lambda: pad(MOST_POINTS)},
    order=tuple(Plane().values()),
    experiments=EXPERIMENTS,
    watched=("schedule", "data", "points"),
    watcher=field,
    connect=_connect,
)
