"""Visitors' sessions, without what only Gradio's deep links need of them."""

from __future__ import annotations

from types import SimpleNamespace

import gradio as gr
from gradio import state_holder


class Session(state_holder.SessionState):
    """A session that does not begin with a description of every component of all pages.

    Gradio 6.31 makes one for every visitor, in the thread that answers everybody: 32 visitors who come together then
    wait for seconds. It serves ``gr.DeepLinkButton`` alone, which this app does not have: its links hold the settings.
    """

    def __init__(self, blocks: gr.Blocks):
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks={}))


def lighten() -> None:
    """Has Gradio make such sessions, from now on."""
    state_holder.SessionState = Session
