"""Experiments: settings worth a look, each with two sentences on what to look for."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from ddpm.page.events import FOLLOWING, STREAMING
from ddpm.settings import Settings


@dataclass(frozen=True)
class Experiment:
    """A run to look at, what to look for, and the layers that show it."""

    settings: Settings
    text: str
    layers: Mapping[str, str] = field(default_factory=dict)


class Experiments:
    """The choice among ``known``, as a list or as buttons, and, once one is chosen, what to look for in it."""

    def __init__(self, known: Mapping[str, Experiment]):
        self.known = known
        self._offers: dict[str, gr.Button] = {}
        self._list: gr.Dropdown | None = None

    def offer_buttons(self) -> None:
        """Renders a row of buttons."""
        with gr.Row(elem_id="presets"):
            self._offers = {name: gr.Button(name, size="sm", min_width=200) for name in self.known}

    def offer_list(self) -> None:
        """Renders a list."""
        self._list = gr.Dropdown(
            list(self.known),
            value=None,
            label="Experiment",
            info="Settings worth a look; one click runs them.",
            elem_id="experiment",
            min_width=200,
        )

    def look_for(self) -> None:
        """Renders the place of the chosen one's text."""
        self._text = gr.Markdown(visible=False, elem_id="look-for")

    def connect(
        self,
        inputs: Sequence[gr.components.Component],
        values: Callable[[Any], list[object]],
        run: Callable[..., AsyncGenerator[str, None]],
        screen: gr.HTML,
    ) -> None:
        """Lets a choice set the ``inputs`` to its ``values`` and the layers, say what to look for, and start ``run``."""
        layers = json.dumps({name: dict(one.layers) for name, one in self.known.items()})

        def settings(name: str) -> list[object]:
            one = self.known[name]
            return [*values(one.settings), gr.Markdown(one.text, visible=True)]

        script = f"(name) => {{ window.ddpm?.choose?.({layers}[name]); return [name]; }}"
        asked: list[tuple[Callable, gr.Button | gr.Dropdown]] = [
            (offer.click, offer) for offer in self._offers.values()
        ]
        asked += [(self._list.select, self._list)] if self._list else []
        for event, shown in asked:
            chosen = event(settings, shown, [*inputs, self._text], js=script, **FOLLOWING)
            chosen.then(run, inputs, screen, **STREAMING, api_visibility="private")


def described(
    text: Mapping[str, str], settings: Mapping[str, Settings], layers: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, Experiment]:
    """Experiments by name, each with its ``settings``, its part of ``text``, and the ``layers`` that show it."""
    return {name: Experiment(one, text[name], (layers or {}).get(name, {})) for name, one in settings.items()}
