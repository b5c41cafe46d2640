"""The player: one HTML component that receives a run's frames as strings, keeps them, draws, replays and scrubs them.

A message is ``header|payload``: a JSON object, and for a frame the base64 of little-endian numbers. The server sends
``start``, one ``frame`` a shown step, and ``end``; from then on the browser needs it no more.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import plotly

from ddpm.data import Projection
from ddpm.engine import Frame
from ddpm.plots import CLASS_COLOURS, columns, projection
from ddpm.run import MODELS, Run, shown

_HERE = Path(__file__).parent
_PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"

VALUE_SCALE = 4096
"""Pixels travel as int16 multiples of 1 / 4096: ±8 with a step far below a grey level."""


def player(cloud: Projection, shape: Sequence[int]) -> gr.HTML:
    """The component for pictures of ``shape`` (C, H, W), with their paths drawn in the plane of ``cloud``."""
    gr.set_static_paths([_PLOTLY])
    setup = {
        "plotly": f"gradio_api/file={_PLOTLY}",
        "plane": json.loads(projection(cloud).to_json()),
        "colours": CLASS_COLOURS,
        "shape": list(shape),
        "scale": VALUE_SCALE,
    }
    return gr.HTML(
        value="",
        elem_id="player",
        html_template=(_HERE / "player.html").read_text("utf-8"),
        css_template=(_HERE / "player.css").read_text("utf-8"),
        js_on_load=(_HERE / "player.js").read_text("utf-8"),
        setup=json.dumps(setup),
    )


def start(run: Run, job: int, notes: Sequence[str]) -> str:
    """Opens the player on ``run``; ``job`` grows from run to run, ``notes`` are sentences for the visitor."""
    names = [*MODELS[run.model], "no label"]
    return _message(
        kind="start",
        job=job,
        run=asdict(run),
        query=run.query(),
        notes=list(notes),
        frames=len(shown(run.steps)),
        labels=list(run.labels),
        names=names,
        columns=columns(run.count),
    )


def frame(step: Frame, job: int, cloud: Projection) -> str:
    """One step: x and x0 as int16, then both projected on the plane as float32."""
    pixels = [np.clip(value * VALUE_SCALE, -32768, 32767).round().astype("<i2") for value in (step.x, step.x0)]
    paths = [cloud(value).astype("<f4") for value in (step.x, step.x0)]
    level = {"index": step.index, "alphaBar": step.alpha_bar, "seconds": round(step.seconds, 3)}
    level["logSnr"] = step.log_snr if step.index else None
    return _message(b"".join(part.tobytes() for part in pixels + paths), kind="frame", job=job, **level)


def end(job: int, problem: str = "") -> str:
    """Closes the run: complete, stopped before its end, or with ``problem``, a sentence for the visitor."""
    return _message(kind="end", job=job, problem=problem)


def _message(payload: bytes = b"", **header: Any) -> str:
    text = json.dumps(header, allow_nan=False).replace("|", r"\u007c")  # the first bar ends the header
    return f"{text}|{base64.b64encode(payload).decode()}"
