"""What Gradio keeps of visitors: less at first, and nothing for ever."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import chain
from types import SimpleNamespace
from typing import Any, TypeVar

import gradio as gr
from gradio import queueing, state_holder
from gradio.utils import LRUCache

T = TypeVar("T")

MOST_WAITING = 2000
"""Visitors of whose events it is known that they are under way: as many as Gradio keeps messages for."""

DEAF_SECONDS = 60.0
"""After which a connection is closed whose other end acknowledges nothing of what is sent to it, or has no room for it."""

REST = 1.0
"""Seconds that Gradio's queue rests at most when there is nothing to do."""


class Session(state_holder.SessionState):
    """A session that does not begin with a description of every component of all pages.

    Gradio 6.31 makes one for every visitor, in the thread that answers everybody: 32 visitors who come together then
    wait for seconds. It serves ``gr.DeepLinkButton`` alone, which this app does not have: its links hold the settings.
    """

    def __init__(self, blocks: gr.Blocks):
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks={}))

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Nothing: this, too, is the description that nobody reads."""


class Asyncio:
    """``asyncio`` for the module of Gradio's queue, whose ``sleep`` of REST seconds ends early when something happens.

    It is of one event loop, so of one app a process.
    """

    def __init__(self) -> None:
        self._next = asyncio.Event()
        """Set when something happens; who rests from then on waits for another."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        if seconds != REST:
            return await asyncio.sleep(seconds)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._next.wait(), seconds)

    def telling(self, work: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        """``work``, whose end is something that happens."""

        async def told(*args: Any, **kwargs: Any) -> T:
            try:
                return await work(*args, **kwargs)
            finally:
                happened, self._next = self._next, asyncio.Event()
                happened.set()

        return told


def drop_the_deaf(page: gr.Blocks, seconds: float = DEAF_SECONDS) -> None:
    """Has the system close the connections of ``page``, which is launched, on which nobody has read for ``seconds``.

    Else such a connection stays open for as long as its other end likes, with all that was written to it: uvicorn has no
    such limit, and Gradio no public way to its sockets. Linux alone can do it; accepted connections inherit it.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        for listening in chain.from_iterable(server.sockets for server in page.server.servers):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * seconds))


def lighten(page: gr.Blocks) -> None:
    """Has Gradio make such sessions from now on, bounds what the queue of ``page`` keeps, and lets it rest.

    Gradio 6.31 keeps half a kilobyte for every visitor and every program's call until the server ends, looks for work in
    its queue a thousand times a second, and after every event makes a table of the last 10,000 for a page that this app
    does not have. Now it looks when an event has come or ended, and makes no table.
    """
    state_holder.SessionState = Session
    queue, queueing.asyncio = page._queue, Asyncio()
    queue.pending_event_ids_session = LRUCache(MOST_WAITING)
    queue.sleep_when_free = queue.progress_update_sleep_when_free = REST
    queue.ANALYTICS_MAX_EVENTS, queue.ANAYLTICS_CACHE_FREQUENCY = 1, math.inf
    queue.push = queueing.asyncio.telling(queue.push)
    queue.process_events = queueing.asyncio.telling(queue.process_events)
