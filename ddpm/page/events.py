"""How controls start runs, follow each other, and write the address."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from inspect import Parameter, Signature
from typing import Any

import gradio as gr

RAW: dict[str, Any] = {"preprocess": False, "postprocess": False}
"""Of events whose values need no work: Gradio hands each to a thread of its own first, the settings and every message."""

STREAMING: dict[str, Any] = {
    **RAW,
    "show_progress": "hidden",
    "trigger_mode": "multiple",
    "concurrency_limit": None,  # the engine has a queue of its own, which tells visitors their place
    "concurrency_id": "engine",
}
"""Of every event that streams a run: a second press replaces the run under way."""

FOLLOWING: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""Of the events that change controls."""

QUIET: dict[str, Any] = {"queue": False, **FOLLOWING}
"""Of those that only show or hide one, and do not wait for their turn."""

DRAW_SEED = "() => Math.floor(Math.random() * 2 ** 31)"


def write_address(names: Sequence[str]) -> str:
    """A script that takes the values of the controls ``names`` to the page's address and its player."""
    return f"""(...values) => {{
  const names = {json.dumps(names)};
  window.ddpm?.changed(Object.fromEntries(names.map((name, i) => [name, values[i] ?? ""])));
}}"""


def show_for(chosen: gr.Dropdown, choices: Mapping[gr.blocks.Block, Sequence[str]]) -> None:
    """Shows each part of the page for its own choices alone: the page does so itself, however busy the server is."""
    script = f"""(chosen) => {json.dumps(list(choices.values()))}.map(
  (own) => ({{ __type__: "update", visible: own.includes(chosen) }}))"""
    chosen.change(None, chosen, list(choices), js=script, **FOLLOWING)


def given(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """The values of controls as a link would give them: an empty control is an empty text."""
    return {name: "" if value is None else value for name, value in zip(names, values)}


Messages = Callable[[dict[str, Any], gr.Request], AsyncGenerator[str, None]]
"""Settings as a link has them, and who asks -> the messages of the run."""


def handler_from_controls(names: Iterable[str], messages: Messages) -> Callable[..., AsyncGenerator[str, None]]:
    """The handler of the controls ``names`` that streams the ``messages``, described as these are."""
    names = list(names)

    async def handler(*values: Any) -> AsyncGenerator[str, None]:
        *chosen, request = values
        async with aclosing(messages(given(names, chosen), request)) as each:
            async for message in each:
                yield message

    handler.__doc__ = messages.__doc__
    return _signed(handler, names)


def _signed(handler: Any, names: Iterable[str]) -> Callable:
    """``handler``, which takes anything, as one that says to take the values of ``names`` and the request."""
    own = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in (*names, "request")]
    handler.__signature__, handler.__annotations__ = Signature(own), {"request": gr.Request}
    return handler
