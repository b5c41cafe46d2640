"""The plane's player: its messages, and the page in a real browser."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from pages import INK, TRACES, finish, open_page, query, read_in, script, scrub, state, wait
from test_plane import TRIANGLE

from ddpm.checkpoint import load_network
from ddpm.lessons.plane import screen as player
from ddpm.lessons.plane.page import EXPERIMENTS
from ddpm.lessons.plane.run import Plane, frames
from ddpm.lessons.points import AXIS, DRAWN, FIELD, FIELD_AXIS, decode_points, sketch
from ddpm.page.components import shared
from ddpm.process import noise_from_x0, posterior, score_from_x0
from ddpm.serving.engine import QueuePosition

QUICK = "/plane?count=200&steps=12&seed=3"
SCRIPT = script(player, "shared.js", "clock.js", "save.js", "drawing.js")
NAMES = "() => document.querySelector('.world').data.map(trace => trace.name)"
RANGE = "() => document.querySelector('.world')._fullLayout.xaxis.range"
LAYER = ".layers [name={}]"


# --- messages -------------------------------------------------------------------------------------------------------


def parts(message):
    header, payload = message.split("|", 1)
    return json.loads(header), base64.b64decode(payload, validate=True)


@pytest.fixture(scope="module")
def sent():
    """The messages of a run with a drawing, and the frames that they were made of."""
    plane = Plane(data=DRAWN, points=TRIANGLE, count=100, steps=3)
    made = [frame for frame in frames(plane, None) if frame is not None]
    start = player.start(plane, 7, ["A | note."], True, sketch(plane).numpy(), False)
    return plane, parts(start), made, [parts(player.frame(frame, 7)) for frame in made]


def test_the_start_tells_the_run_and_its_data(sent):
    plane, (header, payload), _, _ = sent
    assert (header["run"], header["query"], header["notes"]) == (asdict(plane), plane.query(), ["A | note."])
    assert (header["frames"], header["particles"], header["learned"]) == (4, 100, False)
    points = np.frombuffer(payload, "<i2").reshape(-1, 2) / player.SCALE
    assert np.abs(points - decode_points(TRIANGLE).numpy()).max() <= 1 / player.SCALE


def test_a_frame_decodes_to_particles_field_and_density(sent):
    _, _, made, messages = sent
    for frame, (header, payload) in zip(made, messages, strict=True):
        x, field, cells = payload[:400], payload[400:3600], payload[3600:]
        assert np.abs(np.frombuffer(x, "<i2").reshape(-1, 2) / player.SCALE - frame.x).max() <= 1 / player.SCALE
        assert np.array_equal(np.frombuffer(field, "<f4").reshape(-1, 2), frame.exact)
        density = np.frombuffer(cells, np.uint8).reshape(100, 100) / 255 * header["peak"]
        assert np.abs(density - frame.density).max() <= header["peak"] / 500
        assert (header["index"], header["distance"], header["floor"]) == (frame.index, frame.distance, frame.floor)
    assert messages[-1][0]["logSnr"] is None


def read_by_script(name):
    return read_in(SCRIPT, name)


def test_the_headers_hold_all_that_the_script_reads(sent):
    _, (start, _), _, messages = sent
    decoded = {"x", "learned", "exact", "density"}
    assert read_by_script("run") <= start.keys()
    assert read_by_script("run.run") <= start["run"].keys()
    assert read_by_script("frame") <= messages[0][0].keys() | decoded
    others = shared.end(0), shared.waiting(QueuePosition(1, 2.0), 0)
    assert read_by_script("header") <= start.keys() | messages[0][0].keys() | {k for m in others for k in parts(m)[0]}


def test_the_player_is_set_up_with_the_axes_of_the_field_and_the_density():
    setup = json.loads(player.player().props["setup"])
    assert read_by_script("setup") == setup.keys()
    assert (setup["axis"], setup["fieldAxis"]) == (AXIS.tolist(), FIELD_AXIS.tolist())


# --- the page -------------------------------------------------------------------------------------------------------


def at_rest(page):
    """Until the step shown stands in the plots as Plotly traces."""
    wait(page, "d.resting === 'true'")


def choose(page, name, value):
    page.locator(LAYER.format(name)).select_option(value)


def set_data(page, name):
    """Chooses the data and waits until its field stands."""
    job = state(page)["job"]
    page.locator("#data input").click()
    page.get_by_role("option", name=name).click()
    wait(page, f"d.job !== '{job}' && d.state === 'finished' && d.resting === 'true'")


def test_the_lesson_runs_by_itself_and_ends_near_the_data(page, server):
    assert open_page(page, server + QUICK)["frames"] == "13"
    at_rest(page)
    assert page.evaluate(NAMES) == ["data", "learned", "particles"]
    x, y = page.evaluate("(({x, y}) => [x, y])(document.querySelector('.world').data.at(-1))")
    assert len(x) == len(y) == 200 and max(map(abs, x + y)) < 1.5


def test_layers_switch_while_the_run_goes_on_and_stay(page, server):
    page.goto(f"{server}/plane?count=5000&steps=1000")
    wait(page, "d.state === 'computing' && Number(d.frames) > 2")
    page.locator(LAYER.format("density")).check()
    choose(page, "of", "difference")
    choose(page, "contours", "both")
    assert state(page)["state"] == "computing"
    page.locator(".caption", has_text="Learned − exact").wait_for()
    page.locator("#stop").click()
    finish(page)
    at_rest(page)
    assert page.evaluate(NAMES) == [
        *("pₜ", "difference", "data", "contours: density", "contours: particles", "exact", "learned", "particles")
    ]
    assert query(page)["show_of"] == "difference" and query(page)["show_density"] == "1"


def test_the_layers_come_back_from_the_address(page, server):
    open_page(page, f"{server}{QUICK}&show_data=0&show_arrows=none&show_density=1&show_trails=all")
    at_rest(page)
    assert page.evaluate(NAMES) == ["pₜ", "particles"]
    assert page.evaluate(INK, "world") > 0  # the trails of all stay on the canvas


@pytest.mark.parametrize("arrows", ["noise", "score", "pull", "velocity"])
def test_the_caption_says_which_formula_the_arrows_are(page, server, arrows):
    open_page(page, f"{server}{QUICK}&show_arrows={arrows}&show_of=both")
    scrub(page, 6)
    formulas = {"noise": "−ε̂ =", "score": "∇ log pt(x) =", "pull": "x̂₀ − x:", "velocity": "dx/dλ ="}
    page.locator(".caption", has_text=formulas[arrows]).wait_for()
    share = page.locator(".caption b").last.inner_text()
    assert 0 < float(share.removesuffix(" %")) < 40  # the learned arrows are near the exact ones


FIELDS = {
    "noise": lambda x, x0, log_snr: -noise_from_x0(x, x0, log_snr),
    "score": score_from_x0,
    "pull": lambda x, x0, log_snr: x0 - x,
    "velocity": lambda x, x0, log_snr: (posterior(x, x0, log_snr, log_snr + 1e-4, eta=0)[0] - x) / 1e-4,
}


@pytest.mark.parametrize("arrows", FIELDS)
def test_the_arrows_are_the_fields_of_the_network_and_of_the_formula(page, server, arrows):
    open_page(page, f"{server}{QUICK}&show_arrows={arrows}&show_of=both")
    scrub(page, 6)
    at_rest(page)
    page.wait_for_function("document.querySelector('.player').dataset.position === '6'")
    drawn = page.evaluate(
        "() => Object.fromEntries(document.querySelector('.world').data.map(t => [t.name, [t.x, t.y]]))"
    )
    network = load_network(Path(__file__).parents[1] / "checkpoints" / "moons.safetensors").network
    frame = [one for one in frames(Plane(count=200, steps=12, seed=3), network) if one is not None][6]
    fields = {
        source: FIELDS[arrows](FIELD.double(), torch.from_numpy(x0).double(), torch.tensor(frame.log_snr).double())
        for source, x0 in (("exact", frame.exact), ("learned", frame.learned))
    }
    longest = np.sort(np.linalg.norm(fields["exact"], axis=1))[380]
    for source, field in ((source, field.numpy()) for source, field in fields.items()):
        ends = np.array(drawn[source], float).reshape(2, 400, 3, 3)[:, :, 0, :2]  # of an arrow's three lines the first
        size = np.linalg.norm(field, axis=1, keepdims=True)
        way = 0.95 * (FIELD_AXIS[1] - FIELD_AXIS[0]).item() * np.sqrt(np.minimum(size / longest, 1)) * field / size
        assert np.abs(ends.mean(2).T - FIELD.numpy()).max() < 1e-5
        assert np.abs((ends[:, :, 1] - ends[:, :, 0]).T - way).max() < 2e-3


def test_the_particles_and_the_density_are_those_of_the_run(page, server):
    open_page(page, f"{server}{QUICK}&show_density=1&denoiser=exact")
    scrub(page, 6)
    at_rest(page)
    page.wait_for_function("document.querySelector('.player').dataset.position === '6'")
    frame = [one for one in frames(Plane(count=200, steps=12, seed=3, denoiser="exact"), None) if one is not None][6]
    x, y, z = page.evaluate(
        "() => (({ data }) => [data.at(-1).x, data.at(-1).y, data[0].z])(document.querySelector('.world'))"
    )
    assert np.abs(np.stack([x, y], 1) - frame.x).max() < 1e-3
    assert np.abs(np.square(z) - frame.density).max() <= frame.density.max() / 500


def test_the_keyboard_steps_and_plays(page, server):
    open_page(page, server + QUICK)
    player = page.locator(".player")
    player.press("ArrowLeft")
    player.press("ArrowLeft")
    wait(page, "d.position === '10'")
    player.press("ArrowRight")
    wait(page, "d.position === '11'")
    scrub(page, 0)
    wait(page, "d.position === '0'")
    player.press("Space")
    finish(page)


def test_zoom_survives_a_run_and_the_axes_do_not_jump(page, server):
    open_page(page, server + QUICK)
    page.evaluate("Plotly.relayout(document.querySelector('.world'), {'xaxis.range': [-1, 1], 'yaxis.range': [-1, 1]})")
    before, job = page.evaluate(RANGE), state(page)["job"]
    page.locator("#generate").click()
    wait(page, f"d.job !== '{job}' && Number(d.position) > 2")
    assert page.evaluate(RANGE) == before
    finish(page)
    assert page.evaluate(RANGE) == before


def test_a_clicked_particle_gets_its_trail(page, server):
    open_page(page, server + QUICK)
    at_rest(page)
    page.evaluate("document.querySelector('.world').scrollIntoView()")
    place = page.evaluate("""() => { const div = document.querySelector('.world'), { xaxis, yaxis } = div._fullLayout;
      const { x, y } = div.data.at(-1), box = div.getBoundingClientRect();
      return [box.left + xaxis._offset + xaxis.l2p(x[5]), box.top + yaxis._offset + yaxis.l2p(y[5])]; }""")
    page.mouse.click(*place)
    wait(page, "d.followed === '1' && d.resting === 'true'")
    assert any(name.startswith("particle ") for name in page.evaluate(NAMES))


@pytest.mark.parametrize("direction", ["chain", "jump"])
def test_the_forward_process_goes_from_data_to_noise(page, server, direction):
    open_page(page, f"{server}{QUICK}&direction={direction}")
    assert page.locator(".step").inner_text() == "step t = 12 of 12"
    assert page.locator(".from").inner_text() == "data" and page.locator(".to").inner_text() == "noise"


def test_choosing_other_data_shows_its_field_at_once_and_generate_its_particles(page, server):
    open_page(page, server + QUICK)
    scrub(page, 5)
    set_data(page, "spiral")
    assert state(page)["position"] == "5"
    assert page.evaluate(NAMES) == ["data", "learned"]
    page.locator("#generate").click()
    finish(page)
    assert query(page)["data"] == "spiral" and page.evaluate(NAMES)[-1] == "particles"


def test_moving_t_after_that_needs_no_server(page, server):
    open_page(page, server + QUICK)
    set_data(page, "circles")
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    scrub(page, 2)
    page.locator(".step", has_text="step t = 10 of 12").wait_for()
    assert not [url for url in requests if "join" in url]


def test_a_schedule_shows_its_own_parameter(page, server):
    open_page(page, f"{server}{QUICK}&schedule=polynomial&p=3")
    page.locator("#p").wait_for()
    assert page.locator("#s").count() == 0
    assert page.locator("#p input").first.input_value() == "3"


def test_the_quality_curve_falls_towards_that_of_fresh_data(page, server):
    open_page(page, server + QUICK)
    at_rest(page)
    y = page.evaluate("document.querySelector('.quality').data.at(-1).y")
    assert len(y) == 13 and y[-1] < y[0] / 5


def test_the_trajectories_stand_in_space(page, server):
    open_page(page, server + QUICK)
    page.get_by_role("button", name="Show them in 3D").click()
    page.wait_for_function("document.querySelector('.space').data?.length === 2")
    assert page.evaluate(TRACES, "space") == 2
    assert page.evaluate("document.querySelector('.space')._fullLayout.scene.zaxis.tickvals") == [0, 3, 6, 9, 12]


def test_the_run_can_be_taken_along_as_json(page, server):
    open_page(page, server + QUICK)
    page.locator(".save summary").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Settings as JSON").click()
    assert Plane.from_json(Path(download.value.path()).read_text("utf-8")) == Plane(count=200, steps=12, seed=3)


# --- drawing --------------------------------------------------------------------------------------------------------


@pytest.fixture
def phone(browser, server):
    """A page on a phone with a touch screen, which must stay clean."""
    profile = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    profile.set_default_timeout(120_000)
    errors = []
    profile.on("weberror", lambda error: errors.append(str(error.error)))
    profile.on("console", lambda message: message.type == "error" and errors.append(message.text))
    yield profile.new_page()
    profile.close()
    assert not errors


def stroke(page, places):
    """A finger's way over the pad, in shares of its side."""
    pad = page.locator(".pad canvas")
    pad.scroll_into_view_if_needed()
    box, session = pad.bounding_box(), page.context.new_cdp_session(page)
    touch = [{"x": box["x"] + u * box["width"], "y": box["y"] + v * box["height"]} for u, v in places]
    kinds = ["touchStart", *["touchMove"] * (len(touch) - 1)]
    for kind, point in zip(kinds, touch):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def count_of_points(page):
    return int(page.locator(".pad").get_attribute("data-points"))


def test_a_finger_draws_erases_undoes_and_the_drawing_is_generated(phone, server):
    open_page(phone, server + QUICK)
    set_data(phone, "draw your own")
    phone.locator(".pad").wait_for()
    stroke(phone, [(0.2, 0.5), (0.4, 0.5), (0.6, 0.5), (0.8, 0.5)])
    phone.wait_for_function("Number(document.querySelector('.pad').dataset.points) > 20")
    drawn = count_of_points(phone)
    phone.wait_for_function(f"document.querySelector('.world').data[0]?.x.length === {drawn}")
    phone.get_by_label("erase").check()
    stroke(phone, [(0.2, 0.5), (0.3, 0.5)])
    phone.wait_for_function(f"Number(document.querySelector('.pad').dataset.points) < {drawn}")
    phone.get_by_role("button", name="undo").click()
    assert count_of_points(phone) == drawn
    phone.wait_for_function(f"document.querySelector('.world').data[0]?.x.length === {drawn}")
    job = state(phone)["job"]
    phone.locator("#generate").click()
    phone.get_by_text("No network has been trained on your drawing").wait_for()
    wait(phone, f"d.job !== '{job}' && d.state === 'finished' && d.playing === 'false' && d.resting === 'true'")
    y = phone.evaluate("document.querySelector('.world').data.at(-1).y")
    assert len(y) == 200 and np.quantile(np.abs(y), 0.95) < 0.15  # on the line through the middle


def test_the_keyboard_draws_and_a_step_away_from_the_pad_lifts_the_pen(page, server):
    open_page(page, server + QUICK)
    set_data(page, "draw your own")
    page.locator(".pad canvas").focus()
    for key in ["Space", *["ArrowRight"] * 10, "Tab"]:
        page.keyboard.press(key)
    page.wait_for_function("new URL(location).searchParams.get('points')")
    drawn = count_of_points(page)
    assert 15 < drawn < 25  # ten steps of a 28th of the side, a point every 0.035 of its 2 units
    page.locator(".pad canvas").focus()
    page.keyboard.press("ArrowLeft")
    assert count_of_points(page) == drawn


def test_a_drawing_travels_in_the_link(page, server):
    open_page(page, f"{server}{QUICK}&data=drawn&points={TRIANGLE}")
    page.locator(".pad[data-points='3']").wait_for()
    assert query(page)["points"] == TRIANGLE
    page.get_by_role("button", name="star").click()
    page.wait_for_function(f"new URL(location).searchParams.get('points') !== '{TRIANGLE}'")
    assert len(decode_points(query(page)["points"])) == count_of_points(page) > 100


def test_clearing_the_pad_takes_the_default_data_and_says_so(page, server):
    open_page(page, f"{server}{QUICK}&data=drawn&points={TRIANGLE}")
    page.get_by_role("button", name="clear").click()
    page.get_by_text("Nothing is drawn yet").wait_for()


def test_the_lesson_fits_a_phone(phone, server):
    open_page(phone, server + QUICK)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    assert phone.locator(".world").bounding_box()["width"] >= 300


def test_the_navigation_leads_from_the_first_lesson_to_this_one_and_back(page, server):
    open_page(page, f"{server}/?count=1&steps=2")
    page.get_by_role("link", name="In the plane").click()
    page.locator(".world").wait_for()
    finish(page)
    assert page.get_by_role("link", name="Digits").get_attribute("href").rstrip("/") in ("", "..", server)


# --- experiments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_sets_layers_that_there_are_and_says_what_to_look_for(name):
    layers = (Path(player.__file__).parent / "screen.html").read_text("utf-8")
    for layer, value in EXPERIMENTS[name].layers.items():
        (options,) = re.findall(rf'<select name="{layer}">(.*?)</select>', layers, re.DOTALL)
        assert f'<option value="{value}">' in options
    assert 2 <= len(re.findall(r"[a-z0-9]\.( |$)", EXPERIMENTS[name].text)) <= 3


def test_an_experiment_runs_its_settings_and_layers_in_one_click_and_the_address_has_them(page, server):
    name = "Too few steps on the checkerboard"
    job = open_page(page, server + QUICK)["job"]
    page.locator("#experiment input").click()
    page.get_by_role("option", name=name).click()
    wait(page, f"d.job !== '{job}' && d.state === 'finished'")
    assert page.locator("#look-for").inner_text() == EXPERIMENTS[name].text
    expected = EXPERIMENTS[name].settings.query()
    page.wait_for_function("() => new URL(location).searchParams.get('data') === 'checkerboard'")
    assert {key: query(page)[key] for key in expected if expected[key]} == {k: v for k, v in expected.items() if v}
    assert query(page)["show_trails"] == "all"
