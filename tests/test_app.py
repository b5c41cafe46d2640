"""The page in a real browser: every test waits for what the player says of itself, none for time."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode

import gradio as gr
import numpy as np
import pytest
import torch
from conftest import PATIENCE, free_port, until
from gradio_client import Client
from pages import INK, TRACES, finish, open_page, query, scrub, state, wait
from starlette.middleware import Middleware
from torch import nn

from ddpm.checkpoint import load_network, load_projection
from ddpm.data import to_uint8
from ddpm.lessons.pictures import page as pictures
from ddpm.lessons.pictures.page import experiments as experiments_of
from ddpm.lessons.pictures.run import Run, perform
from ddpm.page.builder import House, Page
from ddpm.page.still import Still
from ddpm.plots import columns
from ddpm.serving.engine import Engine

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
QUICK = "/?count=2&steps=5&seed=3"
LONG = "/?count=25&steps=1000"

COLOURS = """name => { const c = document.querySelector(`canvas.${name}`);
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  return [c.height, c.width, ...d.filter((_, i) => i % 4 < 3)]; }"""
WATCH = """() => { window.seen = []; const player = document.querySelector('.player');
  new MutationObserver(() => window.seen.push([player.dataset.state, Number(player.dataset.position),
    document.querySelector('.step').textContent, document.querySelector('canvas.x').toDataURL()]))
    .observe(player, { attributes: true, attributeFilter: ['data-position'] }); }"""
"""Keeps in window.seen what each drawing by the player showed: state, position, step and picture."""


def generate(page, button="#generate"):
    """Presses ``button`` and waits until the run that it starts has finished."""
    job = state(page)["job"]
    page.locator(button).click()
    wait(page, f"d.job !== '{job}'")
    return finish(page)


def coloured(page, name="x"):
    """The canvas as an image (height, width, 3)."""
    height, width, *values = page.evaluate(COLOURS, name)
    return np.array(values).reshape(height, width, 3)


def grey(page, name="x"):
    """The canvas as a grey image (height, width)."""
    return coloured(page, name)[..., 0]


def expected(run):
    """The grid that the page should show of ``run`` (height, width, C): its pictures as on the canvas, gaps 0."""
    *_, last = perform(run, load_network(CHECKPOINTS / f"{run.model}.safetensors").network)
    pictures, across = to_uint8(last.x).permute(0, 2, 3, 1).numpy(), columns(run.count)
    _, side, _, channels = pictures.shape
    grid = np.zeros((-(-run.count // across) * (side + 1) - 1, across * (side + 1) - 1, channels), int)
    for i, picture in enumerate(pictures):
        top, left = i // across * (side + 1), i % across * (side + 1)
        grid[top : top + side, left : left + side] = picture
    return grid


def step_text(page):
    return page.locator(".step").inner_text()


def test_the_page_runs_by_itself_and_ends_with_the_clean_pictures(page, server):
    assert open_page(page, server + QUICK)["frames"] == "6"
    assert step_text(page) == "step t = 0 of 5"
    assert np.array_equal(grey(page, "x"), grey(page, "x0"))


def test_the_pictures_are_those_that_the_library_computes(page, server):
    open_page(page, f"{server}/?label=7&count=3&steps=8&schedule=linear&eta=0.5&guidance=1.5&seed=11")
    run = Run(label="7", count=3, steps=8, schedule="linear", eta=0.5, guidance=1.5, seed=11)
    assert np.abs(coloured(page) - expected(run)).max() <= 2


def test_a_long_run_shows_a_hundred_steps_with_the_first_and_the_last(page, server):
    assert open_page(page, f"{server}/?count=1&steps=150")["frames"] == "100"
    assert step_text(page) == "step t = 0 of 150"
    scrub(page, 0)
    page.locator(".step", has_text="step t = 150 of 150").wait_for()


def test_generate_shows_the_chosen_digit_step_by_step_in_order(page, server):
    open_page(page, server + QUICK)
    before = grey(page)
    page.get_by_role("radio", name="8", exact=True).check()
    page.evaluate(WATCH)
    generate(page)
    shown = [(int(text.split()[3]), position, picture) for _, position, text, picture in page.evaluate("window.seen")]
    begin = next(i for i, (step, *_) in enumerate(shown) if step == 5)
    steps, positions, pictures = zip(*dict.fromkeys(shown[begin:]))
    assert [5 - position for position in positions] == list(steps)
    assert steps[0] == 5 and steps[-1] == 0 and len(steps) >= 3
    assert list(steps) == sorted(set(steps), reverse=True) and len(set(pictures)) == len(steps)
    assert query(page)["label"] == "8" and not np.array_equal(before, grey(page))


def test_stop_ends_the_run_and_keeps_what_was_computed(page, server):
    page.goto(server + LONG)
    wait(page, "Number(d.frames) >= 3")
    page.locator("#stop").click()
    frames = int(finish(page)["frames"])
    assert state(page)["state"] == "stopped" and 3 <= frames < 100
    scrub(page, 1)
    wait(page, "d.position === '1'")
    open_page(page.context.new_page(), server + QUICK)
    assert int(state(page)["frames"]) == frames


def test_generate_in_mid_run_replaces_the_run(page, server):
    page.goto(server + LONG)
    wait(page, "Number(d.frames) >= 2")
    page.locator("#count input[type=number]").fill("2")
    page.locator("#steps input[type=number]").fill("5")
    page.locator("#steps input[type=number]").press("Tab")
    page.locator("#generate").click()
    wait(page, "d.state === 'finished' && d.frames === '6'")
    assert query(page)["count"] == "2"


def test_a_finished_run_steps_scrubs_and_replays_without_the_server(page, context, server):
    open_page(page, server + QUICK)
    context.set_offline(True)
    player = page.locator(".player")
    page.get_by_role("button", name="One step back").click()
    wait(page, "d.position === '4'")
    player.focus()
    player.press("ArrowLeft")
    wait(page, "d.position === '3'")
    player.press("ArrowRight")
    wait(page, "d.position === '4'")
    scrub(page, 0)
    wait(page, "d.position === '0'")
    player.press("Space")
    finish(page)
    page.evaluate(WATCH)
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("window.seen.some(([, position]) => position === 0)")
    finish(page)
    context.set_offline(False)


def test_the_address_reproduces_the_run(page, context, server):
    open_page(page, f"{server}/?count=3&steps=6&seed=5&eta=1")
    other = context.new_page()
    open_page(other, page.url)
    assert query(page) == query(other) == Run(count=3, steps=6, seed=5, eta=1).query()
    assert np.array_equal(grey(page), grey(other))


def test_the_address_follows_the_controls(page, server):
    open_page(page, server + QUICK)
    page.get_by_role("radio", name="4", exact=True).check()
    page.wait_for_function("new URL(location).searchParams.get('label') === '4'")
    page.locator("#steps input[type=number]").fill("77")
    page.locator("#steps input[type=number]").press("Tab")
    page.wait_for_function("new URL(location).searchParams.get('steps') === '77'")


def test_changed_settings_ask_for_generate_until_they_are_used(page, server):
    open_page(page, server + QUICK)
    hint = page.locator(".hint")
    assert hint.is_hidden()
    page.get_by_role("radio", name="4", exact=True).check()
    hint.wait_for()
    generate(page)
    assert hint.is_hidden()


def test_wrong_values_in_a_link_are_corrected_and_said(page, server):
    wrong = {"count": 99, "steps": 0, "schedule": "cosin", "eta": -3, "seed": "1e99", "label": "zzz", "guidance": "abc"}
    open_page(page, f"{server}/?{urlencode(wrong)}")
    notes = page.locator(".notes div").all_inner_texts()
    assert sorted(note.split(" = ")[0] for note in notes) == sorted(wrong)
    right = Run(count=25, steps=1, seed=2**31 - 1).query()
    assert query(page) == right
    for name in ("count", "steps", "eta", "guidance", "seed"):
        assert page.locator(f"#{name} input").first.input_value() == right[name]
    assert page.get_by_role("radio", name="one of each").is_checked()


@pytest.mark.parametrize("seed", ["", "-5"])
def test_a_wrong_seed_in_the_page_is_corrected_and_said(page, server, seed):
    open_page(page, server + QUICK)
    page.locator("#seed input").fill(seed)
    generate(page)
    assert page.locator(".notes div", has_text="seed =").count() == 1
    assert query(page)["seed"] == "0"


def test_the_dice_shows_its_seed_and_runs_with_it(page, server):
    open_page(page, server + QUICK)
    before = grey(page)
    generate(page, "#dice")
    assert query(page)["seed"] == page.locator("#seed input").input_value() != "3"
    assert not np.array_equal(before, grey(page))


PATHS = "JSON.stringify(document.querySelector('.plane').data.map(trace => trace.x))"


def test_the_plots_hold_the_run_at_rest(page, server):
    open_page(page, server + QUICK)
    assert page.evaluate(TRACES, "plane") == 10 + 2
    assert page.evaluate(INK, "plane") > 0 and page.evaluate(INK, "pixels") > 0
    before = page.evaluate(PATHS)
    page.locator(".predicted").check()
    page.wait_for_function(f"before => {PATHS} !== before", arg=before)
    assert page.evaluate(TRACES, "plane") == 10 + 2


def test_a_clicked_pixel_joins_the_plot_of_pixels(page, server):
    open_page(page, server + QUICK)
    box, (height, width) = page.locator("canvas.x").bounding_box(), grey(page).shape
    row, column = 13, 29 + 12  # of the second picture, which begins after the first and a gap
    place = {"x": (column + 0.5) / width * box["width"], "y": (row + 0.5) / height * box["height"]}
    page.locator("canvas.x").click(position=place)
    traces = page.evaluate("document.querySelector('.pixels').data.map(({ name, y }) => [name, ...y])")
    name, *values = traces[-2]
    assert len(traces) == 6 and name.startswith("picture 2, row 13, column 12: x<sub>t")
    assert len(values) == 6 and abs(np.clip(values[-1], -1, 1) * 127.5 + 127.5 - grey(page)[row, column]) <= 1


def test_two_visitors_at_once_each_get_their_own_run(page, context, server):
    other = context.new_page()
    page.goto(f"{server}/?label=1&count=2&steps=30&seed=1")
    other.goto(f"{server}/?label=8&count=3&steps=30&seed=2")
    finish(page)
    finish(other)
    assert np.abs(coloured(page) - expected(Run(label="1", count=2, steps=30, seed=1))).max() <= 2
    assert np.abs(coloured(other) - expected(Run(label="8", count=3, steps=30, seed=2))).max() <= 2


def test_the_colour_page_draws_one_of_each_kind_as_the_command_line_does(page, server):
    open_page(page, f"{server}/colour?steps=3&seed=4")
    run = replace(pictures.COLOUR.first, steps=3, seed=4)
    assert run.guidance > 0
    assert query(page) == run.query()
    assert np.abs(coloured(page) - expected(run)).max() <= 2
    assert page.get_by_role("radio", name="frog").count() == 1


def test_a_link_for_another_model_is_corrected_and_said(page, server):
    open_page(page, f"{server}/colour?model=mnist&label=7&count=1&steps=2")
    assert query(page) == replace(pictures.COLOUR.first, count=1, steps=2).query()
    assert [note.split(" = ")[0] for note in page.locator(".notes div").all_inner_texts()] == ["model", "label"]


class Gate(nn.Module):
    """A network that answers 0, or fails if ``broken``, once for each time that ``admit`` has been called."""

    config = SimpleNamespace(shape=(1, 28, 28), num_classes=10, prediction="v")

    def __init__(self):
        super().__init__()
        self.broken, self.calls, self.granted = False, 0, threading.Semaphore(0)

    def forward(self, x, log_snr, label):
        assert self.granted.acquire(timeout=PATIENCE), "nobody has opened the gate"
        self.calls += 1
        if self.broken:
            raise ArithmeticError("no number")
        return torch.zeros_like(x)

    def admit(self, calls=1):
        self.granted.release(calls)


@pytest.fixture
def gated():
    """The lesson on a gate, served by this process: its url, gate and engine."""
    gate = Gate()
    engine = Engine()
    with gr.Blocks(analytics_enabled=False) as blocks:
        cloud = load_projection(CHECKPOINTS / "mnist-projection.safetensors")
        models = SimpleNamespace(pictures={"mnist": gate}, clouds={"mnist": cloud})
        Page(pictures.DIGITS, House(engine, models, None, lambda request: None, [])).build()
    blocks.queue()
    _, url, _ = blocks.launch(
        server_name="127.0.0.1",
        server_port=free_port(),
        prevent_thread_lock=True,
        quiet=True,
        ssr_mode=False,
        app_kwargs={"middleware": [Middleware(Still, pages=frozenset())]},
    )
    yield SimpleNamespace(url=url.rstrip("/"), gate=gate, engine=engine)
    gate.admit(5000)
    blocks.close(verbose=False)


@pytest.mark.parametrize("url", ["/?count=1&steps=2", "/plane?steps=2&count=100"])
def test_no_plot_offers_to_send_itself_away(page, server, url):
    open_page(page, server + url)
    assert page.locator(".modebar [data-title^=Download]").count()
    assert not page.locator(".modebar [data-title^=Share]").count()


def test_bold_text_has_all_its_letters(page, server):
    open_page(page, server + "/?count=1&steps=2")
    page.wait_for_function(
        "[...document.fonts].some((f) => f.family.includes('Source Sans') && f.weight === '700' && f.status === 'loaded')"
    )
    assert not page.evaluate(
        "[...document.fonts].filter((f) => f.family.includes('Source Sans') && f.weight === '600').length"
    )


def test_a_run_whose_first_step_takes_long_says_that_it_is_computed(gated, page):
    page.goto(gated.url + LONG)
    wait(page, "d.state === 'computing'")
    assert page.locator(".speed").inner_text() == "computing: 0 of 100 states to show"


def test_closing_the_page_frees_the_engine(gated, page):
    page.goto(gated.url + "/?count=5&steps=1000")  # one forward pass a step
    gated.gate.admit()
    wait(page, "d.frames === '1'")
    page.close()
    until(lambda: gated.gate.admit() or not gated.engine.active(), "the end of a run that nobody watches")
    assert gated.gate.calls < 1000


def test_a_run_that_fails_is_said_to_have_failed_and_the_next_one_works(gated, page):
    gated.gate.broken = True
    gated.gate.admit()
    page.goto(gated.url + QUICK)
    wait(page, "d.state === 'failed'")
    page.get_by_text("The computation failed on the server").wait_for()
    gated.gate.broken = False
    gated.gate.admit(5)
    assert generate(page)["state"] == "finished"


@pytest.mark.parametrize("path", ["", "colour"])
def test_an_experiment_sets_the_controls_and_runs(page, server, path):
    job = open_page(page, f"{server}/{path}?count=1&steps=2")["job"]
    name, model = "Two steps: too few", {"": "mnist", "colour": "cifar10"}[path]
    page.locator("#experiment input").click()
    page.get_by_role("option", name=name).click()
    wait(page, f"d.job !== '{job}' && d.state === 'finished'")
    experiment = experiments_of(model)[name]
    assert page.locator("#look-for").inner_text() == experiment.text
    assert query(page).items() >= experiment.settings.query().items()


def test_the_experiments_say_in_two_or_three_sentences_what_to_look_for():
    for one in experiments_of("mnist").values():
        assert 2 <= len(re.findall(r"[a-z0-9]\.( |$)", one.text)) <= 3


def test_a_program_gets_the_run_as_messages(server):
    client = Client(server, verbose=False, analytics_enabled=False)
    given = client.submit(label="3", count=2, steps=5, schedule="linear", seed=9, api_name="/denoise_mnist")
    headers = [json.loads(message.split("|", 1)[0]) for lines in given for message in lines.split("\n")]
    assert [header["kind"] for header in headers] == ["start", *["frame"] * 6, "end"]
    assert Run(**headers[0]["run"]) == Run(label="3", count=2, steps=5, schedule="linear", seed=9)


def test_the_page_fits_a_phone(page, server):
    page.set_viewport_size({"width": 390, "height": 844})
    open_page(page, server + QUICK)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    address = page.url
    page.get_by_role("link", name="all settings").click()
    page.wait_for_function("document.querySelector('#settings').getBoundingClientRect().top < innerHeight / 2")
    assert page.url == address
    assert all(page.locator(f"canvas.{name}").bounding_box()["width"] >= 300 for name in ("x", "x0"))
    generate(page)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_its_background(page, server, theme):
    open_page(page, f"{server}{QUICK}&__theme={theme}")
    for selector in (".step", ".speed", ".pictures figcaption span", ".plots p"):
        assert page.locator(selector).first.evaluate(CONTRAST) >= 4.5


CONTRAST = """element => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = rgb => rgb.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  let under = element, back = [255, 255, 255];
  for (; under; under = under.parentElement) {
    const colour = parse(getComputedStyle(under).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) { back = colour; break; }
  }
  const [a, b] = [light(parse(getComputedStyle(element).color)), light(back)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05); }"""


def test_every_control_has_a_name(page, server):
    open_page(page, server + QUICK)
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "checkbox", "combobox", "radio", "slider", "spinbutton", "textbox"}
    controls = [node for node in tree if not node["ignored"] and node["role"]["value"] in roles]
    unnamed = [node for node in controls if not node["name"]["value"].strip()]
    assert len(controls) > 25 and unnamed == []
