"""Who has asked for a run, and whether they still listen."""

from __future__ import annotations

import asyncio
import time
from asyncio import Queue
from collections.abc import Callable
from typing import Any

import gradio as gr

from ddpm.page.gradio_patches import scope_of, unread_messages

UNREAD_SECONDS = 30.0
"""After which a run ends whose messages nobody has read."""

POLL = 0.1
"""Seconds between two looks whether messages have been read."""

ADDRESS = "ddpm.address"
"""The key of a request's scope under which the guard notes the address that it counts the request to."""


class Client:
    """The page or the program that has asked for a run.

    A new run of a ``session`` replaces its old one; ``address`` is whose share of the machine the run gets;
    ``messages`` gives those that have not been read, None if there is no such queue.
    """

    def __init__(
        self,
        session: str | None,
        address: str = "",
        messages: Callable[[], Queue[Any] | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.session, self.address = session, address
        self._messages, self._clock = messages, clock
        self._unread_since: float | None = None

    def named(self, session: str | None) -> Client:
        """The same client under the name of another ``session``, so that its runs replace other ones."""
        return Client(session, self.address, self._messages, self._clock)

    @property
    def has_unread(self) -> bool:
        """Whether a message waits to be read."""
        messages = self._messages()
        return messages is not None and not messages.empty()

    def is_gone(self) -> bool:
        """Whether messages have lain unread for UNREAD_SECONDS; only who asks now and then is answered rightly.

        The messages of a client that is gone are dropped.
        """
        if not self.has_unread:
            self._unread_since = None
            return False
        self._unread_since = self._clock() if self._unread_since is None else self._unread_since
        gone = self._clock() - self._unread_since >= UNREAD_SECONDS
        while gone and (messages := self._messages()) is not None and not messages.empty():
            messages.get_nowait()
        return gone

    async def keeps_up(self) -> bool:
        """Returns once every message is read: True, or False if the client is gone."""
        while self.has_unread:
            if self.is_gone():
                return False
            await asyncio.sleep(POLL)
        return True


def client_of(request: gr.Request) -> Client:
    """The client that sent ``request``."""
    address = scope_of(request).get(ADDRESS, "")
    return Client(request.session_hash, address, lambda: unread_messages(request))
