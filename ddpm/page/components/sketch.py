"""The sketch: draw a digit with the mouse, a pen, a finger or the keyboard; its value is the drawing as text, as ddpm/picture.py reads it."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from ddpm.page.still import mounting

_HERE = Path(__file__).parent


def sketch() -> gr.HTML:
    """The component; it triggers ``input`` when the visitor has changed the drawing."""
    return gr.HTML(
        value="",
        elem_id="drawing",
        html_template=(_HERE / "sketch.html").read_text("utf-8"),
        css_template=(_HERE / "pad.css").read_text("utf-8"),
        js_on_load=mounting(_HERE / "sketch.js"),
    )
