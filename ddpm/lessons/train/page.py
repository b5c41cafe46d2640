"""Train it yourself: a small network learns the visitor's data while they watch, and then serves in the plane."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

import gradio as gr

from ddpm.checkpoint import CheckpointError
from ddpm.lessons.points import DATA_NAMES, DRAWN, sketch
from ddpm.lessons.train.run import (
    SETTINGS,
    TRAINING,
    Apprentice,
    Frame,
    Training,
    exact_field,
    exact_loss,
    look,
    shown_batches,
)
from ddpm.lessons.train.screen import COOKIE, file, frame, note, player, start
from ddpm.lessons.train.sessions import BUDGET, SHARED_BUDGET, Budget, NoRoom, Visit, Visits
from ddpm.lessons.trained import Trained, from_file, to_file
from ddpm.page.builder import (
    FOLLOWING,
    QUIET,
    STREAMING,
    documented,
    dropdown,
    endpoint,
    experiments,
    last,
    open_with_link,
    show_code,
    show_for,
    slider,
    stream,
    taking,
    told,
    write_address,
)
from ddpm.page.client import Client, client_of
from ddpm.page.components.pad import pad
from ddpm.page.experiments import TRAINING as EXPERIMENTS
from ddpm.scaling import Scaling
from ddpm.serving.engine import Engine

INTRODUCTION = f"""
# Train a network yourself
A network of 110,000 weights, which knows nothing yet, learns to remove noise from your data while you watch. Watch the
blue points: first they form a blob where the data is, then its outline, last its details, while the loss hardly falls any
more: it is the average over all levels of noise, and at most of them even the exact answer is uncertain. Then predict *x₀* or *noise* instead of *v*, scale the data in another way, or let few steps T show what was learned.

You have {BUDGET:.0f} seconds of computation, waiting not counted, and the network is yours alone: nobody else sees it, and an hour
after its last use it is gone from here.
"""

_NAMES = tuple(SETTINGS)

_PREDICTIONS = {"noise": "the noise ε", "x0": "the clean point x₀", "v": "v = α ε − σ x₀"}

_SCALINGS = {
    "unit": "to [−1, 1]",
    "standard": "to mean 0 and variance 1",
    "small": "to [−0.1, 0.1]: ten times too small",
    "none": "not at all",
}

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


def visitor(request: gr.Request) -> str:
    """The secret name that the visitor's browser has chosen, on the page where it is needed first; or that of the page."""
    name = request.cookies.get(COOKIE, "")
    return name if re.fullmatch("[0-9a-f]{32}", name) else str(request.session_hash)


def lesson(engine: Engine, visits: Visits) -> None:
    """Adds the lesson to the ``gr.Blocks`` being built; what visitors train is kept in ``visits``."""

    def visit_of(request: gr.Request) -> Visit:
        """The visit of the visitor. Raises gr.Error if there is no room for a new one."""
        try:
            return visits.of(visitor(request), client_of(request).address)
        except NoRoom as error:
            raise gr.Error(str(error), print_exception=False) from error

    async def learn(
        visit: Visit, client: Client, training: Training, notes: list[str], goes_on: bool = False
    ) -> AsyncIterator[str]:
        """The messages of a training."""
        if visit.spent:
            gr.Warning(_spent(visit))
            return

        def job() -> Iterator[Frame | str | None]:
            yield from visit.train(None if goes_on else training)
            if visit.spent:
                yield _spent(visit)

        await _prepare()
        opening = await asyncio.to_thread(_opening, training, notes, goes_on)
        whose = client.named(_owner(visit))
        async with aclosing(stream(engine, job(), whose, opening, _pack(visit.budget), TRAINING)) as messages:
            async for message in messages:
                yield message

    def train(query: dict[str, Any], request: gr.Request) -> AsyncIterator[str]:
        """Streams a training as the page's player gets it. A setting that is not allowed is corrected, and a note says so.

        Gives messages "header|payload" of a JSON object and base64: kind "start", "frame" with the losses each time the
        network is looked at, "note", "end". A frame's payload is little-endian: x0 on the arrows' 20 × 20 points at
        three levels as float32, 3 × 400 × 2; then 500 generated particles as int16, 4096 to the unit.
        """
        training, notes = Training.from_query(query)
        notes = notes + ([_NOISE] if training.prediction == "noise" else [])
        return learn(visit_of(request), client_of(request), training, notes)

    async def train_network(query: dict[str, Any], request: gr.Request) -> tuple[str, dict[str, Any]]:
        """Trains a small network on data in the plane for up to a minute of computation, and answers once it is trained.

        Gives the network as a safetensors file, and
        an object with the settings used, the query of the page's link to them, notes, the batches that it was
        trained on, its loss on held-out data, the sliced Wasserstein distance of what it generates to held-out
        data, and the floor: what fresh data would have.
        """
        training, notes = Training.from_query(query)
        visit = visit_of(request)
        await _prepare()
        end = await last(engine, visit.train(training), request, TRAINING)
        if not isinstance(end, Frame):
            raise gr.Error(_spent(visit), print_exception=False)
        name = f"{end.trained.plane.data}.safetensors"
        path = gr.processing_utils.save_bytes_to_cache(to_file(end.trained), name, outputs[0].GRADIO_CACHE)
        measures = {"held_out_loss": end.held_out, "distance": end.distance, "floor": end.floor}
        return path, told(training, notes, batches=end.trained.batches, **measures)

    async def go_on(request: gr.Request) -> AsyncIterator[str]:
        visit = visit_of(request)
        if not visit.apprentice:
            gr.Warning("There is no training to go on with; press Train.")
        elif visit.apprentice.finished:
            gr.Warning(
                "This training has reached its last batch; for a longer one choose more batches and press Train."
            )
        else:
            async with aclosing(
                learn(visit, client_of(request), visit.apprentice.training, [], goes_on=True)
            ) as messages:
                async for message in messages:
                    yield message

    async def show(visit: Visit, client: Client, notes: list[str]) -> AsyncIterator[str]:
        """The messages that show the network that the visitor has."""
        mine = visit.mine
        shown = Training(mine.plane.data, mine.plane.points, mine.network.config.prediction)
        opening = await asyncio.to_thread(_opening, shown, notes, scaling=mine.scaling, batches=mine.batches)
        job = look(mine, shown.shown_steps)
        async with aclosing(stream(engine, job, client.named(_owner(visit)), opening, _pack(visit.budget))) as messages:
            async for message in messages:
                yield message

    async def show_untrained(training: Training, notes: list[str], client: Client) -> AsyncIterator[str]:
        """The messages that show what a network makes that has learned nothing yet."""

        def job() -> Iterator[Frame | None]:
            yield from look(Apprentice(training).trained(), training.shown_steps)

        await _prepare()
        opening = await asyncio.to_thread(_opening, training, notes, frames=1)
        async with aclosing(stream(engine, job(), client, opening, _pack(Budget()))) as messages:
            async for message in messages:
                yield message

    async def load(path: str, request: gr.Request) -> AsyncIterator[str]:
        visit = visit_of(request)
        try:
            engine.stop(_owner(visit))
            visit.bring(await asyncio.to_thread(from_file, Path(path)))
        except CheckpointError as error:
            gr.Warning(escape(str(error), quote=False))  # which shows HTML, and the error quotes the file
            return
        async with aclosing(show(visit, client_of(request), ["This is the network that you have loaded."])) as messages:
            async for message in messages:
                yield message

    def come_back(query: dict[str, Any], request: gr.Request) -> AsyncIterator[str]:
        visit = visits.find(visitor(request))
        if visit and visit.mine:
            return show(visit, client_of(request), ["This is the network that you have from before."])
        training, notes = Training.from_query(query)
        return show_untrained(training, [*notes, _UNTRAINED], client_of(request))

    def stop(request: gr.Request) -> None:
        if visit := visits.find(visitor(request)):
            engine.stop(_owner(visit))

    def download(request: gr.Request) -> str | dict:
        visit = visits.find(visitor(request))
        if not visit or not visit.mine:
            gr.Warning("There is no network to download yet; press Train.")
            return gr.skip()
        return file(to_file(visit.mine), f"{visit.mine.plane.data}.safetensors", next(_numbers))

    gr.Markdown(INTRODUCTION)
    with gr.Row(elem_id="ask"):
        controls: dict[str, gr.components.Component] = {
            "data": dropdown(Training, "data", "Data", "The shape that the network is to learn.", DATA_NAMES)
        }
        offered = experiments(EXPERIMENTS)
        offered.choice.render()
        with gr.Column(scale=0, min_width=330):
            with gr.Row():
                begin = gr.Button("Train", variant="primary", min_width=90, elem_id="train")
                halt = gr.Button("Stop", min_width=70, elem_id="stop")
                further = gr.Button("Continue", min_width=90, elem_id="continue")
            with gr.Row():
                take = gr.Button("Download my network", size="sm", min_width=150, elem_id="download")
                bring = gr.UploadButton("Load a network", size="sm", min_width=150, elem_id="upload")
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
    outputs = [gr.File(label="Network", visible=False), gr.JSON(label="Run", visible=False)]
    run = taking(controls, train)
    documented(run, "train", controls, SETTINGS)
    endpoint(train_network, "train_network", controls, outputs, SETTINGS)
    streaming = {"outputs": screen, **STREAMING}
    begin.click(run, inputs, **streaming, api_name="train")
    offered.connect(controls, screen, run)
    further.click(go_on, None, **streaming, api_visibility="private")
    halt.click(stop, None, None, **QUIET)
    take.click(download, None, **streaming, api_visibility="private")  # queued: others cannot show a warning
    bring.upload(load, bring, **{**streaming, "preprocess": True}, api_visibility="private")
    changes = [control.change for control in inputs]
    gr.on(changes, None, inputs, None, js=write_address(_NAMES), **FOLLOWING)
    show_for(controls["data"], {drawer: [DRAWN]})

    open_with_link(inputs, screen, come_back, Training.from_query, _values)
    show_code(controls, Training.from_query)


def _spent(visit: Visit) -> str:
    """Says whose computation is used up."""
    return _SPENT if not visit.budget.left else _SPENT_TOGETHER


def _owner(visit: Visit) -> str:
    """The engine's name for the visitor's training: not the secret one, which would stand in the log."""
    return f"training {id(visit)}"


def _opening(
    training: Training,
    notes: list[str],
    goes_on: bool = False,
    scaling: Scaling | None = None,
    batches: int | None = None,
    frames: int | None = None,
) -> Callable[[int], str]:
    """The function job number -> the message that opens the player on ``frames``, by default those of the training.

    Of a loaded network ``scaling`` and ``batches`` are given.
    """
    plane = training.plane
    least = exact_loss(plane, scaling or training.scale, training.prediction)
    data, exact = sketch(plane).numpy(), exact_field(plane).numpy()
    frames = frames or (len(shown_batches(training.batches)) if batches is None else 1)
    return lambda job: start(training, job, notes, frames, data, exact, least, goes_on, batches)


def _pack(budget: Budget) -> Callable[[Any, int], str]:
    return lambda shown, job: note(shown, job) if isinstance(shown, str) else frame(shown, job, budget.left)


def _values(training: Training) -> list[object]:
    return [getattr(training, name) for name in _NAMES]


def _settings() -> dict[str, gr.components.Component]:
    return {
        "prediction": dropdown(
            Training, "prediction", "The network predicts", "What it is asked about a noisy point.", _PREDICTIONS
        ),
        "scaling": dropdown(
            Training, "scaling", "Scale the data", "What the network sees of its size and place.", _SCALINGS
        ),
        "batches": slider(
            Training, "batches", 100, "Batches", "Of 256 points each; the learning rate falls over the last 30 %."
        ),
        "shown_steps": slider(
            Training, "shown_steps", 1, "Steps T of the pictures", "Of the runs that show what it has learned."
        ),
    }


def mine(visits: Visits) -> Callable[[gr.Request], Trained | None]:
    """The function request -> the network that the visitor has trained or loaded, None if there is none."""

    def of(request: gr.Request) -> Trained | None:
        visit = visits.find(visitor(request))
        return visit.mine if visit else None

    return of
