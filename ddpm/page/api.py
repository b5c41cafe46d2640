"""The endpoints for programs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from ddpm.page.events import (
    RAW,
    STREAMING,
    Messages,
    _signed,
    given,
    handler_from_controls,
)
from ddpm.settings import Setting, Settings

# --- for programs -----------------------------------------------------------------------------------------------------


def documented(
    run: Any, api_name: str, controls: Mapping[str, gr.components.Component], allowed: Mapping[str, Setting]
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
        *chosen, request = values
        return await answer(given(list(controls), chosen), request)

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

    handler = handler_from_controls(controls, messages)
    documented(handler, api_name, controls, allowed)
    _offer(handler, api_name, controls, screen, **RAW)


def named(function: Callable[..., Any], name: str, about: str | None) -> Callable[..., Any]:
    """``function`` under another ``name``, and described as ``about``."""

    def called(*arguments: Any) -> Any:
        return function(*arguments)

    called.__name__, called.__doc__ = name, about
    return called


def run_only() -> list[gr.components.Component]:
    """What an endpoint for programs answers that draws no pictures."""
    return [gr.JSON(label="Run", visible=False)]


def pictures_and_run() -> list[gr.components.Component]:
    """What an endpoint for programs answers."""
    return [gr.Image(format="png", label="Pictures", visible=False), *run_only()]


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


def run_summary(settings: Settings, notes: Sequence[str], **measures: Any) -> dict[str, Any]:
    """What a program is told of a run: its settings, the query of its link, notes for people, and ``measures``."""
    return {"settings": settings.values(), "link": f"?{urlencode(settings.query())}", "notes": list(notes), **measures}
