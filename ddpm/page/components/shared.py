"""What the players share: the component that a lesson's own files make of the shared ones, and the messages to it.

A message is ``header|payload``: a JSON object, and for some the base64 of little-endian numbers. The server sends
``start``, one ``frame`` a shown step, and ``end``; from then on the browser needs it no more.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from ddpm.page.movie import MOST_BYTES
from ddpm.page.still import PLOTLY, address, mounting
from ddpm.serving.engine import QueuePosition

_HERE = Path(__file__).parent


_EARLY = """const told = [props.value];
let tell = () => told.push(props.value);
watch("value", () => tell());
const hear = (receive) => { tell = () => receive(props.value); told.splice(0).forEach(receive); };
"""
"""Keeps what comes before the module that hears it."""


def component(lesson: Path, setup: Mapping[str, Any], uses: Sequence[str] = (), clock: bool = True) -> gr.HTML:
    """The player of screen.html, .css and .js in the folder ``lesson``, on top of what is shared.

    ``setup`` is what its script is told; ``uses`` names styles that stand between what all share and its own, there or
    here. Without ``clock`` it shows no run.
    """
    own = ["screen.css"] if (lesson / "screen.css").is_file() else []
    styles = ["shared.css", *(["save.css"] if clock else []), *uses, *own]

    def read(name: str) -> str:
        own = lesson / name
        return (own if own.is_file() else _HERE / name).read_text("utf-8")

    html = re.sub(r" *<!-- (\w+\.html) -->\n", lambda match: read(match[1]), read("screen.html"))
    return gr.HTML(
        value="",
        elem_id="player",
        html_template=html,
        css_template="".join(map(read, styles)),
        js_on_load=_EARLY + mounting(lesson / "screen.js", "element, props, trigger, hear"),
        # the base of every page is the app's address
        setup=json.dumps(
            {
                "plotly": address(PLOTLY),
                **({"most": MOST_BYTES} if clock else {}),
                **setup,
            }
        ),
    )


def message(payload: bytes = b"", **header: Any) -> str:
    """One message; the first bar ends the header."""
    text = json.dumps(header, allow_nan=False).replace("|", r"\u007c")
    return f"{text}|{base64.b64encode(payload).decode()}"


class State(Protocol):
    """A shown state of a run."""

    @property
    def index(self) -> int: ...
    @property
    def log_snr(self) -> float: ...
    @property
    def alpha_bar(self) -> float: ...
    @property
    def seconds(self) -> float: ...


def place_of(state: State) -> dict[str, Any]:
    """Where in its run ``state`` stands, as a message says it; at the end λ is infinite, and so none."""
    level = {"logSnr": state.log_snr if state.index else None, "alphaBar": state.alpha_bar}
    return {"index": state.index, **level, "seconds": round(state.seconds, 3)}


def end(job: int, problem: str = "") -> str:
    """Closes the run: complete, stopped before its end, or with ``problem``, a sentence for the visitor."""
    return message(kind="end", job=job, problem=problem)


def waiting(place: QueuePosition, job: int) -> str:
    """Tells a visitor whose run waits for others' its place in the queue and about how long that takes."""
    about = f" That takes about {math.ceil(place.seconds)} s." if place.seconds else ""
    return message(
        kind="waiting", job=job, note=f"Many people use this machine: yours is run {place.number} in the queue.{about}"
    )
