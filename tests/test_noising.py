"""The noising lesson: its settings, the agreement of chain and closed form, its messages, and its page in a browser."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlencode

import numpy as np
import pytest
import torch
from pages import query, wait
from PIL import Image
from playwright.sync_api import expect
from torch.testing import assert_close

from ddpm.checkpoint import load_network
from ddpm.lessons.noising.page import PRESETS, take
from ddpm.lessons.noising.run import (
    BINS,
    DRAWN,
    EDGE,
    UPLOADED,
    WAYS,
    Noising,
    factors,
    look,
    measure,
    moment,
    noised,
    strip,
)
from ddpm.lessons.noising.screen import errors, pack, start
from ddpm.lessons.shown import strip_steps
from ddpm.picture import DRAWING, UPLOAD, encode
from ddpm.process import seeded
from ddpm.schedule import grid
from ddpm.serving.engine import Forward
from ddpm.settings import SCHEDULE

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
SKETCH = encode(torch.randint(256, DRAWING, generator=seeded(1)).to(torch.uint8), 4)
PHOTO = encode(torch.randint(256, UPLOAD, generator=seeded(2)).to(torch.uint8), 8)
SETTINGS = [
    Noising(),
    Noising(model="cifar10", example=39, way="chain", t=7, steps=7, schedule="table", table="0.1 0.9", seed=5),
    Noising(picture=DRAWN, drawing=SKETCH, way="mix-uniform", t=1),
]


def finished(job):
    """All that ``job`` yields but None, its questions answered by the network that it asks."""
    found, answer = [], None
    while True:
        try:
            said = job.send(answer)
        except StopIteration:
            return found
        answer = said.network(*said[1:]) if isinstance(said, Forward) else None
        if answer is None and said is not None:
            found.append(said)


class Knowing(torch.nn.Module):
    """Answers the v of a clean picture that it knows, from x at the log-SNR that it is told."""

    config = SimpleNamespace(shape=(1, 28, 28), num_classes=10, prediction="v")

    def __init__(self, x0):
        super().__init__()
        self.x0 = x0

    def forward(self, x, log_snr, label):
        assert label.tolist() == [10]
        return (log_snr.sigmoid().sqrt() * x - self.x0) / (-log_snr).sigmoid().sqrt()


# --- the settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noising", SETTINGS, ids=range(len(SETTINGS)))
def test_the_settings_come_back_from_their_link_and_their_json(noising):
    assert Noising.from_query(dict(parse_qsl(urlencode(noising.query())))) == (noising, [])
    assert Noising.from_json(noising.json()) == noising


def test_every_setting_says_what_it_may_be():
    assert asdict(Noising()).keys() == Noising.allowed({}).keys()


@pytest.mark.parametrize("value", ["1e999", "", "nan", None, 2.5, [], "~"], ids=repr)
def test_a_link_gives_settings_whatever_it_holds(value):
    noising, _ = Noising.from_query(dict.fromkeys(Noising.allowed({}), value))
    assert Noising.from_query(noising.query()) == (noising, [])


def test_a_step_beyond_the_last_is_refused_and_in_a_link_becomes_the_last():
    with pytest.raises(ValueError, match="The t is 11; it must be a whole number from 1 to 10"):
        Noising(t=11, steps=10)
    noising, notes = Noising.from_query({"t": "11", "steps": "10"})
    assert (noising.t, noising.steps, len(notes)) == (10, 10, 1)


@pytest.mark.parametrize(("steps", "t"), [(1, 1), (2, 1), (10, 3), (1000, 300)])
def test_a_link_without_a_step_stands_at_the_usual_share_of_its_steps(steps, t):
    assert Noising.from_query({"steps": str(steps)}) == (Noising(steps=steps, t=t), [])


def test_a_step_that_is_no_number_becomes_one_that_there_is():
    noising, notes = Noising.from_query({"steps": "0", "t": "abc"})
    assert (noising.steps, noising.t) == (1, 1)
    assert notes == [
        "t = abc: it must be a whole number from 1 to 1, so 1 is used.",
        "steps = 0: it must be a whole number from 1 to 1000, so 1 is used.",
    ]


def test_an_uploaded_picture_stays_out_of_the_link_and_the_page_says_so():
    mine = Noising(picture=UPLOADED, upload=PHOTO)
    assert PHOTO not in urlencode(mine.query())
    noising, notes = Noising.from_query(mine.query())
    assert noising == Noising() and "upload it again" in notes[0]
    assert Noising.from_query({**mine.query(), "upload": PHOTO}) == (mine, [])
    chosen, notes = Noising.from_query({**mine.query(), "upload": ""})  # as the page says it before there is a file
    assert chosen == Noising() and notes == [
        "No picture is uploaded yet, so an example stands here: choose one with “Upload a picture”."
    ]
    broken, notes = Noising.from_query({**mine.query(), "upload": "me.png"})
    assert broken == Noising() and "upload it again" in notes[-1]
    with pytest.raises(ValueError, match="there is no upload"):
        Noising(picture=UPLOADED)


def test_a_class_may_upload_the_same_file(tmp_path):
    path = str(tmp_path / "same.png")  # Gradio names an upload by its content
    Image.new("L", (40, 40), 90).save(path)
    assert asyncio.run(take(path)) == asyncio.run(take(path))


def test_an_upload_bright_at_its_edge_is_inverted_for_digits_alone():
    paper = torch.full(UPLOAD, 255, dtype=torch.uint8)
    paper[:, 10:20, 10:20] = 0
    mine = Noising(picture=UPLOADED, upload=encode(paper, 8))
    assert mine.inverted and mine.x0[0, 0, 0] == -1 and mine.x0[0, 14, 14] == 1
    assert not replace(mine, model="cifar10").inverted and replace(mine, model="cifar10").x0[0, 0, 0] == 1
    assert not Noising(picture=UPLOADED, upload=encode(255 - paper, 8)).inverted


# --- the ways -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULE["schedule"].options)
@pytest.mark.parametrize("steps", [5, 60])
def test_chain_and_closed_form_have_the_mean_and_the_variance_of_the_formula(schedule, steps):
    (measured,) = finished(measure(Noising(schedule=schedule, steps=steps, t=1)))
    for found, error, true in zip((measured.factor, measured.variance), measured.errors, measured.true):
        off = (found - true) / error
        assert np.abs(off).max() < 5
        for way in range(
            len(WAYS)
        ):  # as often off by one standard error as chance has it, though a chain's steps hang together
            assert np.sqrt(np.square(off[way]).mean()) < 3


@pytest.mark.parametrize("schedule", SCHEDULE["schedule"].options)
def test_noising_keeps_the_variance_and_mixing_does_not(schedule):
    noising = Noising(schedule=schedule, steps=100, t=1)
    power = {way: torch.stack(factors(noising, way)).square().sum(0) for way in WAYS}
    for way in ("jump", "chain"):
        assert_close(power[way], torch.ones(100, dtype=torch.float64))
    assert power["mix"].min() == 0.5 and power["mix"].argmin() == 49 and power["mix"][-1] == 1
    assert_close(power["mix-uniform"][[74, 99]], torch.tensor([1 / 4, 1 / 3], dtype=torch.float64))


@pytest.mark.parametrize("way", WAYS)
def test_moving_t_by_a_step_changes_the_picture_by_little(way):
    states = noised(Noising(way=way, schedule="cosine"), range(1, 1001))
    step, whole = (
        (states[1:] - states[:-1]).square().mean((1, 2, 3)).sqrt(),
        (states[-1] - states[0]).square().mean().sqrt(),
    )
    assert states.shape == (1000, 1, 28, 28) and whole > 0.5
    assert step[:-30].max() < 0.3 and step.median() < 0.1


@pytest.mark.parametrize("way", WAYS)
def test_the_same_seed_gives_the_same_noise_and_another_seed_another(way):
    noising = Noising(way=way, steps=20, t=1)
    assert torch.equal(noised(noising, (12,)), noised(noising, (12,)))
    assert not torch.equal(noised(noising, (12,)), noised(replace(noising, seed=1), (12,)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("t", [1, 15, 30])
def test_a_moment_is_made_of_its_parts_and_what_the_network_answers(way, t):
    noising = Noising(way=way, t=t, steps=30, schedule="cosine")
    (found,) = finished(moment(noising, Knowing(noising.x0)))
    assert_close(found.signal * found.x0 + found.std * found.noise, found.x, atol=1e-5, rtol=0)
    assert found.log_snr == pytest.approx(2 * math.log(found.signal / found.std) if found.signal else -math.inf)
    if way in ("jump", "chain"):  # where the picture is as dark as the network expects
        assert_close(found.predicted_x0, found.x0, atol=2e-3, rtol=0)
        assert_close(found.predicted_noise, found.noise, atol=2e-3, rtol=2e-3)
    assert found.histogram.shape == (BINS,)
    assert found.histogram.sum() * 2 * EDGE / BINS == pytest.approx(1, abs=0.01)


def test_at_the_last_step_the_pixels_are_distributed_as_pure_noise():
    noising = Noising(model="cifar10", t=1000)
    x = noised(noising, (1000,)).flatten().sort().values
    expected = torch.distributions.Normal(0, 1).cdf(x)
    observed = (torch.arange(len(x)) + 0.5) / len(x)
    assert (expected - observed).abs().max() < 1.63 / math.sqrt(len(x))  # Kolmogorov and Smirnov's test at 1 %


@pytest.mark.parametrize("steps", [1, 5, 8, 100, 999])
def test_the_strip_shows_eight_levels_and_ends_at_the_last_step(steps):
    found = strip(Noising(steps=steps, t=1))
    assert len(found.steps) == len(found.x) == len(found.log_snrs) == min(steps, 8) and found.steps[-1] == steps
    assert list(found.log_snrs) == sorted(found.log_snrs, reverse=True)


def test_a_look_gives_the_strip_the_moment_and_what_is_measured():
    noising = Noising(steps=12, t=3)
    kinds = [type(found).__name__ for found in finished(look(noising, Knowing(noising.x0)))]
    assert kinds == ["Strip", "Moment", "Measured"]


# --- messages -------------------------------------------------------------------------------------------------------


def parts(message):
    header, payload = message.split("|", 1)
    return json.loads(header), base64.b64decode(payload, validate=True)


def test_the_messages_hold_the_pictures_and_not_the_upload():
    noising = Noising(picture=UPLOADED, upload=PHOTO, steps=12, t=12, way="mix")
    assert PHOTO not in start(noising, 3, ["A | note."], True)
    found_strip, found, found_measured = finished(look(noising, Knowing(noising.x0)))
    header, payload = parts(pack(found, 3))
    assert (header["t"], header["logSnr"], header["alphaBar"]) == (12, None, 0.0)
    assert np.array_equal(np.frombuffer(payload[: 4 * BINS], "<f4"), found.histogram.astype("<f4"))
    pictures = np.frombuffer(payload[4 * BINS :], np.uint8).reshape(5, 28, 28)
    assert np.abs(pictures[0] / 127.5 - 1 - found.x0[0]).max() <= 1 / 255 + 1e-6
    header, payload = parts(pack(found_strip, 3))
    assert len(payload) == len(header["steps"]) * 28 * 28
    header, payload = parts(pack(found_measured, 3))
    values = np.frombuffer(payload, "<f4").reshape(6, len(WAYS), len(header["steps"]))
    assert_close(values[0], found_measured.factor.astype("<f4"))


def test_every_preset_is_shown_as_it_says():
    for preset in PRESETS.values():
        assert Noising.from_query(preset.settings.query()) == (preset.settings, [])


# --- the page -------------------------------------------------------------------------------------------------------

QUICK = "/noising?steps=40&t=12"
STRIP = """() => [...document.querySelectorAll('.strip canvas')].map(c =>
  [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 === 0))"""
INK = "name => { const c = document.querySelector(`canvas.${name}`); return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 === 0); }"


def ready(page, condition="true"):
    wait(page, f"d.measured && d.plots === 'ready' && {condition}")


def open_page(page, url):
    page.goto(url)
    ready(page)


def red(page, name):
    return np.array(page.evaluate(INK, name))


def test_the_page_shows_the_five_pictures_the_strip_and_the_numbers(page, server):
    open_page(page, server + QUICK)
    noising = Noising(steps=40, t=12)
    (found,) = finished(moment(noising, load_network(CHECKPOINTS / "mnist.safetensors").network))
    expected = {
        "x0": found.x0,
        "noise": found.noise / 3,
        "x": found.x,
        "noise-hat": found.predicted_noise / 3,
        "x0-hat": found.predicted_x0,
    }
    for name, values in expected.items():
        assert np.abs(red(page, name) - 127.5 * (values.flatten().clip(-1, 1) + 1)).max() <= 1, name
    strips = page.evaluate(STRIP)
    assert len(strips) == page.locator(".strip button").count() == 8
    for reds, x in zip(strips, noised(noising, strip_steps(40)), strict=True):
        assert np.abs(np.array(reds) - 127.5 * (x.flatten().clamp(-1, 1).numpy() + 1)).max() <= 1
    assert page.locator(".step").inner_text() == "step t = 12 of 40"
    assert page.locator(".numbers tbody tr").count() == len(WAYS) and "±" in page.locator(".numbers").inner_text()
    assert page.locator(".katex").count() >= 4


def test_the_plots_hold_the_formulas_and_what_was_measured(page, server):
    open_page(page, server + QUICK)
    noising = Noising(steps=40, t=12)
    (measured,) = [found for found in measure(noising) if found is not None]
    rows = {t: row for row, t in enumerate(measured.steps)}
    jump, chain = WAYS.index("jump"), WAYS.index("chain")
    signal, std = (values.numpy() for values in factors(noising, "jump"))
    expected = {
        "factor √ᾱ, formula": signal[[t - 1 for t in measured.steps]],
        "variance 1 − ᾱ, formula": std[[t - 1 for t in measured.steps]] ** 2,
        "factor, chain": measured.factor[chain],
        "factor, jump": measured.factor[jump],
        "variance, chain": measured.variance[chain],
        "variance, jump": measured.variance[jump],
    }
    drawn = page.evaluate("() => document.querySelector('.agreement').data.map(({ name, x, y }) => [name, x, y])")
    assert [name for name, _, _ in drawn] == list(expected)
    for name, x, y in drawn:
        assert len(x) >= 20 and x[-1] == 40
        assert np.abs(np.array(y) - expected[name][[rows[t] for t in x]]).max() < 1e-5, name


def test_moving_t_by_the_keyboard_changes_the_picture_and_the_address_but_no_axis(page, server):
    open_page(page, server + QUICK)
    axes = "() => [...document.querySelectorAll('.plot')].map(p => [...p._fullLayout.xaxis.range, ...p._fullLayout.yaxis.range])"
    before, ranges = red(page, "x"), page.evaluate(axes)
    slider = page.locator("#t input[type=range]")
    slider.focus()
    slider.press("ArrowRight")
    wait(page, "d.t === '13'")
    assert (red(page, "x") != before).any() and page.evaluate(axes) == ranges
    page.wait_for_function("new URL(location).searchParams.get('t') === '13'")


def test_a_click_in_the_strip_goes_there(page, server):
    open_page(page, server + QUICK)
    page.locator(".strip button").nth(3).click()
    wait(page, "d.t === '20'")
    page.wait_for_function("document.querySelector('#t input[type=number]').value === '20'")
    assert page.locator(".strip button").nth(3).get_attribute("aria-pressed") == "true"


def test_what_is_measured_goes_on_while_t_moves(page, server):
    page.goto(f"{server}/noising?t=5")
    wait(page, "d.moment")
    slider = page.locator("#t input[type=range]")
    slider.focus()
    slider.press("ArrowRight")
    ready(page, "d.t === '6'")


def test_another_example_is_chosen_by_the_keyboard_and_another_network_by_a_click(page, server):
    open_page(page, server + QUICK)
    first = page.locator(".picker [aria-checked=true]")
    assert first.get_attribute("aria-label") == "3, example 1"
    first.press("ArrowRight")
    page.wait_for_function("new URL(location).searchParams.get('example') === '4'")
    assert page.locator(".picker [aria-checked=true]").get_attribute("aria-label") == "4, example 1"
    before = page.evaluate("document.querySelector('.player').dataset.measured")
    page.get_by_role("radio", name="colour pictures").check()
    ready(page, f"d.measured !== '{before}'")
    assert len(red(page, "x")) == 32 * 32
    page.wait_for_function("document.querySelector('.picker [aria-checked=true]').ariaLabel === 'deer, example 1'")


def test_a_digit_is_drawn_and_travels_in_the_link(page, context, server):
    open_page(page, server + QUICK)
    page.get_by_role("radio", name="drawn by you").check()
    page.get_by_text("Nothing is drawn yet").wait_for()
    box = page.locator("#drawing canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 0.8 * box["height"], steps=5)
    page.mouse.up()
    page.wait_for_function("new URL(location).searchParams.get('drawing')?.length === 523")
    drawn = red(page, "x0").reshape(28, 28)
    assert drawn[7:21, 13:15].min() > 200 and drawn[:, :9].max() == 0 and drawn[:, 19:].max() == 0
    other = context.new_page()
    open_page(other, page.url)
    assert np.array_equal(red(other, "x0").reshape(28, 28), drawn)
    page.locator("#drawing .undo").click()
    page.get_by_text("Nothing is drawn yet").wait_for()


def test_a_digit_is_drawn_with_the_keyboard(page, server):
    open_page(page, server + QUICK)
    page.get_by_role("radio", name="drawn by you").check()
    page.locator("#drawing canvas").focus()
    for key in ["ArrowUp"] * 7 + ["Space"] + ["ArrowDown"] * 14 + ["Space"] + ["ArrowRight"] * 9:
        page.keyboard.press(key)
    page.wait_for_function("new URL(location).searchParams.get('drawing')?.length === 523")
    drawn = red(page, "x0").reshape(28, 28)
    assert drawn[8:20, 13:15].min() > 200 and drawn[:, :9].max() == 0 and drawn[:, 19:].max() == 0
    page.locator("#drawing .undo").click()
    page.get_by_text("Nothing is drawn yet").wait_for()


def upload(page, path):
    page.locator("input[type=file][accept='image/*']").set_input_files(path)


def test_the_examples_come_back_after_a_drawing(page, server):
    page.goto(server + "/noising?steps=20&t=7")
    wait(page, "d.measured")
    page.get_by_role("radio", name="drawn by you").check()
    page.locator("#drawer").wait_for()
    page.locator(".picker").wait_for(state="hidden")
    page.get_by_role("radio", name="an example").check()
    page.locator("#drawer").wait_for(state="hidden")
    page.get_by_role("radio", name="5, example 1").click()
    wait(page, "d.moment")
    page.wait_for_url("**picture=example&example=5&**")


def test_who_chooses_their_own_picture_before_they_have_one_is_told_how_to_bring_it(page, server):
    open_page(page, f"{server}{QUICK}")
    page.get_by_role("radio", name="uploaded by you").check()
    page.get_by_text("No picture is uploaded yet").wait_for()
    assert not page.get_by_text("upload it again").count()


def test_an_uploaded_picture_is_shown_cropped_and_kept_out_of_the_link(page, server, tmp_path):
    open_page(page, f"{server}{QUICK}&model=cifar10")
    image = Image.new("RGB", (300, 100), "red")
    image.paste("blue", (200, 0, 300, 100))
    image.save(tmp_path / "mine.png")
    upload(page, tmp_path / "mine.png")
    page.wait_for_function("new URL(location).searchParams.get('picture') === 'uploaded'")
    ready(page, "d.measured === d.strip")
    assert (red(page, "x0") == 255).all()
    assert "upload" not in query(page)
    page.reload()
    page.get_by_text("upload it again").wait_for()


@pytest.mark.parametrize("content", [b"no picture", b"", bytes(11 * 2**20)], ids=["text", "empty", "huge"])
def test_a_wrong_upload_is_refused_in_one_sentence_and_the_page_goes_on(page, server, tmp_path, content):
    open_page(page, server + QUICK)
    (tmp_path / "mine.png").write_bytes(content)
    upload(page, tmp_path / "mine.png")
    said = page.locator(".toast-body, [data-testid=toast-body]").first
    said.wait_for()
    assert "cannot be read as a picture" in said.inner_text() or "10 MB" in said.inner_text()
    assert query(page)["picture"] == "example"
    page.locator(".strip button").nth(3).click()
    wait(page, "d.t === '20'")


def test_a_number_that_is_typed_counts_at_enter_and_ends_where_the_slider_does(page, server):
    open_page(page, server + QUICK)
    before, box = (
        page.evaluate("document.querySelector('.player').dataset.measured"),
        page.locator("#steps input[type=number]"),
    )
    box.fill("30")
    box.press("Enter")
    ready(page, f"d.measured !== '{before}'")
    box.fill("5000")
    assert box.input_value() == "1000"
    box.press("Enter")
    page.wait_for_function("new URL(location).searchParams.get('steps') === '1000'")
    assert page.get_by_text("greater than maximum").count() == 0


def test_a_single_step_leaves_no_t_to_choose_and_more_of_them_do_again(page, server):
    open_page(page, f"{server}/noising?steps=1")
    t, steps = page.locator("#t input[type=range]"), page.locator("#steps input[type=number]")
    expect(t).to_be_disabled()
    assert (t.input_value(), steps.input_value()) == ("1", "1")
    steps.fill("40")
    steps.press("Enter")
    expect(t).to_be_enabled()
    expect(t).to_have_attribute("max", "40")


def test_fewer_steps_take_t_along(page, server):
    open_page(page, f"{server}/noising?steps=40&t=30")
    box = page.locator("#steps input[type=number]")
    box.fill("10")
    box.press("Tab")
    page.locator("#steps input[type=range]").dispatch_event("pointerup")
    ready(page, "d.t === '10'")
    assert page.locator(".step").inner_text() == "step t = 10 of 10" and page.locator(".notes").is_hidden()


def test_a_preset_shows_what_it_says(page, server):
    open_page(page, server + QUICK)
    before = page.evaluate("document.querySelector('.player').dataset.measured")
    page.get_by_role("button", name="What is wrong with mixing?").click()
    ready(page, f"d.measured !== '{before}' && d.t === '500'")
    page.wait_for_function("new URL(location).searchParams.get('way') === 'mix-uniform'")
    preset = PRESETS["What is wrong with mixing?"].settings.query()
    assert query(page) == {name: value for name, value in preset.items() if value}
    page.get_by_text("too narrow for the bell curve").wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(page, server, theme):
    page.set_viewport_size({"width": 390, "height": 844})
    open_page(page, f"{server}{QUICK}&__theme={theme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for selector in (".plot.histogram", ".plot.power", "canvas.x", ".picker", ".numbers"):
        box = page.locator(selector).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390


def test_two_visitors_see_their_own_uploads(page, context, server, tmp_path):
    other = context.new_page()
    for one, colour in ((page, "white"), (other, "black")):
        open_page(one, f"{server}{QUICK}&model=cifar10")
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{colour}.png")
        upload(one, tmp_path / f"{colour}.png")
        one.wait_for_function("new URL(location).searchParams.get('picture') === 'uploaded'")
    for one, value in ((page, 255), (other, 0)):
        slider = one.locator("#t input[type=range]")
        slider.focus()
        slider.press("ArrowRight")
        wait(one, "d.t === '13'")
        assert (red(one, "x0") == value).all()


@pytest.mark.parametrize("way", ["mix", "mix-uniform"])
def test_a_mix_is_asked_about_at_the_variance_that_the_network_knows(way):
    """The root mean square error of x̂₀ half-way is that of a jump to the same ratio of signal to noise, give or take."""
    network = load_network(CHECKPOINTS / "mnist.safetensors").network

    def error(noising):
        work = moment(noising, network)
        asked = next(work)
        assert asked.x.square().mean() == pytest.approx(1, abs=0.35)
        with torch.inference_mode():
            found = work.send(asked.network(asked.x, asked.log_snr.float(), asked.label))
        return found.log_snr, errors(found)["x0"]

    log_snr, of_mix = error(Noising(way=way, t=500))
    steps = torch.arange(1, 1001)
    nearest = int(steps[(grid(Noising().curve, 1000)[:-1].flip(0) - log_snr).abs().argmin()])
    _, of_jump = error(Noising(t=nearest))
    assert of_mix < 1.5 * of_jump + 0.02


def test_where_all_is_noise_no_error_of_it_is_told():
    network = load_network(CHECKPOINTS / "mnist.safetensors").network
    work = moment(Noising(way="mix", t=1000), network)
    asked = next(work)
    with torch.inference_mode():
        found = work.send(asked.network(asked.x, asked.log_snr.float(), asked.label))
    assert errors(found)["noise"] is None and errors(found)["x0"] > 0.3
