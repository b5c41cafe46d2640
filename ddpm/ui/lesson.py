"""What the lessons share: how a job becomes a stream of messages, and how controls write the address."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import gradio as gr

from ddpm.engine import Engine, Place
from ddpm.schedule import SCHEDULES
from ddpm.settings import Scheduled, Setting, Settings
from ddpm.ui.components.shared import end, waiting

STREAMING = {
    "show_progress": "hidden",
    "trigger_mode": "multiple",
    "concurrency_limit": None,  # the engine has a queue of its own, which tells visitors their place
    "concurrency_id": "engine",
}
"""Of every event that streams a run: a second press replaces the run under way."""

QUIET = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Of the events that only show or hide a control."""

PARAMETERS = {
    "s": (0.001, "Offset s", "Of the cosine schedule: how much noise even the first step adds."),
    "p": (0.1, "Power p", "Of the polynomial schedule ᾱ = 1 − tᵖ: more keeps the data for longer."),
    "reach": (0.1, "Reach", "Of the sigmoid schedule: more spends more steps at both ends."),
    "c": (0.1, "Rate c", "Of the constant schedule ᾱ = exp(−c t): less leaves more signal at the end."),
}
"""The parameters of the schedules: a slider's step, its label and its line of help."""

DRAW_SEED = "() => Math.floor(Math.random() * 2 ** 31)"

SAMPLER_NAMES = {
    "ddim": "DDIM … DDPM (by η)",
    "ddpm-beta": "DDPM with the variance β",
    "dpm-solver++": "DPM-Solver++ (2M)",
    "heun": "Heun (asks twice a step)",
}
"""What the page calls each sampler."""

FAILED = "The computation failed on the server; please try again."

NO_ETA = "η belongs to the sampler DDIM … DDPM; the one chosen has none."

DICE = Path(__file__).parent / "components" / "dice.svg"

_SCROLL_TO_SETTINGS = """element.querySelector("a").addEventListener("click", (event) => {
  event.preventDefault();  // the page's base address would make it another page
  document.querySelector("#settings").scrollIntoView({ behavior: "smooth" });
});"""

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
        dice = gr.Button("Generate from new noise", icon=DICE, size="sm", elem_id="dice")
        to_settings()
    return Buttons(generate, halt, dice)


def connect(
    engine: Engine,
    pressed: Buttons,
    controls: Mapping[str, gr.components.Component],
    screen: gr.HTML,
    run: Callable[..., AsyncIterator[str]],
    open_link: Callable[[gr.Request], AsyncIterator[str]],
    read: Callable[[Mapping[str, Any]], tuple[Settings, list[str]]],
    api_name: str,
) -> None:
    """Lets the buttons start ``run`` on the ``controls`` and end it, the address follow them, and a link set them.

    ``controls`` stand in the order of ``run``'s arguments, ``read`` makes the settings of a link's query.
    """
    names, inputs = list(controls), list(controls.values())
    streaming = {"outputs": screen, **STREAMING}

    def stop(request: gr.Request) -> None:
        engine.stop(request.session_hash)

    def settings_of_link(request: gr.Request) -> list[object]:
        settings, _ = read(dict(request.query_params))
        return [getattr(settings, name) for name in names]

    settings, _ = read({})
    documented(run, api_name, controls, settings.allowed(asdict(settings)))
    pressed.generate.click(run, inputs, **streaming, api_name=api_name)
    drawn = pressed.dice.click(None, None, controls["seed"], js=DRAW_SEED, api_visibility="private")
    drawn.then(run, inputs, **streaming, api_visibility="private")
    pressed.halt.click(stop, None, None, **QUIET)
    changes = [control.change for control in inputs]
    gr.on(changes, None, inputs, None, js=write_address(names), show_progress="hidden", api_visibility="private")
    page = gr.context.Context.root_block
    page.load(settings_of_link, None, inputs, show_progress="hidden", api_visibility="private")
    page.load(open_link, None, **streaming, api_visibility="private")


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


def moved_by(kind: type[Settings], info: str = "What predicts x̂₀: the network, or the exact formula.") -> gr.Radio:
    """The choice between the learned and the exact denoiser, and what else ``kind`` allows."""
    return gr.Radio(
        list(kind.allowed({})["denoiser"].options),
        value=kind.denoiser,
        label="Moved by",
        info=info,
        elem_id="denoiser",
    )


def schedule(kind: type[Scheduled]) -> dict[str, gr.components.Component]:
    """The controls of the schedule and of the parameters of all schedules, only the chosen one's shown."""
    own = {field.name for field in fields(SCHEDULES[kind.schedule])}
    return {
        "schedule": dropdown(kind, "schedule", "Noise schedule", "How the noise is shared out over the steps."),
        **{name: slider(kind, name, *about, visible=name in own) for name, about in PARAMETERS.items()},
    }


def follow_schedule(controls: Mapping[str, gr.components.Component]) -> None:
    """Shows the parameter of the chosen schedule alone, whenever another is chosen."""

    def visible(schedule: str) -> list[dict]:
        own = {field.name for field in fields(SCHEDULES[schedule])}
        return [gr.update(visible=name in own) for name in PARAMETERS]

    chosen = controls["schedule"]
    chosen.change(visible, chosen, [controls[name] for name in PARAMETERS], **QUIET)


def given(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """The values of controls as a link would give them: an empty control is an empty text."""
    return {name: "" if value is None else value for name, value in zip(names, values)}


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

    own = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in (*controls, "request")]
    handler.__signature__, handler.__annotations__ = Signature(own), {"request": gr.Request}
    handler.__name__, handler.__doc__ = api_name, _docstring(answer.__doc__, controls, allowed)
    gr.Button(visible=False).click(
        handler,
        list(controls.values()),
        list(outputs),
        show_progress="hidden",
        concurrency_limit=None,
        concurrency_id=STREAMING["concurrency_id"],
        api_name=api_name,
    )


def _docstring(
    text: str | None, controls: Mapping[str, gr.components.Component], allowed: Mapping[str, Setting]
) -> str:
    def about(name: str) -> str:
        return f"{getattr(controls[name], 'info', None) or ''} It {allowed[name].problem(None)}.".strip()

    return "\n".join([text or "", "Args:", *(f"{name}: {about(name)}" for name in controls)])


async def last(engine: Engine, steps: Iterator[Any | None]) -> Any:
    """The last frame of a job that nobody watches. Raises gr.Error if the computation failed."""
    job, frame = engine.submit(steps, f"run {next(_jobs)}"), None
    try:
        while (shown := await job.next()) is not None:
            frame = shown
        return frame
    except RuntimeError as error:
        raise gr.Error(FAILED, print_exception=False) from error
    finally:
        engine.drop(job)


def told(settings: Settings, notes: Sequence[str], **measures: Any) -> dict[str, Any]:
    """What a program is told of a run: its settings, the query of its link, notes for people, and ``measures``."""
    return {"settings": asdict(settings), "link": f"?{urlencode(settings.query())}", "notes": list(notes), **measures}


# --- streams ----------------------------------------------------------------------------------------------------------


async def stream(
    engine: Engine,
    steps: Iterator[Any | None],
    owner: str | None,
    start: Callable[[int], str],
    pack: Callable[[Any, int], str],
) -> AsyncIterator[str]:
    """The messages of one job: ``start`` of its number, each frame as ``pack`` of it and the number writes it, the end."""
    number = next(_jobs)
    job = engine.submit(steps, owner or f"run {number}")
    try:
        yield start(number)
        while (shown := await job.next()) is not None:
            yield waiting(shown, number) if isinstance(shown, Place) else pack(shown, number)
        yield end(number)
    except RuntimeError:
        yield end(number, FAILED)
    finally:
        engine.drop(job)
