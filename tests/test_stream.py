"""What a run's visitor is told, and when: ddpm.page.stream.stream."""

import asyncio
import json
import threading
import time
from itertools import chain
from types import SimpleNamespace

import gradio as gr
import pytest

from ddpm.page import client as clients
from ddpm.page import stream as lesson
from ddpm.page.client import Client
from ddpm.serving import engine as engines
from ddpm.serving.engine import ENOUGH, MOST_UNREAD, Engine

PATIENCE = 20
"""Seconds until a test that waits in vain fails."""

START = "start|"


@pytest.fixture
def endless_pace(monkeypatch):
    """Whoever waits for a message's time to come waits in vain."""
    monkeypatch.setattr(lesson, "PACE", 10 * PATIENCE)


def counting(frames, gate=None, after=1):
    """The work of a run with ``frames`` numbered frames, which waits for the ``gate`` once ``after`` of them are out."""
    for number in range(frames):
        while gate and number == after and not gate.is_set():
            time.sleep(0.001)
            yield None
        yield number


def told(engine, work, owner="anybody", client=None):
    return lesson.stream(
        engine, work, client or Client(owner), lambda number: START, lambda frame, number: f"frame {frame}|"
    )


def kinds(message):
    """The lines of a message: "start", "frame 3", or the kind of those in JSON."""
    heads = [line.partition("|")[0] for line in message.split("\n")]
    return [json.loads(head)["kind"] if head.startswith("{") else head for head in heads]


async def next_of(messages):
    return kinds(await asyncio.wait_for(anext(messages), PATIENCE))


async def rest_of(messages):
    found = []
    while True:
        try:
            found.append(await next_of(messages))
        except StopAsyncIteration:
            return found


@pytest.mark.parametrize("frames", [0, 1, 5, 300])
def test_every_frame_is_told_once_and_in_order(frames):
    async def listen():
        return await rest_of(told(Engine(), counting(frames)))

    expected = ["start", *(f"frame {number}" for number in range(frames)), "end"]
    assert [*chain(*asyncio.run(listen()))] == expected


def test_frames_that_come_fast_share_messages():
    async def listen():
        return await rest_of(told(Engine(), counting(20 * ENOUGH)))

    assert len(asyncio.run(listen())) <= 40


def test_frames_that_come_faster_than_they_are_written_do_not_keep_the_event_loop():
    def packed(frame, number):
        time.sleep(0.001)
        return f"frame {frame}|"

    async def listen():
        return await rest_of(lesson.stream(Engine(), counting(300), Client("anybody"), lambda number: START, packed))

    messages = asyncio.run(listen())
    assert [*chain(*messages)] == ["start", *(f"frame {number}" for number in range(300)), "end"]
    assert max(map(len, messages)) <= MOST_UNREAD + 2


def test_neither_the_first_frame_nor_the_last_is_kept_waiting(endless_pace):
    async def listen():
        gate = threading.Event()
        messages = told(Engine(), counting(5, gate))
        first = await next_of(messages)
        gate.set()
        return first, await rest_of(messages)

    first, rest = asyncio.run(listen())
    assert first == ["start", "frame 0"]
    assert [*chain(*rest)] == [*(f"frame {number}" for number in range(1, 5)), "end"]


def test_a_visitor_in_the_queue_is_told_so_and_gets_the_first_frame_at_once(endless_pace):
    async def listen():
        engine, gate = Engine(most=1), threading.Event()
        other = told(engine, counting(2, gate), "another")
        assert await next_of(other) == ["start", "frame 0"]
        messages = told(engine, counting(2, gate, after=2))
        queued = [await next_of(messages)]
        gate.set()
        await rest_of(other)
        return queued + await rest_of(messages)

    assert [*chain(*asyncio.run(listen()))] == ["start", "waiting", "frame 0", "frame 1", "end"]


def test_what_fails_is_told_after_the_frames_before_it():
    def failing():
        yield 0
        raise ArithmeticError("no number")

    async def listen():
        return [message async for message in told(Engine(), failing())]

    *earlier, end = [line for message in asyncio.run(listen()) for line in message.split("\n")]
    assert [kind for line in earlier for kind in kinds(line)] == ["start", "frame 0"]
    assert json.loads(end.partition("|")[0])["problem"] == lesson.FAILED


def test_a_frame_that_cannot_be_written_is_told_like_a_failure(caplog):
    def packed(frame, number):
        return json.dumps(1 / (1 - frame))

    async def listen():
        return await rest_of(lesson.stream(Engine(), counting(5), Client("anybody"), lambda number: START, packed))

    assert [*chain(*asyncio.run(listen()))] == ["start", "1.0", "end"]
    assert "cannot be written" in caplog.text


def test_who_leaves_ends_the_run():
    async def listen():
        engine, gate = Engine(), threading.Event()
        messages = told(engine, counting(10**9, gate))
        await next_of(messages)
        await messages.aclose()
        gate.set()
        while engine.active():
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(listen(), PATIENCE))


# --- who does not read ------------------------------------------------------------------------------------------------


@pytest.fixture
def unread(monkeypatch):
    """The messages that a client has not read, which is gone at once."""
    monkeypatch.setattr(clients, "UNREAD_SECONDS", 0.0)
    return asyncio.Queue()


async def ended(engine):
    """Returns once no run is under way."""
    while engine.active():
        await asyncio.sleep(0.001)


def test_a_run_whose_messages_nobody_reads_ends_and_its_messages_are_dropped(unread):
    async def listen():
        engine = Engine()
        messages = told(engine, counting(10_000), client=Client("a", messages=lambda: unread))
        async for message in messages:
            unread.put_nowait(message)  # as Gradio does
        await asyncio.wait_for(ended(engine), PATIENCE)
        return unread.qsize()

    assert asyncio.run(listen()) == 0


def test_a_run_that_waits_ends_if_nobody_reads_that_it_does(unread, monkeypatch):
    monkeypatch.setattr(lesson, "LISTEN", 0.01)

    async def listen():
        engine, gate = Engine(most=1), threading.Event()
        first = told(engine, counting(3, gate), "first")
        await next_of(first)
        second = told(engine, counting(3), client=Client("second", messages=lambda: unread))
        async for message in second:
            unread.put_nowait(message)
        while engine.active() > 1:
            await asyncio.sleep(0.001)
        gate.set()
        return await rest_of(first)

    assert "end" in [*chain(*asyncio.run(asyncio.wait_for(listen(), PATIENCE)))]


def test_the_next_message_waits_until_the_last_is_read():
    async def listen():
        queue, engine = asyncio.Queue(), Engine()
        messages = told(engine, counting(300), client=Client("a", messages=lambda: queue))
        queue.put_nowait(await anext(messages))
        after = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(3 * clients.POLL)
        waited = not after.done()
        queue.get_nowait()
        await asyncio.wait_for(after, PATIENCE)
        await messages.aclose()
        return waited

    assert asyncio.run(listen())


def test_a_program_that_does_not_fetch_its_answer_ends_the_computation(unread, monkeypatch):
    monkeypatch.setattr(lesson, "LISTEN", 0.01)
    unread.put_nowait("begun")

    async def ask():
        engine = Engine()
        with pytest.raises(gr.Error, match="Nobody has listened"):
            await lesson.last(engine, counting(1, threading.Event(), after=0), requested(unread))
        await asyncio.wait_for(ended(engine), PATIENCE)

    asyncio.run(asyncio.wait_for(ask(), PATIENCE))


def test_a_run_too_many_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(engines, "MOST_OF_ADDRESS", 1)

    async def listen():
        engine, gate = Engine(), threading.Event()
        first = told(engine, counting(3, gate), client=Client("first", "here"))
        await next_of(first)
        (message,) = [message async for message in told(engine, counting(3), client=Client("second", "here"))]
        with pytest.raises(gr.Error, match="Your address has 1 runs"):
            await lesson.last(engine, counting(1), requested(asyncio.Queue(), "here"))
        others = await rest_of(told(engine, counting(3), client=Client("third", "elsewhere")))
        gate.set()
        await rest_of(first)
        return message, others

    message, others = asyncio.run(asyncio.wait_for(listen(), PATIENCE))
    start, end = message.split("\n")
    assert start == START and "Your address has 1 runs under way" in json.loads(end.partition("|")[0])["problem"]
    assert "frame 2" in [*chain(*others)]


def requested(queue, address=""):
    """The request of a program from ``address`` whose unread messages are in ``queue``."""
    blocks = SimpleNamespace(_queue=SimpleNamespace(pending_messages_per_session={"program": queue}))
    scope = {"app": SimpleNamespace(get_blocks=lambda: blocks), clients.ADDRESS: address}
    return SimpleNamespace(session_hash="program", request=SimpleNamespace(scope=scope))
