"""What the lessons share: how a job becomes a stream of messages, and how controls write the address."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from inspect import Parameter, Signature
from typing import Any, NamedTuple
from urllib.parse import urlencode

import gradio as gr

from ddpm.lessons.program import program
from ddpm.page.client import Client, client_of
from ddpm.page.components.shared import end, waiting
from ddpm.page.experiments import Experiment
from ddpm.schedule import SCHEDULES, Schedule, alpha_bar, grid
from ddpm.serving.engine import MOST_UNREAD, Engine, Full, Job, Place
from ddpm.settings import TABLE, Scheduled, Setting, Settings, parameters

log = logging.getLogger(__name__)

RAW = {"preprocess": False, "postprocess": False}
"""Of events whose values need no work: Gradio hands each to a thread of its own first, the settings and every message."""

STREAMING = {
    **RAW,
    "show_progress": "hidden",
    "trigger_mode": "multiple",
    "concurrency_limit": None,  # the engine has a queue of its own, which tells visitors their place
    "concurrency_id": "engine",
}
"""Of every event that streams a run: a second press replaces the run under way."""

FOLLOWING = {"show_progress": "hidden", "api_visibility": "private"}
"""Of the events that change controls."""

QUIET = {"queue": False, **FOLLOWING}
"""Of those that only show or hide one, and do not wait for their turn."""

LATEX = [{"left": "$", "right": "$", "display": False}]
"""The signs between which a text holds a formula."""

PARAMETERS = {
    "s": (0.001, "Offset s", "Of the cosine schedule: how much noise even the first step adds."),
    "p": (0.1, "Power p", "Of the polynomial schedule ᾱ = 1 − (t/T)ᵖ: more keeps the data for longer."),
    "reach": (0.1, "Reach", "Of the sigmoid schedule: more spends more steps at both ends."),
    "c": (0.1, "Rate c", "Of the constant schedule ᾱ = exp(−c t/T): less leaves more signal at the end."),
}
"""The parameters of the schedules that are numbers: a slider's step, its label and its line of help."""

DRAW_SEED = "() => Math.floor(Math.random() * 2 ** 31)"

SAMPLER_NAMES = {
    "ddim": "DDIM … DDPM (by η)",
    "ddpm-beta": "DDPM with the variance β",
    "dpm-solver++": "DPM-Solver++ (2M)",
    "heun": "Heun (asks twice a step)",
}
"""What the page calls each sampler."""

FAILED = "The computation failed on the server; please try again."

UNHEARD = "Nobody has listened, so the computation has ended; please fetch the answer soon after you ask."

NO_ETA = "η belongs to the sampler DDIM … DDPM; the one chosen has none."

_SCROLL_TO_SETTINGS = """element.querySelector("a").addEventListener("click", (event) => {
  event.preventDefault();  // the page's base address would make it another page
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  document.querySelector("#settings").scrollIntoView({ behavior: still ? "auto" : "smooth" });
});"""

_FOLLOW = """() => {
  if (document.querySelector("#program")?.checkVisibility()) document.querySelector("#follow").click();
}"""

_jobs = itertools.count()


def write_address(names: Sequence[str]) -> str:
    """A script that takes the values of the controls ``names`` to the page's address and its player."""
    return f"""(...values) => {{
  const names = {json.dumps(names)};
  window.ddpm?.changed(Object.fromEntries(names.map((name, i) => [name, values[i] ?? ""])));
}}"""


class Buttons(NamedTuple):
    """What starts and ends a run."""

    generate: gr.Button
    halt: gr.Button
    dice: gr.Button


def buttons() -> Buttons:
    """The buttons of a lesson, in a column of their own, with the link to the settings."""
    with gr.Column(scale=0, min_width=210):
        with gr.Row():
            generate = gr.Button("Generate", variant="primary", min_width=110, elem_id="generate")
            halt = gr.Button("Stop", min_width=70, elem_id="stop")
        dice = gr.Button("Generate from new noise", size="sm", elem_id="dice")
        to_settings()
    return Buttons(generate, halt, dice)


def connect(
    engine: Engine,
    pressed: Buttons,
    controls: Mapping[str, gr.components.Component],
    screen: gr.HTML,
    messages: Messages,
    read: Callable[[Mapping[str, Any]], tuple[Settings, list[str]]],
    api_name: str,
) -> Callable[..., AsyncIterator[str]]:
    """Lets the buttons start a run of the ``controls`` and end it, the address follow them, and a link set them.

    ``read`` makes the settings of a link's query. Returns the handler that the buttons start.
    """
    names, inputs, run = list(controls), list(controls.values()), taking(controls, messages)
    streaming = {"outputs": screen, **STREAMING}

    def stop(request: gr.Request) -> None:
        engine.stop(request.session_hash)

    def values(settings: Settings) -> list[object]:
        return [getattr(settings, name) for name in names]

    settings, _ = read({})
    documented(run, api_name, controls, settings.allowed(settings.values()))
    pressed.generate.click(run, inputs, **streaming, api_name=api_name)
    drawn = pressed.dice.click(None, None, controls["seed"], js=DRAW_SEED, api_visibility="private")
    drawn.then(run, inputs, **streaming, api_visibility="private")
    pressed.halt.click(stop, None, None, **QUIET)
    changes = [control.change for control in inputs]
    gr.on(changes, None, inputs, None, js=write_address(names), **FOLLOWING)
    open_with_link(inputs, screen, messages, read, values)
    show_code(controls, read)
    return run


def open_with_link(
    inputs: Sequence[gr.components.Component],
    screen: gr.HTML,
    messages: Messages,
    read: Callable[[Mapping[str, Any]], tuple[Settings, list[str]]],
    values: Callable[[Settings], list[object]],
) -> None:
    """Lets a link set the controls ``inputs``, to the ``values`` of the settings that ``read`` makes of it, and begin."""

    def settings_of_link(request: gr.Request) -> list[object]:
        return values(read(dict(request.query_params))[0])

    async def open_link(request: gr.Request) -> AsyncIterator[str]:
        async with aclosing(messages(dict(request.query_params), request)) as each:
            async for message in each:
                yield message

    page = gr.context.Context.root_block
    page.load(settings_of_link, None, inputs, **FOLLOWING, **RAW)
    page.load(open_link, None, outputs=screen, **STREAMING, api_visibility="private")


def show_code(
    controls: Mapping[str, gr.components.Component], read: Callable[[Mapping[str, Any]], tuple[Settings, list[str]]]
) -> None:
    """Adds the program of the settings that ``read`` makes of the ``controls``, which follows them while it is seen."""
    names, inputs = list(controls), list(controls.values())

    def code(*values: Any) -> str:
        return program(read(given(names, values))[0])

    with gr.Accordion("Show the code", open=False, elem_id="code") as shown:
        gr.Markdown(
            "The same computation as a Python program, with the settings chosen above. Run it in the folder of this "
            "project: it gives the same numbers, up to rounding."
        )
        text = gr.Code(
            program(read({})[0]),
            "python",
            interactive=False,
            wrap_lines=True,
            buttons=["copy"],
            label="Program",
            elem_id="program",
        )
        follow = gr.Button(visible="hidden", elem_id="follow")
    changes = [control.change for control in inputs]
    gr.on(changes, js=_FOLLOW, **FOLLOWING)
    # Values as they come: a control's limits may have changed before its value has, and ``read`` keeps to its own.
    gr.on([shown.expand, follow.click], code, inputs, text, trigger_mode="always_last", preprocess=False, **QUIET)


class Experiments(NamedTuple):
    """The choice of an experiment and, once one is chosen, what to look for in it."""

    known: Mapping[str, Experiment]
    choice: gr.Dropdown
    text: gr.Markdown

    def connect(
        self,
        controls: Mapping[str, gr.components.Component],
        screen: gr.HTML,
        run: Callable[..., AsyncIterator[str]],
    ) -> None:
        """Lets a choice set the ``controls`` and the layers, and start ``run``, whose arguments they are in order."""
        inputs = list(controls.values())
        layers = json.dumps({name: dict(one.layers) for name, one in self.known.items()})

        def settings(name: str) -> list[Any]:
            one = self.known[name]
            return [*(getattr(one.settings, control) for control in controls), gr.Markdown(one.text, visible=True)]

        chosen = self.choice.select(
            settings,
            self.choice,
            [*inputs, self.text],
            js=f"(name) => {{ window.ddpm.choose({layers}[name]); return [name]; }}",
            **FOLLOWING,
        )
        chosen.then(run, inputs, screen, **STREAMING, api_visibility="private")


def experiments(known: Mapping[str, Experiment]) -> Experiments:
    """The choice among ``known``; it and its ``text`` are still to be rendered where they are to stand."""
    choice = gr.Dropdown(
        list(known),
        value=None,
        label="Experiment",
        info="Settings worth a look; one click runs them.",
        elem_id="experiment",
        min_width=200,
        render=False,
    )
    return Experiments(known, choice, gr.Markdown(visible=False, elem_id="look-for", render=False))


def connect_presets(
    known: Mapping[str, Experiment],
    pressed: Mapping[str, gr.Button],
    inputs: Sequence[gr.components.Component],
    text: gr.Markdown,
    values: Callable[[Any], list[object]],
    run: Callable[..., AsyncIterator[str]],
    screen: gr.HTML,
) -> None:
    """Lets each button set the ``inputs`` to its experiment's ``values``, say what to look for, and start ``run``."""
    for name, button in pressed.items():
        one = known[name]
        chosen = button.click(
            lambda one=one: [*values(one.settings), gr.Markdown(one.text, visible=True)],
            None,
            [*inputs, text],
            **FOLLOWING,
        )
        chosen.then(run, inputs, screen, **STREAMING, api_visibility="private")


def to_settings() -> gr.HTML:
    """A link to the settings, for phones, where they stand below the plots."""
    link = '<a href="#settings">all settings ↓</a>'
    return gr.HTML(link, elem_id="to-settings", js_on_load=_SCROLL_TO_SETTINGS)


def slider(kind: type[Settings], name: str, step: float, label: str, info: str, visible: bool = True) -> gr.Slider:
    """The control of a Number of the settings ``kind``."""
    limits, value = kind.allowed({})[name], getattr(kind, name)
    return gr.Slider(limits.low, limits.high, value, step=step, label=label, info=info, elem_id=name, visible=visible)


def dropdown(
    kind: type[Settings], name: str, label: str, info: str, names: Mapping[str, str] | None = None
) -> gr.Dropdown:
    """The control of a Choice of the settings ``kind``; ``names`` says how options are called on the page."""
    choices = [((names or {}).get(option, option), option) for option in kind.allowed({})[name].options]
    return gr.Dropdown(choices, value=getattr(kind, name), label=label, info=info, elem_id=name, min_width=200)


def moved_by(
    kind: type[Settings],
    info: str = "What predicts x̂₀: the network, or the exact formula.",
    label: str = "Moved by",
    visible: bool = True,
) -> gr.Radio:
    """The choice between the learned and the exact denoiser, and what else ``kind`` allows."""
    return gr.Radio(
        list(kind.allowed({})["denoiser"].options),
        value=kind.denoiser,
        label=label,
        info=info,
        elem_id="denoiser",
        visible=visible,
    )


def seed(kind: type[Settings], info: str, name: str = "seed", label: str = "Seed") -> gr.Number:
    """The control of a seed; without limits, past which Gradio would refuse what ``from_query`` corrects with a note."""
    return gr.Number(getattr(kind, name), precision=0, label=label, info=info, elem_id=name)


def schedule(kind: type[Scheduled]) -> dict[str, gr.components.Component]:
    """The controls of the schedule and of the parameters of all schedules, only the chosen one's shown."""
    own = parameters(kind.schedule)
    return {
        "schedule": dropdown(
            kind, "schedule", "Noise schedule", "How the noise is shared out over the steps.", {TABLE: "your own table"}
        ),
        **{name: slider(kind, name, *about, visible=name in own) for name, about in PARAMETERS.items()},
        "table": gr.Textbox(
            kind.table,
            label="Your own β, from data to noise",
            info="Numbers between 0 and 1 with spaces between, stretched over the T steps; then press Enter. The page "
            "Schedules draws one.",
            elem_id="table",
            visible=TABLE in own,
        ),
    }


def follow_schedule(controls: Mapping[str, gr.components.Component]) -> None:
    """Shows the parameter of the chosen schedule alone, whenever another is chosen."""
    names = (*PARAMETERS, "table")
    show_for(
        controls["schedule"],
        {controls[name]: [curve for curve in (*SCHEDULES, TABLE) if name in parameters(curve)] for name in names},
    )


def show_for(chosen: gr.Dropdown, choices: Mapping[gr.blocks.Block, Sequence[str]]) -> None:
    """Shows each part of the page for its own choices alone: the page does so itself, however busy the server is."""
    script = f"""(chosen) => {json.dumps(list(choices.values()))}.map(
  (own) => ({{ __type__: "update", visible: own.includes(chosen) }}))"""
    chosen.change(None, chosen, list(choices), js=script, **FOLLOWING)


def schedule_moved(controls: Mapping[str, gr.components.Component]) -> list[Callable]:
    """The events of a visitor who chooses another schedule or parameter; a link that does so triggers none."""
    return [
        controls["schedule"].select,
        *(controls[name].release for name in PARAMETERS),
        controls["table"].submit,
    ]


def left_over(curve: Schedule) -> list[str]:
    """One sentence if ``curve`` ends before pure noise, from which a run starts all the same."""
    left = float(alpha_bar(grid(curve, 1)[0]))
    if left <= 1e-3:
        return []
    unreached = f"This schedule never reaches pure noise: at t = T, ᾱ = {left:.1%} of the signal's variance is left"
    return [f"{unreached}, but the run starts from pure noise. See what that costs."]


def given(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """The values of controls as a link would give them: an empty control is an empty text."""
    return {name: "" if value is None else value for name, value in zip(names, values)}


Messages = Callable[[dict[str, Any], gr.Request], AsyncIterator[str]]
"""Settings as a link has them, and who asks -> the messages of the run."""


def taking(names: Iterable[str], messages: Messages) -> Callable[..., AsyncIterator[str]]:
    """The handler of the controls ``names`` that streams the ``messages``, described as these are."""
    names = list(names)

    async def handler(*values: Any) -> AsyncIterator[str]:
        *values, request = values
        async with aclosing(messages(given(names, values), request)) as each:
            async for message in each:
                yield message

    handler.__doc__ = messages.__doc__
    return _signed(handler, names)


def _signed(handler: Callable, names: Iterable[str]) -> Callable:
    """``handler``, which takes anything, as one that says to take the values of ``names`` and the request."""
    own = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in (*names, "request")]
    handler.__signature__, handler.__annotations__ = Signature(own), {"request": gr.Request}
    return handler


# --- for programs -----------------------------------------------------------------------------------------------------


def documented(
    run: Callable, api_name: str, controls: Mapping[str, gr.components.Component], allowed: Mapping[str, Setting]
) -> None:
    """Gives the handler ``run`` of a stream the name and the docstring that the page of the API shows.

    The docstring says of each argument what the page says of its control, and what it may be.
    """
    run.__name__, run.__doc__ = api_name, _docstring(run.__doc__, controls, allowed)
    run._mcp_type = "stream"  # no tool for a language model, which would be given the last message alone


def endpoint(
    answer: Callable[[dict[str, Any], gr.Request], Awaitable[Any]],
    api_name: str,
    controls: Mapping[str, gr.components.Component],
    outputs: Sequence[gr.components.Component],
    allowed: Mapping[str, Setting],
) -> None:
    """Adds an endpoint without a control: ``answer`` takes the values of ``controls`` and gives those of ``outputs``.

    Its docstring, completed as a stream's is, describes the endpoint and the tool of MCP clients.
    """

    async def handler(*values: Any) -> Any:
        *values, request = values
        return await answer(given(list(controls), values), request)

    handler.__name__, handler.__doc__ = api_name, _docstring(answer.__doc__, controls, allowed)
    _offer(_signed(handler, controls), api_name, controls, list(outputs), preprocess=False)


def streamed(
    messages: Messages,
    api_name: str,
    controls: Mapping[str, gr.components.Component],
    screen: gr.HTML,
    allowed: Mapping[str, Setting],
) -> None:
    """Adds an endpoint without a control that streams the ``messages`` which the page's ``screen`` gets.

    Its name must be that of no handler of a page: Gradio would number it.
    """

    handler = taking(controls, messages)
    documented(handler, api_name, controls, allowed)
    _offer(handler, api_name, controls, screen, **RAW)


def pictures_and_run() -> list[gr.components.Component]:
    """What an endpoint for programs answers."""
    return [gr.Image(format="png", label="Pictures", visible=False), gr.JSON(label="Run", visible=False)]


def unseen(value: str | int, label: str, info: str) -> gr.components.Component:
    """A control for programs alone, in the place of one that takes a mouse."""
    if isinstance(value, int):
        return gr.Number(value, precision=0, label=label, info=info, visible=False)
    return gr.Textbox(value, label=label, info=info, visible=False)


def _offer(
    handler: Callable,
    api_name: str,
    controls: Mapping[str, gr.components.Component],
    outputs: gr.components.Component | list[gr.components.Component],
    **options: Any,
) -> None:
    """Adds the endpoint ``handler``, which takes the values of ``controls`` and the request."""
    gr.Button(visible=False).click(
        handler,
        list(controls.values()),
        outputs,
        show_progress="hidden",
        concurrency_limit=None,
        concurrency_id=STREAMING["concurrency_id"],
        api_name=api_name,
        **options,
    )


def _docstring(
    text: str | None, controls: Mapping[str, gr.components.Component], allowed: Mapping[str, Setting]
) -> str:
    def about(name: str) -> str:
        return f"{getattr(controls[name], 'info', None) or ''} It {allowed[name].problem(None)}.".strip()

    return "\n".join([text or "", "Args:", *(f"{name}: {about(name)}" for name in controls)])


async def last(engine: Engine, steps: Iterator[Any | None], request: gr.Request, kind: str = "") -> Any:
    """The last frame of a job that nobody watches, for the program that has sent ``request``.

    Raises gr.Error if the computation failed, if there are too many jobs, or if the program has ceased to listen.
    """
    client, frame = client_of(request), None
    try:
        job = engine.submit(steps, None, client.address, kind)
    except Full as full:
        raise gr.Error(str(full), print_exception=False) from full
    try:
        while (shown := await next_frame(job, client)) is not None:
            frame = frame if isinstance(shown, Place) else shown
        return frame
    except Unheard as error:
        raise gr.Error(UNHEARD, print_exception=False) from error
    except RuntimeError as error:
        raise gr.Error(FAILED, print_exception=False) from error
    finally:
        engine.drop(job)


class Unheard(Exception):
    """Nobody listens to a job any more."""


async def next_frame(job: Job, client: Client) -> Any | None:
    """The next frame of ``job``, or None after the last. Raises Unheard once ``client`` is gone, RuntimeError if the job failed."""
    while not job.unread:
        await job.gather(LISTEN, 1)
        if client.is_gone():
            raise Unheard
    return await job.next()


def told(settings: Settings, notes: Sequence[str], **measures: Any) -> dict[str, Any]:
    """What a program is told of a run: its settings, the query of its link, notes for people, and ``measures``."""
    return {"settings": settings.values(), "link": f"?{urlencode(settings.query())}", "notes": list(notes), **measures}


# --- streams ----------------------------------------------------------------------------------------------------------


PACE = 0.04
"""Seconds from one message to the next at least: each costs the server some 4 ms, whatever it holds."""

MESSAGES = 50
"""About so many a second to all visitors together, but for a first frame, an end and ENOUGH frames, which do not wait."""

SHOWN = 30
"""Frames a second: while a visitor's page shows those of a message, the next ones gather."""

LISTEN = 5.0
"""Seconds without a frame after which it is looked whether anybody still listens."""


async def stream(
    engine: Engine,
    steps: Iterator[Any | None],
    client: Client,
    start: Callable[[int], str],
    pack: Callable[[Any, int], str],
    kind: str = "",
) -> AsyncIterator[str]:
    """The messages of one job: ``start`` of its number, each frame as ``pack`` of it and the number writes it, the end.

    Lines of one string are messages that came together; neither the first frame nor the last is kept waiting. However
    fast the frames come, a string holds but so many that others on the event loop are not kept waiting either. The next
    string waits until the ``client`` has read the last, and the job of a client that is gone ends.
    """
    number, ended, begun = next(_jobs), None, False
    try:
        job = engine.submit(steps, client.session, client.address, kind)
    except Full as full:
        yield "\n".join([start(number), end(number, str(full))])
        return
    try:
        lines = [start(number)]
        await job.gather(PACE, 1)
        while ended is None:
            try:
                while ended is None and (not lines or job.unread and len(lines) <= MOST_UNREAD):
                    if (shown := await next_frame(job, client)) is None:
                        ended = end(number)
                    elif isinstance(shown, Place):
                        lines.append(waiting(shown, number))
                    else:
                        begun = True
                        lines.append(pack(shown, number))
            except Unheard:
                return
            except Exception as error:
                if not isinstance(error, RuntimeError):  # which the engine has told of
                    log.exception("A frame cannot be written")
                ended = end(number, FAILED)
            due = time.monotonic() + max(PACE, engine.active() / MESSAGES, len(lines) / SHOWN)
            yield "\n".join([*lines, ended] if ended else lines)
            if begun:
                await job.gather(due - time.monotonic())
            if not await client.keeps_up():
                return
            lines = []
    finally:
        engine.drop(job)
