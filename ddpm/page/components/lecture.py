"""What serves a class on every page: lecture mode, a link and QR code for students, runs and lectures from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import gradio as gr

from ddpm.page.routes import MOST_LINK
from ddpm.page.still import mounting
from ddpm.settings import Settings

_HERE = Path(__file__).parent

PAGE_CSS = (_HERE / "lecture_page.css").read_text("utf-8")
"""What lecture mode does to the whole page."""


def lecture(defaults: Mapping[str, Settings]) -> gr.HTML:
    """The component; ``defaults`` are the settings of each page, by path, when its address says nothing."""
    pages = {path: settings.query() for path, settings in defaults.items()}
    return gr.HTML(
        value="",
        elem_id="lecture",
        html_template=(_HERE / "lecture.html").read_text("utf-8"),
        css_template=(_HERE / "lecture.css").read_text("utf-8"),
        js_on_load=mounting(_HERE / "lecture.js", "element, props"),
        setup=json.dumps({"pages": pages, "mostLink": MOST_LINK}),
    )
