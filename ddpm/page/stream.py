"""How a job becomes a stream of messages, or a program’s answer."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ddpm.page.client import Client, client_of
from ddpm.page.components.shared import end, waiting
from ddpm.page.events import Messages
from ddpm.serving.engine import MOST_UNREAD, Engine, Full, Job, QueuePosition, Work

FAILED = "The computation failed on the server; please try again."

UNHEARD = "Nobody has listened, so the computation has ended; please fetch the answer soon after you ask."

log = logging.getLogger(__name__)

_jobs = itertools.count()


@dataclass(frozen=True)
class Answer:
    """A job, and how its frames become messages: each as ``pack`` of it and the job's number writes it, after ``start`` of
    the number; without one the first frame is what the screen opens with.

    The job replaces that of the page's same ``part``, or of the same ``owner``; ``kind`` is the engine's.
    """

    work: Work
    pack: Callable[[Any, int], str]
    start: Callable[[int], str] | None = None
    part: str = ""
    owner: str | None = None
    kind: str = ""
    prepare: Callable[[], Awaitable[None]] | None = None
    """What is to be done first, on the event loop."""


def messages_of(
    house: Any,
    read: Callable[[Mapping[str, Any]], tuple[Any, list[str]]],
    answer: Callable[..., Answer | Sequence[Answer]],
) -> Messages:
    """The messages of what ``answer`` makes of settings, which ``read`` makes of a link's query."""

    async def messages(query: dict[str, Any], request: gr.Request) -> AsyncGenerator[str, None]:
        found = answer(house, *read(query), request)
        for each in [found] if isinstance(found, Answer) else found:
            async with aclosing(streamed_answer(house.engine, each, client_of(request))) as part:
                async for message in part:
                    yield message

    messages.__doc__ = answer.__doc__
    return messages


async def streamed_answer(engine: Engine, answer: Answer, client: Client) -> AsyncGenerator[str, None]:
    """The messages of one answer."""
    owner = answer.owner or (f"{client.session} {answer.part}" if answer.part and client.session else client.session)
    if answer.prepare:
        await answer.prepare()
    messages = stream(engine, answer.work, client.named(owner), answer.start, answer.pack, answer.kind)
    async with aclosing(messages):
        async for message in messages:
            yield message


async def last(engine: Engine, steps: Work, request: gr.Request, kind: str = "") -> Any:
    """The last frame of a job that nobody watches, for the program that has sent ``request``.

    Raises gr.Error if the computation failed, if there are too many jobs, or if the program has ceased to listen.
    """
    newest = None
    async with aclosing(_unwatched(engine, steps, request, kind)) as frames:
        async for frame in frames:
            newest = frame
    return newest


async def every_frame(engine: Engine, steps: Work, request: gr.Request) -> list[Any]:
    """All frames of such a job; raises as ``last`` does."""
    async with aclosing(_unwatched(engine, steps, request)) as frames:
        return [frame async for frame in frames]


async def _unwatched(engine: Engine, steps: Work, request: gr.Request, kind: str = "") -> AsyncGenerator[Any, None]:
    client = client_of(request)
    try:
        job = engine.submit(steps, None, client.address, kind)
    except Full as full:
        raise gr.Error(str(full), print_exception=False) from full
    try:
        while (shown := await next_frame(job, client)) is not None:
            if not isinstance(shown, QueuePosition):
                yield shown
    except Unheard as error:
        raise gr.Error(UNHEARD, print_exception=False) from error
    except RuntimeError as error:
        raise gr.Error(FAILED, print_exception=False) from error
    finally:
        engine.drop(job)


class Unheard(Exception):
    """Nobody listens to a job any more."""


async def next_frame(job: Job, client: Client) -> Any | None:
    """The next frame of ``job``, or None after the last. Raises Unheard once ``client`` is gone, RuntimeError if the job failed."""
    while not job.unread:
        await job.wait_for_frames(LISTEN, 1)
        if client.is_gone():
            raise Unheard
    return await job.next()


# --- streams ----------------------------------------------------------------------------------------------------------


PACE = 0.04
"""Seconds from one message to the next at least: each costs the server some 4 ms, whatever it holds."""

MESSAGES = 50
"""About so many a second to all visitors together, but for a first frame, an end and ENOUGH frames, which do not wait."""

SHOWN = 30
"""Frames a second: while a visitor's page shows those of a message, the next ones gather."""

LISTEN = 5.0
"""Seconds without a frame after which it is looked whether anybody still listens."""


async def stream(
    engine: Engine,
    steps: Work,
    client: Client,
    start: Callable[[int], str] | None,
    pack: Callable[[Any, int], str],
    kind: str = "",
) -> AsyncGenerator[str, None]:
    """The messages of one job: ``start`` of its number, if there is one, each frame as ``pack`` of it and the number writes it, the end.

    Lines of one string are messages that came together; neither the first frame nor the last is kept waiting. However
    fast the frames come, a string holds but so many that others on the event loop are not kept waiting either. The next
    string waits until the ``client`` has read the last, and the job of a client that is gone ends.
    """
    number, ended, begun = next(_jobs), None, False
    try:
        job = engine.submit(steps, client.session, client.address, kind)
    except Full as full:
        yield "\n".join([*([start(number)] if start else []), end(number, str(full))])
        return
    try:
        lines = [start(number)] if start else []
        await job.wait_for_frames(PACE, 1)
        while ended is None:
            try:
                while ended is None and (not lines or job.unread and len(lines) <= MOST_UNREAD):
                    if (shown := await next_frame(job, client)) is None:
                        ended = end(number)
                    elif isinstance(shown, QueuePosition):
                        lines.append(waiting(shown, number))
                    else:
                        begun = True
                        lines.append(pack(shown, number))
            except Unheard:
                return
            except Exception as error:
                if not isinstance(error, RuntimeError):  # which the engine has told of
                    log.exception("A frame cannot be written")
                ended = end(number, FAILED)
            due = time.monotonic() + max(PACE, engine.active() / MESSAGES, len(lines) / SHOWN)
            yield "\n".join([*lines, ended] if ended else lines)
            if begun:
                await job.wait_for_frames(due - time.monotonic())
            if not await client.keeps_up():
                return
            lines = []
    finally:
        engine.drop(job)
