"""The picker: the examples of a model as a grid of buttons; its value is the number of the chosen one, as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import gradio as gr

from ddpm.page.still import address, mounting
from ddpm.picture import EACH

_HERE = Path(__file__).parent


def picker(models: Mapping[str, Sequence[str]], model: str, example: int) -> gr.HTML:
    """The component for the examples of ``models``, by name, with their classes; it triggers ``input`` when the visitor chooses another. Its prop ``sheet`` is the model's name, or empty to show none."""
    sheets = {name: {"address": address(f"{name}.png"), "names": names} for name, names in models.items()}
    return gr.HTML(
        value=str(example),
        elem_id="example",
        html_template=(_HERE / "picker.html").read_text("utf-8"),
        css_template=(_HERE / "picker.css").read_text("utf-8"),
        js_on_load=mounting(_HERE / "picker.js"),
        setup=json.dumps({"rows": EACH, "columns": len(models[model]), "sheets": sheets}),
        sheet=model,
    )
