"""The pad: draw points with the mouse, a pen, a finger or the keyboard; its value is the drawing as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from ddpm.page.still import mounting

_HERE = Path(__file__).parent


def pad(most: int) -> gr.HTML:
    """The component for at most so many points; it triggers ``input`` when the visitor has changed the drawing."""
    drawn = gr.HTML(
        value="",
        elem_id="points",
        html_template=(_HERE / "pad.html").read_text("utf-8"),
        css_template=(_HERE / "pad.css").read_text("utf-8"),
        js_on_load=mounting(_HERE / "pad.js"),
        most=json.dumps(most),
    )
    for name in ("example_payload", "example_value"):
        setattr(drawn, name, str)  # for the API's page: nothing drawn, in place of a paragraph of HTML
    return drawn


def drawer(name: str) -> Callable[[Any], None]:
    """Renders the control ``name`` of a page in a drawer, which is shown for some choices alone."""

    def render(page: Any) -> None:
        with gr.Column(visible=False, elem_id="drawer") as page.own.drawer:
            page.render([name])

    return render
