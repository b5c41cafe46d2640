"""What Gradio keeps of visitors: less at first, and nothing for ever."""

from __future__ import annotations

from types import SimpleNamespace

import gradio as gr
from gradio import state_holder
from gradio.utils import LRUCache

MOST_WAITING = 2000
"""Visitors of whose events it is known that they are under way: as many as Gradio keeps messages for."""


class Session(state_holder.SessionState):
    """A session that does not begin with a description of every component of all pages.

    Gradio 6.31 makes one for every visitor, in the thread that answers everybody: 32 visitors who come together then
    wait for seconds. It serves ``gr.DeepLinkButton`` alone, which this app does not have: its links hold the settings.
    """

    def __init__(self, blocks: gr.Blocks):
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks={}))


def lighten(page: gr.Blocks) -> None:
    """Has Gradio make such sessions from now on, and bounds what the queue of ``page`` keeps.

    Gradio 6.31 keeps half a kilobyte for every visitor and every program's call until the server ends, and looks for work
    in its queue a thousand times a second.
    """
    state_holder.SessionState = Session
    page._queue.pending_event_ids_session = LRUCache(MOST_WAITING)
    page._queue.sleep_when_free = 0.005
