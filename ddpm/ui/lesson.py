"""What the lessons share: how a job becomes a stream of messages, and how controls write the address."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ddpm.engine import Engine, Place
from ddpm.ui.components.shared import end, waiting

STREAMING = {
    "show_progress": "hidden",
    "trigger_mode": "multiple",
    "concurrency_limit": None,  # the engine has a queue of its own, which tells visitors their place
    "concurrency_id": "engine",
}
"""Of every event that streams a run: a second press replaces the run under way."""

DRAW_SEED = "() => Math.floor(Math.random() * 2 ** 31)"

SAMPLER_NAMES = {
    "ddim": "DDIM … DDPM (by η)",
    "ddpm-beta": "DDPM with the variance β",
    "dpm-solver++": "DPM-Solver++ (2M)",
    "heun": "Heun (asks twice a step)",
}
"""What the page calls each sampler."""

NO_ETA = "η belongs to the sampler DDIM … DDPM; the one chosen has none."

DICE = Path(__file__).parent / "components" / "dice.svg"

_jobs = itertools.count()


def write_address(names: Sequence[str]) -> str:
    """A script that takes the values of the controls ``names`` to the page's address and its player."""
    return f"""(...values) => {{
  const names = {json.dumps(names)};
  window.ddpm?.changed(Object.fromEntries(names.map((name, i) => [name, values[i] ?? ""])));
}}"""


def given(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """The values of controls as a link would give them: an empty control is an empty text."""
    return {name: "" if value is None else value for name, value in zip(names, values)}


async def stream(
    engine: Engine,
    steps: Iterator[Any | None],
    owner: str | None,
    start: Callable[[int], str],
    pack: Callable[[Any, int], str],
) -> AsyncIterator[str]:
    """The messages of one job: ``start`` of its number, each frame as ``pack`` of it and the number writes it, the end."""
    number = next(_jobs)
    job = engine.submit(steps, owner or f"run {number}")
    try:
        yield start(number)
        while (shown := await job.next()) is not None:
            yield waiting(shown, number) if isinstance(shown, Place) else pack(shown, number)
        yield end(number)
    except RuntimeError:
        yield end(number, "The computation failed on the server; please try again.")
    finally:
        engine.drop(job)
