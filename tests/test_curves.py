"""The schedules lesson: its settings, what it compares, handles and tables, its messages, and its page in a browser."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import asdict, replace
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np
import pytest
import torch
from pages import query, wait
from torch.testing import assert_close

from ddpm.lessons.pictures.run import Run
from ddpm.lessons.plane.run import Plane
from ddpm.lessons.schedules.page import MOST_PASTED, PRESETS, shortened
from ddpm.lessons.schedules.run import HANDLES, NAMES, QUANTITIES, Curves, bendable, compare, table_through
from ddpm.lessons.schedules.screen import pack, start
from ddpm.schedule import alpha_bar, betas, grid
from ddpm.settings import MOST_TEXT, decode_betas, encode_betas

SETTINGS = Curves.allowed({})

OTHER = Curves(model="cifar10", example=25, steps=7, schedule="table", table="0.2 0.5 0.9", c=2.0, seed=3)


# --- the settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curves", [Curves(), OTHER, *(preset.settings for preset in PRESETS.values())])
def test_the_settings_come_back_from_their_link_and_their_json(curves):
    assert Curves.from_query(dict(parse_qsl(urlencode(curves.query())))) == (curves, [])
    assert Curves.from_json(curves.json()) == curves


def test_every_setting_says_what_it_may_be():
    assert asdict(Curves()).keys() == SETTINGS.keys()
    assert all(SETTINGS[name].problem(value) is None for name, value in asdict(Curves()).items())


# --- what is compared -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 7, 250, 1000])
def test_the_quantities_of_every_schedule_are_those_of_its_grid(steps):
    curves = replace(OTHER, steps=steps)
    found = compare(curves)
    assert found.values.shape == (len(NAMES), len(QUANTITIES), min(steps, 199)) and found.steps[-1] == steps
    rows = [t - 1 for t in found.steps]
    for name, values in zip(NAMES, found.values):
        by = dict(zip(QUANTITIES, values))
        levels = grid(curves.curve_of(name), steps)
        assert np.allclose(by["log_snr"], levels[:-1].flip(0)[rows]) and np.allclose(
            by["beta"], betas(levels).flip(0)[rows]
        )
        assert np.allclose(by["alpha_bar"] + by["one_minus_alpha_bar"], 1)
        assert np.allclose(by["sqrt_alpha_bar"] ** 2, by["alpha_bar"])
        assert np.allclose(by["log_snr"], np.log(by["alpha_bar"] / by["one_minus_alpha_bar"]))


def test_the_products_of_one_minus_beta_are_alpha_bar():
    found = compare(Curves(steps=150))
    alpha_bars, beta = (found.values[:, QUANTITIES.index(name)] for name in ("alpha_bar", "beta"))
    assert np.allclose(np.cumprod(1 - beta, 1), alpha_bars, rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 5, 1000])
def test_the_strips_show_one_picture_with_one_noise_at_the_same_times(steps):
    curves = Curves(steps=steps, c=20.0)
    found = compare(curves)
    assert found.pictures.shape == (len(NAMES), min(steps, 8), 1, 28, 28) and found.strip_steps[-1] == steps
    ends = torch.from_numpy(found.pictures[:, -1])
    noise = ends[NAMES.index("cosine")]
    for name, end in zip(NAMES, ends):
        share = float(alpha_bar(grid(curves.curve_of(name), steps)[0]))
        assert (end - noise).abs().max() <= 4 * math.sqrt(share) + 0.02


# --- the visitor's own table ----------------------------------------------------------------------------------------


def test_the_handles_lie_on_the_curve_of_the_table():
    curves = OTHER
    levels = grid(curves.curve, len(curves.handles))
    assert_close(torch.tensor(curves.handles).double(), alpha_bar(levels[:-1].flip(0)), atol=1e-6, rtol=0)
    assert curves.handles == pytest.approx((0.8, 0.4, 0.04))


def test_a_table_through_its_own_handles_is_the_table_again():
    assert decode_betas(table_through(OTHER.handles)) == pytest.approx((0.2, 0.5, 0.9), abs=1e-6)


@pytest.mark.parametrize("schedule", NAMES)
def test_a_schedule_made_bendable_keeps_its_signal_at_every_handle(schedule):
    curves = Curves(schedule=schedule)
    bent = Curves(schedule="table", table=bendable(curves))
    count = len(bent.handles)
    assert count == (HANDLES if schedule != "table" else len(curves.handles))
    assert_close(grid(bent.curve, count)[:-1], grid(curves.curve, count)[:-1], atol=0.05, rtol=0)


def test_a_long_table_has_no_handles_and_becomes_bendable_with_ten():
    long = Curves(schedule="table", table=encode_betas(torch.linspace(1e-4, 0.02, 1000).tolist()))
    assert long.handles == () and len(decode_betas(bendable(long))) == HANDLES


def test_handles_that_do_not_fall_give_a_table_that_is_refused_or_nearly_flat():
    assert min(decode_betas(table_through((0.5, 0.6, 0.1)))) == pytest.approx(1e-6)


def test_a_pasted_table_too_long_for_a_link_is_shortened_and_nothing_else_is_touched():
    papers = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).tolist()
    pasted = str(papers)
    assert len(pasted) > MOST_TEXT
    assert decode_betas(shortened(pasted)) == pytest.approx(papers, rel=2.5e-4)
    for text in ("0.1 0.2", "what? " * MOST_TEXT, "0.1 " * MOST_PASTED):
        assert shortened(text) == text


# --- messages -------------------------------------------------------------------------------------------------------


def test_the_messages_hold_the_curves_the_pictures_and_what_goes_to_other_pages():
    found = compare(OTHER)
    opening = json.loads(start(OTHER, 4, ["A | note."]).split("|", 1)[0])
    assert opening["own"] == {"schedule": "table", "table": "0.2 0.5 0.9"}
    text, payload = pack(found, 4, OTHER).split("|", 1)
    header, data = json.loads(text), base64.b64decode(payload, validate=True)
    count = 4 * found.values.size
    assert np.array_equal(np.frombuffer(data[:count], "<f4").reshape(found.values.shape), found.values.astype("<f4"))
    assert len(data) - count == len(NAMES) * len(header["stripSteps"]) * 3 * 32 * 32
    assert header["left"]["constant"] == pytest.approx(math.exp(-2.0)) and header["handles"] == list(OTHER.handles)


# --- the page -------------------------------------------------------------------------------------------------------

QUICK = "/schedules?steps=40"


def open_page(page, url):
    page.goto(url)
    wait(page, "d.compared && d.plots === 'ready'")
    page.wait_for_function("[...document.querySelectorAll('.plot')].every(p => p.data?.length === 6)")


def in_address(page, name, value):
    page.wait_for_function(f"new URL(location).searchParams.get('{name}') === {json.dumps(value)}")


def test_the_page_shows_five_plots_of_six_schedules_and_a_strip_under_each(page, server):
    open_page(page, server + QUICK)
    names = "() => [...document.querySelectorAll('.plot')].map(p => p.data.map(trace => trace.name))"
    assert page.evaluate(names) == [[*NAMES[:-1], "your own table"]] * len(QUANTITIES)
    assert page.locator(".curve").count() == 6 and page.locator(".curve canvas").count() == 48
    assert "0.67 % signal at t = T" in page.locator(".curve[data-name=constant]").inner_text()
    assert page.locator(".curve[data-chosen=true]").get_attribute("data-name") == "cosine"
    assert page.locator(".katex").count() >= 8


@pytest.mark.parametrize("steps", [1, 40])
def test_the_plots_hold_every_schedule_and_begin_at_the_picture(page, server, steps):
    open_page(page, f"{server}/schedules?steps={steps}&c=3")
    found = compare(Curves(steps=steps, c=3.0))
    drawn = page.evaluate("() => [...document.querySelectorAll('.plot')].map(p => p.data.map(({ x, y }) => [x, y]))")
    clean = {"alpha_bar": 1, "one_minus_alpha_bar": 0, "sqrt_alpha_bar": 1}
    for row, (quantity, traces) in enumerate(zip(QUANTITIES, drawn, strict=True)):
        first = [clean[quantity]] if quantity in clean else []
        for values, (x, y) in zip(found.values[:, row], traces, strict=True):
            assert x == [*(0 for _ in first), *found.steps]
            assert y == pytest.approx([*first, *values], rel=1e-5, abs=1e-6)


def test_a_click_on_a_name_chooses_the_schedule_and_its_parameter(page, server):
    open_page(page, server + QUICK)
    assert not page.locator("#reach").is_visible()
    page.locator(".curve[data-name=sigmoid] button").click()
    wait(page, "d.schedule === 'sigmoid'")
    page.locator("#reach").wait_for(state="visible")
    in_address(page, "schedule", "sigmoid")


def test_a_dragged_handle_bends_the_table_and_the_axes_stay(page, server):
    open_page(page, server + QUICK)
    axes = "() => [...document.querySelectorAll('.plot')].map(p => [...p._fullLayout.xaxis.range, ...p._fullLayout.yaxis.range])"
    before = page.evaluate(axes)
    box = page.locator(".handle").nth(2).bounding_box()
    page.mouse.move(box["x"] + 13, box["y"] + 13)
    page.mouse.down()
    page.mouse.move(box["x"] + 13, box["y"] + 73, steps=6)
    page.mouse.up()
    wait(page, "d.schedule === 'table'")
    # While it is dragged the address may still be behind the box.
    same = page.wait_for_function("""() => {
      const table = new URL(location).searchParams.get("table");
      const typed = document.querySelector("#table input, #table textarea")?.value;
      return typed === table && Math.abs(table?.split(" ")[2] - 0.2) > 0.05 ? table : null; }""")
    table = same.json_value()
    shares = np.cumprod(1 - np.array(decode_betas(table)))
    usual = Curves().handles
    assert shares[2] < usual[2] - 0.05 and shares[[0, 1]] == pytest.approx(usual[:2], abs=1e-4)
    assert page.evaluate(axes) == before


def test_changes_that_are_faster_than_the_answers_are_not_lost(page, server):
    open_page(page, server + QUICK)
    page.locator(".handle").nth(2).evaluate(
        "handle => [1, 2, 3, 4, 5].forEach(() => handle.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowDown' })))"
    )
    lower = Curves().handles[2] - 0.05
    third = "new URL(location).searchParams.get('table')?.split(' ').slice(0, 3).reduce((left, beta) => left * (1 - beta), 1)"
    page.wait_for_function(f"Math.abs({third} - {lower}) < 0.002")
    wait(page, "d.schedule === 'table'")
    assert float(page.locator(".handle").nth(2).get_attribute("aria-valuenow")) == pytest.approx(lower, abs=0.002)


def test_a_handle_moves_by_the_keyboard_and_stays_between_its_neighbours(page, server):
    open_page(page, server + QUICK)
    first, second = (page.locator(".handle").nth(k) for k in (0, 1))
    second.focus()
    second.press("PageUp")
    wait(page, "d.schedule === 'table'")
    page.wait_for_function("!new URL(location).searchParams.get('table').startsWith('0.05 0.1 ')")
    high = float(second.get_attribute("aria-valuenow"))
    assert 0.855 < high <= float(first.get_attribute("aria-valuenow")) == pytest.approx(0.95, abs=1e-3)


def test_the_chosen_curve_becomes_bendable_and_travels_to_every_page(page, server):
    open_page(page, server + QUICK)
    page.locator("#bend").click()
    wait(page, "d.schedule === 'table'")
    page.wait_for_function("document.querySelectorAll('.handle').length === 10")
    links = page.evaluate("() => [...document.querySelectorAll('.links a')].map(a => [a.textContent, a.href])")
    assert [urlsplit(link).path for _, link in links] == ["/", "/colour", "/line", "/plane", "/noising", "/likelihood"]
    given = dict(parse_qsl(urlsplit(links[0][1]).query))
    for kind in (Run, Plane):
        settings, notes = kind.from_query(given)
        assert notes == [] and settings.schedule == "table"
        assert_close(grid(settings.curve, 10), grid(Curves().curve, 10), atol=1e-2, rtol=0)
    page.goto(links[0][1] + "&count=1&steps=4")
    wait(page, "d.state === 'finished'")
    assert query(page)["table"] == given["table"]
    page.locator("#table").wait_for(state="visible")


@pytest.mark.parametrize("text", ["0.1 0.2 2", "hello", "0"])
def test_a_wrong_table_is_refused_in_one_sentence(page, server, text):
    open_page(page, f"{server}{QUICK}&schedule=table")
    box = page.locator("#table input, #table textarea")
    box.fill(text)
    box.press("Enter")
    page.get_by_text("must be 1 to 1,000 numbers").wait_for()
    in_address(page, "table", Curves.table)


def test_the_papers_thousand_betas_may_be_pasted(page, server):
    open_page(page, f"{server}{QUICK}&schedule=table")
    papers = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).tolist()
    box = page.locator("#table input, #table textarea")
    box.fill(str(papers))
    box.press("Enter")
    page.wait_for_function("new URL(location).searchParams.get('table')?.startsWith('~')")
    assert decode_betas(query(page)["table"]) == pytest.approx(papers, rel=2.5e-4)
    page.wait_for_function("document.querySelectorAll('.handle').length === 0")


def test_a_preset_shows_what_it_says(page, server):
    open_page(page, server + QUICK)
    page.get_by_role("button", name="A schedule that never reaches noise").click()
    in_address(page, "c", "1")
    assert query(page) == PRESETS["A schedule that never reaches noise"].settings.query()
    page.get_by_text("37 % of the signal is left at t = T").wait_for()
    assert "37 % signal" in page.locator(".curve[data-name=constant]").inner_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(page, server, theme):
    page.set_viewport_size({"width": 390, "height": 844})
    open_page(page, f"{server}{QUICK}&__theme={theme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for selector in (".plot.alpha_bar", ".plot.log_snr", ".curve[data-name=table]"):
        box = page.locator(selector).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
