"""Every private part of Gradio that this app touches: why, and which public way is missing.

They are those of one version alone, so another one does not start: ``check_version``. ``replaced`` refuses to set what is
not there, so that a part that has gone is noticed. Tests hold what each of them brings about.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, TypeVar

import gradio as gr
from gradio import processing_utils, queueing, route_utils, routes, state_holder
from gradio.utils import LRUCache
from starlette.datastructures import FormData
from starlette.types import ASGIApp, Scope

T = TypeVar("T")

TESTED = "6.31.0"
"""The version of Gradio whose private parts these are."""


def check_version(version: str = gr.__version__) -> None:
    """Raises ValueError, in one sentence, for a version of Gradio whose private parts nobody has looked at."""
    if version != TESTED:
        raise ValueError(
            f"This app changes Gradio {TESTED} from outside, and Gradio {version} is installed: pip install gradio=={TESTED}."
        )


def replaced(owner: Any, name: str, value: Any) -> None:
    """Sets the attribute ``name`` of ``owner``. Raises AttributeError if it has none of that name."""
    if not hasattr(owner, name):
        raise AttributeError(f"Gradio {gr.__version__} has no {name} in {owner!r} any more.")
    setattr(owner, name, value)


# --- sessions and the queue -------------------------------------------------------------------------------------------

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
        stripped: Any = SimpleNamespace(default_config=blocks.default_config, blocks={})
        super().__init__(stripped)

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


def patch_gradio_sessions(page: gr.Blocks) -> None:
    """Has Gradio make such sessions from now on, bounds what the queue of ``page`` keeps, and lets it rest.

    Gradio 6.31 keeps half a kilobyte for every visitor and every program's call until the server ends, looks for work in
    its queue a thousand times a second, and after every event makes a table of the last 10,000 for a page that this app
    does not have. Now it looks when an event has come or ended, and makes no table.
    """
    replaced(state_holder, "SessionState", Session)
    rousing = Asyncio()
    replaced(queueing, "asyncio", rousing)
    queue = page._queue
    replaced(queue, "pending_event_ids_session", LRUCache(MOST_WAITING))
    for name in ("sleep_when_free", "progress_update_sleep_when_free"):
        replaced(queue, name, REST)
    replaced(queue, "ANALYTICS_MAX_EVENTS", 1)
    replaced(queue, "ANAYLTICS_CACHE_FREQUENCY", math.inf)
    for name in ("push", "process_events"):
        replaced(queue, name, rousing.telling(getattr(queue, name)))


def scope_of(request: gr.Request) -> Scope:
    """The scope of the connection that ``request`` came by. Raises ValueError for one that came by none."""
    if request.request is None:
        raise ValueError("The request came by no connection.")
    return request.request.scope


def unread_messages(request: gr.Request) -> asyncio.Queue[Any] | None:
    """The messages of the session that sent ``request`` which it has not read; there is no public way to tell."""
    queue = scope_of(request)["app"].get_blocks()._queue
    return queue.pending_messages_per_session.get(request.session_hash)


# --- uploads ----------------------------------------------------------------------------------------------------------


class OneFile(route_utils.GradioMultiPartParser):
    """Takes one file, as the lessons do, where Gradio's own takes a thousand; what is broken off leaves nothing behind."""

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **{**named, "max_files": 1, "max_fields": 1})

    async def parse(self) -> FormData:
        try:
            return await super().parse()
        except BaseException:
            for file in self._files_to_close_on_error:
                file.close()
                Path(file.name).unlink(missing_ok=True)
            raise


def take_one_file_an_upload() -> None:
    """Has Gradio 6.31, which has no such setting, take one file an upload."""
    replaced(route_utils, "GradioMultiPartParser", OneFile)


# --- other sites ------------------------------------------------------------------------------------------------------


async def _fetch_nothing(url: str) -> NoReturn:
    raise ValueError("This app fetches nothing from other addresses.")


def forbid_outgoing_requests() -> None:
    """Has Gradio fetch nothing for visitors, who can give it an address in place of any file."""
    replaced(processing_utils, "async_ssrf_protected_get", _fetch_nothing)


def _without_cors(app: ASGIApp, **_: Any) -> ASGIApp:
    return app


def answer_own_origin_alone() -> None:
    """Has Gradio 6.31 not allow every site's pages to read what it answers to visitors, for which it has no setting."""
    replaced(routes, "CustomCORSMiddleware", _without_cors)
