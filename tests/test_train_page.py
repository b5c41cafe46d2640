"""The page on which visitors train a network, in a real browser; every test waits for what the player says of itself."""

from __future__ import annotations

import pickle

import pytest
from conftest import PATIENCE
from pages import query, state, wait

from ddpm.lessons.plane.run import Plane
from ddpm.lessons.points import encode_points, sketch
from ddpm.lessons.train.page import EXPERIMENTS
from ddpm.lessons.trained import LARGEST_FILE

QUICK = "/train?data=circles&batches=100&shown_steps=2"
LONG = "/train?data=circles&batches=5000&shown_steps=2"


def open_page(page, url):
    """Opens the page and waits until its plots, the settings of the link and the untrained network are there."""
    page.goto(url)
    wait(page, "d.plots === 'ready' && d.state === 'finished' && d.playing === 'false'")
    page.wait_for_function(
        "url => document.querySelector('#batches input').value === url.match(/batches=(\\d+)/)[1]", arg=url
    )


def train(page, start=lambda page: page.locator("#train").click()):
    """Begins a training and waits for its end."""
    job = state(page)["job"]
    start(page)
    wait(page, f"d.job !== '{job}' && d.state === 'finished' && d.playing === 'false'")


def upload(page, name, content):
    with page.expect_file_chooser() as chooser:
        page.locator("#upload").click()
    chooser.value.set_files({"name": name, "mimeType": "application/octet-stream", "buffer": content})


def notes(page):
    return page.locator(".notes").inner_text()


def test_a_training_stops_goes_on_from_there_and_ends(page, server):
    open_page(page, server + LONG)
    page.locator("#train").click()
    wait(page, "d.state === 'computing' && Number(d.frames) >= 3")
    page.locator("#stop").click()
    wait(page, "d.state === 'stopped' && d.playing === 'false'")
    stopped = state(page)
    page.locator("#continue").click()
    wait(page, f"d.job !== '{stopped['job']}' && Number(d.frames) > {stopped['frames']}")
    page.locator("#stop").click()
    wait(page, "d.state === 'stopped' && d.playing === 'false'")
    assert int(state(page)["batches"]) > int(stopped["batches"])
    assert "of your 60 s" in page.locator(".budget").inner_text()


def test_the_page_begins_with_what_an_untrained_network_makes(page, server):
    open_page(page, server + QUICK)
    assert page.locator(".step").inner_text() == "batch 0 of 100"
    assert "has learned nothing yet" in notes(page)
    assert page.locator(".use").is_hidden()


@pytest.mark.slow
def test_an_experiment_sets_the_controls_and_trains(page, server):
    open_page(page, server + QUICK)
    name = "The same, scaled to variance 1"
    page.locator("#experiment input").click()
    train(page, lambda page: page.get_by_role("option", name=name).click())
    assert query(page)["scaling"] == "standard" and query(page)["shown_steps"] == "10"
    assert page.locator("#look-for").inner_text() == EXPERIMENTS[name].text


def test_a_finished_training_is_stepped_through_by_keyboard(page, server):
    open_page(page, server + QUICK)
    page.locator("#train").focus()
    train(page, lambda page: page.keyboard.press("Enter"))
    last = int(state(page)["position"])
    page.locator(".player").focus()
    page.keyboard.press("ArrowLeft")
    wait(page, f"d.position === '{last - 1}'")
    assert page.locator(".step").inner_text() != "batch 100 of 100"
    page.keyboard.press("ArrowRight")
    wait(page, f"d.position === '{last}'")
    assert page.locator(".step").inner_text() == "batch 100 of 100"


def test_the_network_moves_the_particles_in_the_plane_of_its_visitor_and_of_no_other(page, server, browser):
    open_page(page, server + QUICK)
    train(page)
    page.locator(".use").click()
    page.wait_for_url("**/plane?*denoiser=mine*")
    wait(page, "d.state === 'finished' && d.playing === 'false'")
    assert "your network" in page.locator(".caption").inner_text()
    assert page.get_by_role("radio", name="mine").is_checked()

    stranger = browser.new_context()
    stranger.set_default_timeout(1000 * PATIENCE)
    try:
        other = stranger.new_page()
        other.goto(page.url)
        wait(other, "d.state === 'finished' && d.playing === 'false'")
        assert "no network of your own" in notes(other)
        assert "your network" not in other.locator(".caption").inner_text()
    finally:
        stranger.close()


def test_a_downloaded_network_can_be_loaded_by_another_visitor(page, server, browser):
    open_page(page, server + QUICK)
    page.locator("#download").click()
    page.get_by_text("There is no network to download yet").wait_for()
    train(page)
    trained = page.locator(".level").inner_text()
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename == "circles.safetensors"
    content = download.value.path().read_bytes()

    stranger = browser.new_context()
    stranger.set_default_timeout(1000 * PATIENCE)
    try:
        other = stranger.new_page()
        open_page(other, server + QUICK)
        upload(other, "circles.safetensors", content)
        other.get_by_text("you have loaded").wait_for()
        wait(other, "d.state === 'finished' && d.playing === 'false'")
        loss = trained.split(" · ")[0]
        assert other.locator(".level").inner_text().split(" · ")[0] == loss
        assert other.locator(".step").inner_text() == "batch 100 of 100"
    finally:
        stranger.close()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("notes.txt", b"hello", "not a ddpm checkpoint"),
        ("huge.safetensors", b"\0" * (LARGEST_FILE + 1), "it may have at most 4"),
        ("model.safetensors", pickle.dumps({"weight": [1.0]}), "not a ddpm checkpoint"),
    ],
    ids=["wrong", "huge", "pickle"],
)
def test_a_bad_file_is_refused_in_a_sentence_and_leaves_the_page_as_it_was(page, server, name, content, sentence):
    open_page(page, server + QUICK)
    before = notes(page)
    upload(page, name, content)
    toast = page.get_by_text(sentence)
    toast.wait_for()
    assert "/" not in toast.inner_text()
    assert notes(page) == before


def test_on_a_phone_a_drawing_is_learned_and_the_page_is_not_wider_than_the_screen(page, server):
    page.set_viewport_size({"width": 390, "height": 844})
    points = encode_points(sketch(Plane(data="spiral"))[:200])
    open_page(page, f"{server}/train?data=drawn&points={points}&batches=100&shown_steps=2")
    page.locator("#drawer canvas").wait_for()
    train(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert "drawn" in page.locator(".use").get_attribute("href")
