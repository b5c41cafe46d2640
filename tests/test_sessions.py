"""The sessions that Gradio keeps of visitors begin with little, and one knows nothing of another."""

import asyncio
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from conftest import free_port, until
from gradio import queueing, state_holder
from gradio_client import Client

from ddpm.page import gradio_patches as sessions

PATIENCE = 20
"""Seconds until a test that waits in vain fails."""


@pytest.fixture(autouse=True)
def others_keep_theirs(monkeypatch):
    """What ``patch_gradio_sessions`` sets for all of Gradio lasts for one test."""
    monkeypatch.setattr(state_holder, "SessionState", state_holder.SessionState)
    monkeypatch.setattr(queueing, "asyncio", asyncio)


@pytest.fixture
def holder():
    """What keeps the sessions of an app of two components, one of which holds a visitor's own state."""
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.Textbox("a text")
        gr.State([])
    sessions.patch_gradio_sessions(blocks)
    holder = state_holder.StateHolder()
    holder.set_blocks(blocks)
    return holder


def test_of_events_that_nobody_fetches_only_the_newest_are_kept(holder):
    kept = holder.blocks._queue.pending_event_ids_session
    for number in range(sessions.MOST_WAITING + 1):
        kept[str(number)] = {"event"}
    assert len(kept) == sessions.MOST_WAITING
    assert "0" not in kept and str(sessions.MOST_WAITING) in kept


def test_a_session_begins_without_a_description_of_the_components(holder):
    session = holder["a"]
    assert isinstance(session, sessions.Session)
    assert list(session.components) == []
    assert session.blocks_config.blocks == holder.blocks.blocks
    assert session.blocks_config.fns == holder.blocks.fns


def test_what_a_session_is_told_stays_its_own_and_no_description_of_it_is_made(holder):
    text, state = (block._id for block in holder.blocks.blocks.values() if isinstance(block, (gr.Textbox, gr.State)))
    holder["a"]._update_value_in_config(text, "mine")
    holder["a"][state].append(1)
    assert list(holder["a"].components) == []
    assert (holder["a"][state], holder["b"][state]) == ([1], [])


# --- the queue ------------------------------------------------------------------------------------------------------


@pytest.fixture
def long_rest(monkeypatch):
    """Whoever waits for a rest to be over waits in vain."""
    monkeypatch.setattr(sessions, "REST", 2 * PATIENCE)


def test_a_queue_that_rests_wakes_when_something_has_happened(long_rest):
    async def rest():
        shim = sessions.Asyncio()
        ended = [asyncio.create_task(shim.sleep(sessions.REST)) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in ended)
        assert await shim.telling(asyncio.sleep)(0, "the result") == "the result"
        await asyncio.wait_for(asyncio.gather(*ended), PATIENCE)

    asyncio.run(rest())


def test_work_that_fails_has_happened_too(long_rest):
    async def fail():
        raise ArithmeticError

    async def rest():
        shim = sessions.Asyncio()
        ended = asyncio.create_task(shim.sleep(sessions.REST))
        await asyncio.sleep(0)
        with pytest.raises(ArithmeticError):
            await shim.telling(fail)()
        await asyncio.wait_for(ended, PATIENCE)

    asyncio.run(rest())


def test_what_happens_as_another_goes_to_rest_wakes_who_rested_before(long_rest):
    async def happen(shim):
        await shim.telling(asyncio.sleep)(0)

    async def rest():
        shim = sessions.Asyncio()
        first, event = asyncio.create_task(shim.sleep(sessions.REST)), asyncio.create_task(happen(shim))
        await asyncio.sleep(0)
        second = asyncio.create_task(shim.sleep(sessions.REST))
        await event
        await asyncio.wait_for(first, PATIENCE)
        second.cancel()

    asyncio.run(rest())


def test_what_happened_before_a_rest_does_not_cut_it_short(long_rest):
    async def rest():
        shim = sessions.Asyncio()
        await shim.telling(asyncio.sleep)(0)
        ended = asyncio.create_task(shim.sleep(sessions.REST))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not ended.done()
        ended.cancel()

    asyncio.run(rest())


def test_any_other_sleep_is_not_cut_short(long_rest):
    async def rest():
        shim = sessions.Asyncio()
        ended = asyncio.create_task(shim.sleep(PATIENCE))
        await asyncio.sleep(0)
        await shim.telling(asyncio.sleep)(0)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not ended.done()
        ended.cancel()

    asyncio.run(rest())


def test_events_of_one_handler_follow_each_other_without_a_rest_and_leave_no_table(long_rest):
    gate = threading.Event()
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.Button().click(lambda: gate.wait(PATIENCE), None, None, api_name="one_at_a_time")
    sessions.patch_gradio_sessions(blocks.queue())
    _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
    try:
        client = Client(url, verbose=False)
        jobs = [client.submit(api_name="/one_at_a_time") for _ in range(3)]
        deadline = time.monotonic() + PATIENCE
        while len(blocks._queue) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(blocks._queue) == 2
        gate.set()
        for job in jobs:
            job.result(timeout=PATIENCE)
        assert blocks._queue.cached_event_analytics_summary == {"functions": {}}
        assert len(blocks._queue.event_analytics) <= 1
    finally:
        blocks.close()


# --- who does not read ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux alone can do it")
def test_a_connection_on_which_nobody_reads_is_closed():
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Textbox("a text")
    page.app = None
    page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", server_port=free_port())
    try:
        sessions.drop_the_deaf(page, seconds=0.5)
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", page.server_port))
            for _ in range(50):  # more than all buffers between hold
                deaf.sendall(b"GET /config HTTP/1.1\r\nHost: here\r\n\r\n")
            mine = deaf.getsockname()
            open_now = lambda: any(each.client == mine for each in page.server.server_state.connections)
            until(open_now, "a connection")
            until(lambda: not open_now(), "its end")
    finally:
        page.close()


def test_another_version_of_gradio_is_refused_in_one_sentence():
    sessions.check_version()
    with pytest.raises(ValueError, match=r"Gradio 6.31.0 from outside, and Gradio 6.32.0 is installed: pip install"):
        sessions.check_version("6.32.0")
    pins = (Path(__file__).parent.parent / "requirements.txt").read_text().splitlines()
    assert f"gradio=={sessions.TESTED}" in pins


def test_a_part_that_has_gone_cannot_be_replaced():
    with pytest.raises(AttributeError, match="no vanished in"):
        sessions.replaced(SimpleNamespace(), "vanished", 1)
