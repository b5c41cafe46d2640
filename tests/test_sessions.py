"""The sessions that Gradio keeps of visitors begin with little, and one knows nothing of another."""

import gradio as gr
import pytest
from gradio import state_holder

from ddpm.ui import sessions


@pytest.fixture
def holder(monkeypatch):
    """What keeps the sessions of an app of two components, one of which holds a visitor's own state."""
    monkeypatch.setattr(state_holder, "SessionState", state_holder.SessionState)
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.Textbox("a text")
        gr.State([])
    sessions.lighten(blocks)
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


def test_what_a_session_is_told_stays_its_own(holder):
    text, state = (block._id for block in holder.blocks.blocks.values() if isinstance(block, (gr.Textbox, gr.State)))
    holder["a"]._update_value_in_config(text, "mine")
    holder["a"][state].append(1)
    holder["b"]._update_value_in_config(text, "yours")
    assert [component["props"]["value"] for component in holder["a"].components] == ["mine"]
    assert (holder["a"][state], holder["b"][state]) == ([1], [])
