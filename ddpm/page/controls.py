"""Controls, made of what is declared of the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from ddpm.page.events import show_for
from ddpm.page.still import mounting
from ddpm.schedule import SCHEDULES
from ddpm.settings import SCHEDULE, TABLE, Choice, Number, Scheduled, Settings, parameters

Control = Any
"""A component of Gradio; its events, such as ``change``, are no part of its types, as Gradio makes them at run time."""

Controls = Mapping[str, Control]
"""The controls of a page by the names of their settings."""

LATEX: list[dict[str, str | bool]] = [{"left": "$", "right": "$", "display": False}]
"""The signs between which a text holds a formula."""

_SCRIPT = Path(__file__).parent / "components" / "to_settings.js"


def to_settings() -> gr.HTML:
    """A link to the settings, for phones, where they stand below the plots."""
    link = '<a href="#settings">all settings ↓</a>'
    return gr.HTML(link, elem_id="to-settings", js_on_load=mounting(_SCRIPT, "element"))


def control(first: Settings, name: str) -> Control:
    """The control of the setting ``name``, with its value in ``first``; of a schedule's parameter, shown if it is its own."""
    said, allowed, value = first.declared()[name], first.allowed(first.values())[name], getattr(first, name)
    own = parameters(first.schedule) if isinstance(first, Scheduled) else tuple(SCHEDULE)
    visible = name not in SCHEDULE or name == "schedule" or name in own
    about: dict[str, Any] = {"label": said.label, "info": said.info, "elem_id": name, "visible": visible}
    if said.look == "number":  # without limits, past which Gradio would refuse what ``from_query`` corrects with a note
        return gr.Number(value, precision=0, **about)
    if isinstance(allowed, Number):
        return gr.Slider(allowed.low, allowed.high, value, step=said.step, **about)
    if isinstance(allowed, Choice):
        choices = [(said.names.get(option, option), option) for option in allowed.options]
        if said.look == "radio":
            return gr.Radio(choices, value=value, **about)
        return gr.Dropdown(choices, value=value, min_width=200, **about)
    return gr.Textbox(value, **about)


def typed(first: Settings, controls: Controls) -> dict[str, Control]:
    """``controls`` for programs: in the place of those that take a mouse stand some that nobody sees."""

    def unseen(name: str) -> Control:
        said, value = first.declared()[name], getattr(first, name)
        about: dict[str, Any] = {"label": said.label, "info": said.info, "visible": False}
        return gr.Number(value, precision=0, **about) if isinstance(value, int) else gr.Textbox(value, **about)

    hidden = [name for name in controls if first.declared()[name].look == "typed"]
    return {**controls, **{name: unseen(name) for name in hidden}}


def follow_schedule(controls: Controls) -> None:
    """Shows the parameter of the chosen schedule alone, whenever another is chosen."""
    names = [name for name in SCHEDULE if name != "schedule"]
    schedules = (*SCHEDULES, TABLE)
    own = {controls[name]: [curve for curve in schedules if name in parameters(curve)] for name in names}
    show_for(controls["schedule"], own)


def moved(controls: Controls, name: str) -> list[Callable]:
    """The events of a visitor who has changed the setting ``name``; a link that does so triggers none.

    The schedule's are those of its parameters, too.
    """
    names = SCHEDULE if name == "schedule" else [name]
    return [_done(controls[each]) for each in names]


def _done(control: Control) -> Callable:
    if isinstance(control, gr.Slider):
        return control.release
    if isinstance(control, (gr.Number, gr.Textbox)):
        return control.submit
    return control.select if isinstance(control, gr.Dropdown) else control.input
