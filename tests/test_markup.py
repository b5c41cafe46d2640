"""What somebody else has written, in a link or a file that a visitor opens, is shown as text and never as markup."""

import json
from urllib.parse import urlencode

import torch
from pages import open_page
from safetensors.torch import save
from test_lecture import hand_over
from test_train_page import upload

from ddpm.checkpoint import FORMAT

MARK = "<img src onerror=marked=1>"
TRACES = "() => [typeof window.marked, document.querySelectorAll('img[onerror]').length]"


def shows_text(page, place="body"):
    """Waits until the page shows the mark, and sees that it is nothing but text."""
    page.locator(place, has_text=MARK).first.wait_for()
    assert page.evaluate(TRACES) == ["undefined", 0]


def network(tensor="w", value=0.0, config=(), about=()):
    """A safetensors file that claims to be a network of points."""
    claimed = {"shape": [2], "width": 8, "depth": 1, "embedding": 8, **dict(config)}
    header = {"format": FORMAT, "kind": "mlp", "config": claimed, "about": {"data": "moons", **dict(about)}}
    return save({tensor: torch.full((1,), value)}, {"ddpm": json.dumps(header)})


def test_names_and_values_in_a_network(page, server):
    files = {
        "finite": network(tensor=MARK, value=float("nan")),
        "width": network(config={"width": MARK}),
        "unknown key": network(config={MARK: 1}),
    }
    open_page(page, f"{server}/train")
    for words, content in files.items():
        upload(page, "x.safetensors", content)
        toast = page.locator(".toast-message-text", has_text=words)
        toast.wait_for()
        assert MARK in toast.inner_text() and page.evaluate(TRACES) == ["undefined", 0]


def test_a_files_name_and_content_where_a_picture_is_wanted(page, server):
    page.goto(f"{server}/noising?picture=uploaded")
    upload(page, f"{MARK}.png", MARK.encode())
    page.locator(".toast-wrap").wait_for()
    assert page.evaluate(TRACES) == ["undefined", 0]


def test_a_link_and_the_notes_about_it(page, server):
    open_page(page, f"{server}/?{urlencode({'steps': 2, 'label': MARK, 'sampler': MARK, MARK: MARK})}")
    shows_text(page, ".notes")


def test_a_lectures_title_and_texts_and_its_files_name(page, server):
    open_page(page, f"{server}/line?count=200&steps=2")
    hand_over(
        page,
        {
            "title": MARK,
            "experiments": [
                {"link": f"/line?{urlencode({'count': 200, 'steps': 2, 'seed': MARK})}", "title": MARK, "text": MARK}
            ],
        },
    )
    page.wait_for_url("**/line?**experiment=1**")
    for place in ("#lecture .title", "#lecture .text", ".notes"):
        shows_text(page, place)
    hand_over(page, {"title": "x", "experiments": [{"link": MARK, "title": "x"}]})
    shows_text(page, "#lecture .said")


def test_the_settings_and_the_name_of_a_runs_file(page, server):
    open_page(page, f"{server}/line?count=200&steps=2")
    hand_over(page, {MARK: 1})
    shows_text(page, "#lecture .said")
    page.locator("#lecture .file").set_input_files({"name": f"{MARK}.json", "mimeType": "text/plain", "buffer": b"{"})
    shows_text(page, "#lecture .said")
