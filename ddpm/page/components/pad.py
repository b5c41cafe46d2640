"""The pad: draw points with the mouse, a pen, a finger or the keyboard; its value is the drawing as text."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr

from ddpm.lessons.points import MOST_POINTS

_HERE = Path(__file__).parent


def pad() -> gr.HTML:
    """The component; it triggers ``input`` when the visitor has changed the drawing."""
    drawn = gr.HTML(
        value="",
        elem_id="points",
        html_template=(_HERE / "pad.html").read_text("utf-8"),
        css_template=(_HERE / "pad.css").read_text("utf-8"),
        js_on_load="".join((_HERE / name).read_text("utf-8") for name in ("strokes.js", "pad.js")),
        most=json.dumps(MOST_POINTS),
    )
    drawn.example_payload = drawn.example_value = (
        str  # for the API's page: nothing drawn, in place of a paragraph of HTML
    )
    return drawn
