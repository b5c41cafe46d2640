"""Train it yourself: a small network learns the visitor's data while they watch, and then serves in the plane."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from ddpm.checkpoint import CheckpointError
from ddpm.lessons.points import DRAWN, MOST_POINTS
from ddpm.lessons.train.program import program
from ddpm.lessons.train.run import TRAINING, Frame, Training, look, opened, shown_batches, untrained
from ddpm.lessons.train.screen import COOKIE, Told, file, pack, player
from ddpm.lessons.train.sessions import BUDGET, SHARED_BUDGET, Budget, NoRoom, VisitorSession, VisitorSessions
from ddpm.lessons.trained import Trained, from_file, to_file
from ddpm.page.api import run_only, run_summary
from ddpm.page.builder import House, Lesson, Page, read_text
from ddpm.page.client import client_of
from ddpm.page.components.pad import drawer, pad
from ddpm.page.events import QUIET, STREAMING, show_for
from ddpm.page.experiments import described
from ddpm.page.stream import Answer, last, streamed_answer
from ddpm.serving.engine import Work

TEXT = read_text(Path(__file__).parent)

EXPERIMENTS = described(
    TEXT,
    {
        "Data ten times too small, ten steps": Training(scaling="small", shown_steps=10),
        "The same, scaled to variance 1": Training(scaling="standard", shown_steps=10),
        "Predict the noise": Training(prediction="noise"),
        "Predict the clean point": Training(prediction="x0"),
    },
)

_UNTRAINED = "This is what a network makes that has learned nothing yet. Press Train, or choose an experiment."

_SPENT = f"Your {BUDGET:.0f} seconds of computation are used up. Your network stays with you: use it, download it."

_SPENT_TOGETHER = (
    f"The {SHARED_BUDGET / 60:.0f} minutes of computation that all visitors of your address have in an hour are used up. "
    "Your network stays with you: use it, download it."
)

_NOISE = (
    "A network that predicts the noise says little about x₀ where there is almost nothing else: at λ = −12 its error counts "
    "√((1 − ᾱ) / ᾱ) = 400 times in x̂₀. See how many points fly off at the first step, and that predicting x₀ or v mends it."
)

_numbers = itertools.count()


async def _prepare() -> None:
    """Imports what torch's first optimizer does, once and for seconds: here who comes first to train waits for them, and
    the others a few tenths of one; at the server's start everybody would."""
    await asyncio.to_thread(import_module, "torch._dynamo")


# --- who has what -----------------------------------------------------------------------------------------------------


def visitor(request: gr.Request) -> str:
    """The secret name that the visitor's browser has chosen, on the page where it is needed first; or that of the page."""
    name = request.cookies.get(COOKIE, "")
    return name if re.fullmatch("[0-9a-f]{32}", name) else str(request.session_hash)


def mine(visits: VisitorSessions) -> Callable[[gr.Request], Trained | None]:
    """The function request -> the network that the visitor has trained or loaded, None if there is none."""

    def of(request: gr.Request) -> Trained | None:
        visit = visits.find(visitor(request))
        return visit.mine if visit else None

    return of


def _visit(house: House, request: gr.Request) -> VisitorSession:
    """The visit of the visitor. Raises gr.Error if there is no room for a new one."""
    try:
        return house.visits.of(visitor(request), client_of(request).address)
    except NoRoom as error:
        raise gr.Error(str(error), print_exception=False) from error


def _spent(visit: VisitorSession) -> str:
    """Says whose computation is used up."""
    return _SPENT if not visit.budget.left else _SPENT_TOGETHER


def _owner(visit: VisitorSession) -> str:
    """The engine's name for the visitor's training: not the secret one, which would stand in the log."""
    return f"training {id(visit)}"


# --- what the page shows ----------------------------------------------------------------------------------------------


def train(house: House, training: Training, notes: list[str], request: gr.Request) -> list[Answer]:
    """Streams a training as the page's player gets it. A setting that is not allowed is corrected, and a note says so.

    Gives messages "header|payload" of a JSON object and base64: kind "start", "frame" with the losses each time the
    network is looked at, "note", "end". A frame's payload is little-endian: x0 on the arrows' 20 × 20 points at
    three levels as float32, 3 × 400 × 2; then 500 generated particles as int16, 4096 to the unit.
    """
    notes = notes + ([_NOISE] if training.prediction == "noise" else [])
    return _learning(_visit(house, request), training, notes)


def _learning(visit: VisitorSession, training: Training, notes: list[str], goes_on: bool = False) -> list[Answer]:
    """A training, or what is left of it; nothing if there is no computation left."""
    if visit.spent:
        gr.Warning(_spent(visit))
        return []
    told = Told(training, notes, len(shown_batches(training.batches)), goes_on)
    steps = opened(training, visit.train(None if goes_on else training), lambda: _spent(visit) if visit.spent else None)
    return [_answer(steps, told, visit.budget, _owner(visit), TRAINING)]


def _answer(steps: Work, told: Told, budget: Budget, owner: str | None = None, kind: str = "") -> Answer:
    return Answer(
        steps, lambda shown, job: pack(shown, job, told, budget.left), owner=owner, kind=kind, prepare=_prepare
    )


def _go_on(house: House, training: Training, notes: list[str], request: gr.Request) -> list[Answer]:
    visit = _visit(house, request)
    if not visit.apprentice:
        gr.Warning("There is no training to go on with; press Train.")
    elif visit.apprentice.finished:
        gr.Warning("This training has reached its last batch; for a longer one choose more batches and press Train.")
    else:
        return _learning(visit, visit.apprentice.training, [], goes_on=True)
    return []


def _network(visit: VisitorSession, mine: Trained, notes: list[str]) -> Answer:
    """The network ``mine`` that the visitor has."""
    shown = Training(mine.plane.data, mine.plane.points, mine.network.config.prediction)
    told = Told(shown, notes, 1, loaded=mine.batches)
    return _answer(
        opened(shown, look(mine, shown.shown_steps), scaling=mine.scaling), told, visit.budget, _owner(visit)
    )


def _come_back(house: House, training: Training, notes: list[str], request: gr.Request) -> Answer:
    """The network that the visitor has from before, or what one makes that has learned nothing yet."""
    visit = house.visits.find(visitor(request))
    if visit and visit.mine:
        return _network(visit, visit.mine, ["This is the network that you have from before."])
    return _answer(opened(training, untrained(training)), Told(training, [*notes, _UNTRAINED], 1), Budget())


async def train_network(
    house: House, training: Training, notes: list[str], request: gr.Request
) -> tuple[str, dict[str, Any]]:
    """Trains a small network on data in the plane for up to a minute of computation, and answers once it is trained.

    Gives the network as a safetensors file, and
    an object with the settings used, the query of the page's link to them, notes, the batches that it was
    trained on, its loss on held-out data, the sliced Wasserstein distance of what it generates to held-out
    data, and the floor: what fresh data would have.
    """
    visit = _visit(house, request)
    await _prepare()
    end = await last(house.engine, visit.train(training), request, TRAINING)
    if not isinstance(end, Frame):
        raise gr.Error(_spent(visit), print_exception=False)
    name = f"{end.trained.plane.data}.safetensors"
    path = gr.processing_utils.save_bytes_to_cache(to_file(end.trained), name, get_upload_folder())
    measures = {"held_out_loss": end.held_out, "distance": end.distance, "floor": end.floor}
    return path, run_summary(training, notes, batches=end.trained.batches, **measures)


# --- the page ---------------------------------------------------------------------------------------------------------


def _buttons(page: Page) -> None:
    with gr.Column(scale=0, min_width=330):
        with gr.Row():
            page.own.begin = gr.Button("Train", variant="primary", min_width=90, elem_id="train")
            page.own.halt = gr.Button("Stop", min_width=70, elem_id="stop")
            page.own.further = gr.Button("Continue", min_width=90, elem_id="continue")
        with gr.Row():
            page.own.take = gr.Button("Download my network", size="sm", min_width=150, elem_id="download")
            page.own.bring = gr.UploadButton("Load a network", size="sm", min_width=150, elem_id="upload")


def _connect(page: Page) -> None:
    house, streaming = page.house, {"outputs": page.screen, **STREAMING, "api_visibility": "private"}

    async def load(path: str, request: gr.Request) -> AsyncGenerator[str, None]:
        visit = _visit(house, request)
        try:
            house.engine.stop(_owner(visit))
            brought = await asyncio.to_thread(from_file, Path(path))
            visit.bring(brought)
        except CheckpointError as error:
            gr.Warning(escape(str(error), quote=False))  # which shows HTML, and the error quotes the file
            return
        shown = _network(visit, brought, ["This is the network that you have loaded."])
        async with aclosing(streamed_answer(house.engine, shown, client_of(request))) as messages:
            async for message in messages:
                yield message

    def stop(request: gr.Request) -> None:
        if visit := house.visits.find(visitor(request)):
            house.engine.stop(_owner(visit))

    def download(request: gr.Request) -> str | dict:
        network = house.mine(request)
        if not network:
            gr.Warning("There is no network to download yet; press Train.")
            return gr.skip()
        return file(to_file(network), f"{network.plane.data}.safetensors", next(_numbers))

    page.stream(page.own.begin.click, page.show)
    page.stream(page.own.further.click, page.handler(_go_on))
    page.own.halt.click(stop, None, None, **QUIET)
    page.own.take.click(download, None, **streaming)  # queued: others cannot show a warning
    page.own.bring.upload(load, page.own.bring, **{**streaming, "preprocess": True})
    show_for(page.controls["data"], {page.own.drawer: [DRAWN]})


LESSON = Lesson(
    name="Train it yourself",
    path="train",
    first=Training(),
    text=TEXT,
    screen=lambda house: player(),
    program=program,
    answer=train,
    tool=train_network,
    outputs=lambda: [gr.File(label="Network", visible=False), *run_only()],
    ask=("data",),
    beside=(drawer("points"), "prediction", "scaling", "batches", "shown_steps"),
    buttons=_buttons,
    controls={"points": lambda: pad(MOST_POINTS)},
    experiments=EXPERIMENTS,
    opened=_come_back,
    connect=_connect,
)
