"""Runs on the line: their settings, what is computed, the player's messages, and the page in a real browser."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import numpy as np
import pytest
import torch
from pages import INK, TRACES, finish, open_page, query, read_in, script, scrub, state, wait
from torch.testing import assert_close

from ddpm.checkpoint import load_network
from ddpm.denoiser import unlabelled
from ddpm.exact import gaussian_mixture
from ddpm.lessons.line import screen as player
from ddpm.lessons.line.run import (
    AXIS,
    BINS,
    EDGE,
    PATHS,
    Line,
    densities,
    frames,
    interpolated,
    look,
    mixture,
    modes,
    sampled_modes,
    table,
    true_modes,
)
from ddpm.lessons.models import NETWORK
from ddpm.lessons.shown import shown
from ddpm.page.components import shared
from ddpm.process import noise_from_x0, score_from_x0, seeded
from ddpm.schedule import betas, grid
from ddpm.serving.engine import QueuePosition
from scripts._served import at_work

SETTINGS = Line.allowed({})

MOVED = Line(mean1=-1.5, mean2=3.0, weight1=3, weight2=1, std=0.4, denoiser="exact", schedule="cosine", steps=100)
RUNS = [Line(), MOVED, Line(mean1=1 / 3, std=0.25, schedule="polynomial", p=2.5, sampler="heun", eta=0.5, seed=7)]
every_run = pytest.mark.parametrize("line", RUNS, ids=range(len(RUNS)))
SMALL = Line(denoiser="exact", count=200, steps=12)
SCRIPT = script(player, "shared.js", "clock.js", "save.js")


@pytest.fixture(scope="module")
def network():
    return load_network(Path(__file__).parents[1] / "checkpoints" / f"{NETWORK}.safetensors").network


def carried_out(line, network, **options):
    return [frame for frame in frames(line, network, **options) if frame is not None]


# --- the settings ---------------------------------------------------------------------------------------------------


def test_as_it_stands_a_run_is_the_exercise():
    line = Line()
    assert (line.means, line.weights, line.std, line.eta) == ((-4.0, 4.0), (1 / 3, 2 / 3), 1.0, 1.0)
    assert_close(betas(grid(line.curve, line.steps)[:-1]), torch.full((249,), 0.02).double(), atol=3e-4, rtol=0)
    assert line.is_exercise


@pytest.mark.parametrize(
    "same", [{"weight1": 3, "weight2": 6}, {"mean1": 4.0, "mean2": -4.0, "weight1": 2, "weight2": 1}]
)
def test_the_exercise_is_known_by_its_mixture_not_by_how_it_is_written(same):
    assert Line(**same).is_exercise


@pytest.mark.parametrize("moved", [{"mean1": -3.9}, {"weight1": 2}, {"std": 0.9}, {"weight1": 2, "weight2": 1}])
def test_another_mixture_is_not_the_exercise(moved):
    assert not Line(**moved).is_exercise


def test_every_setting_says_what_it_may_be():
    assert asdict(Line()).keys() == SETTINGS.keys()


@every_run
def test_a_run_comes_back_from_its_link_and_from_its_json(line):
    assert Line.from_query(dict(parse_qsl(urlencode(line.query())))) == (line, [])
    assert Line.from_json(line.json()) == line


@pytest.mark.parametrize("value", ["1e999", "", "nan", None, 2.5, []], ids=repr)
def test_a_link_gives_a_run_whatever_it_holds(value):
    line, _ = Line.from_query(dict.fromkeys(SETTINGS, value))
    assert Line.from_query(line.query()) == (line, [])


# --- what is known exactly ------------------------------------------------------------------------------------------


@every_run
def test_the_density_of_every_shown_step_is_one_in_all(line):
    area = densities(line).sum(1) * (AXIS[1] - AXIS[0])
    assert_close(area, torch.ones(len(shown(line.steps))), atol=1e-4, rtol=0)


def test_the_densities_go_from_noise_to_data():
    line = replace(MOVED, steps=20)
    noise, *_, data = densities(line)
    assert_close(noise, torch.distributions.Normal(0.0, 1.0).log_prob(AXIS).exp(), atol=5e-3, rtol=0)
    own = [torch.distributions.Normal(mean, line.std).log_prob(AXIS).exp() for mean in line.means]
    assert_close(data, 0.75 * own[0] + 0.25 * own[1])


def test_a_table_answers_as_the_formula_between_its_points_and_linearly_beyond():
    formula = gaussian_mixture(*mixture(Line()))
    for log_snr in torch.tensor([-5.0, 0.0, 4.0, torch.inf], dtype=torch.float64):
        x = 4 * torch.randn(500, 1, generator=seeded(1))
        inside = x[x.abs() < EDGE, None]
        read = interpolated(table(formula))
        assert_close(read(inside, log_snr), formula(inside, log_snr), atol=0.03, rtol=0)
        beyond = read(torch.tensor([[EDGE], [EDGE + 1], [EDGE + 2]]), log_snr)[:, 0]
        assert_close(beyond[1] - beyond[0], beyond[2] - beyond[1])


def test_a_table_answers_as_the_network_between_its_points(network):
    learned = unlabelled(network)
    x = 6 * torch.randn(500, 1, generator=seeded(1)).clamp(-2, 2)
    with torch.no_grad():
        for log_snr in torch.tensor([-5.0, 0.0, 4.0], dtype=torch.float64):
            assert_close(interpolated(table(learned))(x, log_snr), learned(x, log_snr), atol=0.03, rtol=0)


def test_a_table_asks_the_denoiser_once_a_level():
    asked = []
    at = table(lambda x, log_snr: asked.append(float(log_snr)) or x)
    for level in (0.0, 0.0, 1.0, 0.0):
        at(level)
    assert asked == [0.0, 1.0]


# --- the two modes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [Line(), MOVED, replace(MOVED, mean1=3.0, mean2=-1.5)], ids=range(3))
def test_modes_far_apart_are_truly_what_they_were_set_to(line):
    for mode, weight, mean in zip(true_modes(line), line.weights, line.means):
        assert mode == pytest.approx((weight, mean, line.std), abs=1e-3)


def test_the_true_modes_are_those_of_many_samples_even_where_they_overlap():
    line, generator = Line(mean1=-1.0, mean2=1.0, std=1.5), seeded(3)
    second = torch.rand(400_000, generator=generator) < line.weights[1]
    x = torch.where(second, 1.0, -1.0) + 1.5 * torch.randn(len(second), generator=generator)
    for sampled, true in zip(sampled_modes(line, x), true_modes(line)):
        assert sampled == pytest.approx(true, abs=0.01)


def test_a_point_belongs_to_the_nearer_mean_and_a_mode_without_points_is_none():
    line, x = Line(mean1=2.0, mean2=-2.0), torch.tensor([0.5, 1.5])
    first, second = modes(line, x, torch.tensor([0.25, 0.75]))
    assert first == pytest.approx((1.0, 1.25, 0.75**0.5 / 2)) and second is None


@pytest.mark.parametrize("count", [100, 3_000, 10_000])
def test_samples_that_all_lie_in_one_mode_are_all_of_them(count):
    mode, nobody = sampled_modes(Line(), torch.full((count,), -4.0))
    assert nobody is None and mode.weight <= 1
    assert mode.standard_errors(count) == pytest.approx((0, 0, 0), abs=1e-7)


def test_the_standard_errors_are_the_spread_over_many_draws():
    line, count = Line(), 400
    drawn = []
    for index in range(300):
        generator = seeded(5, index)
        second = torch.rand(count, generator=generator) < line.weights[1]
        x = torch.where(second, 4.0, -4.0) + torch.randn(count, generator=generator)
        drawn.append(sampled_modes(line, x)[0])
    spread = torch.tensor(drawn).std(0)
    assert_close(torch.tensor(true_modes(line)[0].standard_errors(count)), spread, rtol=0.15, atol=0)


# --- carried out ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moved_by", ["learned", "exact"])
def test_ten_thousand_samples_reproduce_the_exercise(network, moved_by):
    """For this seed; DDPM from N(0, 1), which is not quite p_T here, is off by 0.013 in the weights on average."""
    *_, last = carried_out(Line(denoiser=moved_by), network)
    for mode, weight, mean in zip(last.modes, (1 / 3, 2 / 3), (-4, 4)):
        assert abs(mode.weight - weight) <= 0.02 and abs(mode.mean - mean) <= 0.1 and abs(mode.std - 1) <= 0.1


def test_the_exact_denoiser_follows_moved_modes_and_the_learned_one_does_not(network):
    exact, learned = (carried_out(replace(MOVED, denoiser=name), network)[-1] for name in ("exact", "learned"))
    for mode, true in zip(exact.modes, true_modes(MOVED)):
        assert abs(mode.weight - true.weight) < 0.02 and abs(mode.mean - true.mean) < 0.05
        assert abs(mode.std - true.std) < 0.05
    assert abs(learned.modes[0].mean - MOVED.mean1) > 1


@pytest.mark.parametrize("steps", [1, 130])
def test_the_frames_are_the_shown_steps_from_noise_to_data(network, steps):
    found = [frame.index for frame in carried_out(replace(SMALL, steps=steps), network)]
    assert found == sorted(shown(steps), reverse=True)


def test_a_frame_has_the_arrays_that_it_promises_and_only_the_last_the_modes(network):
    made = carried_out(SMALL, network)
    for frame in made:
        assert frame.paths.shape == (PATHS,) and frame.counts.shape == (BINS,)
        assert frame.learned.shape == frame.exact.shape == AXIS.shape
        assert frame.counts.sum() == SMALL.count
    assert [frame.modes is not None for frame in made] == [False] * SMALL.steps + [True]


def test_the_same_settings_give_the_same_samples_and_another_seed_others(network):
    first, again, other = (carried_out(line, network)[-1].paths for line in (SMALL, SMALL, replace(SMALL, seed=1)))
    assert (first == again).all() and (first != other).any()


def test_without_samples_the_curves_are_those_of_the_run(network):
    with_samples, without = carried_out(SMALL, network), carried_out(SMALL, network, samples=False)
    for one, other in zip(with_samples, without, strict=True):
        assert (one.index, one.log_snr) == (other.index, other.log_snr)
        assert np.array_equal(one.learned, other.learned) and np.array_equal(one.exact, other.exact)
        assert len(other.paths) == 0 and other.counts.sum() == 0 and other.modes is None


# --- messages -------------------------------------------------------------------------------------------------------


def parts(message):
    header, payload = message.split("|", 1)
    return json.loads(header), base64.b64decode(payload, validate=True)


@pytest.fixture(scope="module")
def sent(network):
    """The messages of a run, and the frames that they were made of."""
    made = carried_out(SMALL, network)
    opening = next(look(SMALL, network))
    return (
        parts(player.pack(opening, 7, SMALL, ["A | note."], True)),
        made,
        [parts(player.frame(f, 7, 200)) for f in made],
    )


def test_the_start_tells_the_run_its_truth_and_its_densities(sent):
    (header, payload), made, _ = sent
    assert (header["run"], header["query"], header["notes"]) == (asdict(SMALL), SMALL.query(), ["A | note."])
    assert (header["frames"], header["shown"]) == (13, [frame.index for frame in made])
    assert header["truth"] == [mode._asdict() for mode in true_modes(SMALL)]
    density = np.frombuffer(payload, "<u2").reshape(13, len(AXIS)) / 65535 * header["peak"]
    assert np.abs(density - densities(SMALL).numpy()).max() <= header["peak"] / 100_000


def test_a_frame_decodes_to_curves_counts_and_paths(sent):
    _, made, messages = sent
    for frame, (header, payload) in zip(made, messages, strict=True):
        curves, counts, paths = np.split(np.frombuffer(payload, np.uint8), [8 * len(AXIS), 8 * len(AXIS) + 2 * BINS])
        assert np.array_equal(curves.view("<f4").reshape(2, -1), [frame.learned, frame.exact])
        assert np.array_equal(counts.view("<u2"), frame.counts)
        assert np.abs(paths.view("<i2") / player.SCALE - frame.paths).max() <= 1 / player.SCALE
        assert header["index"] == frame.index
    last = messages[-1][0]
    assert last["logSnr"] is None and last["modes"][0]["weight"] == made[-1].modes[0].weight


def read_by_script(name):
    return read_in(SCRIPT, name)


def test_the_headers_hold_all_that_the_script_reads(sent):
    (start, _), _, messages = sent
    decoded = {"learned", "exact", "counts", "paths"}
    assert read_by_script("run") <= start.keys()
    assert read_by_script("run.run") <= start["run"].keys()
    assert read_by_script("frame") <= messages[0][0].keys() | decoded
    others = shared.end(0), shared.waiting(QueuePosition(1, 2.0), 0)
    assert read_by_script("header") <= start.keys() | messages[0][0].keys() | {k for m in others for k in parts(m)[0]}
    assert read_by_script("setup") == json.loads(player.player().props["setup"]).keys()


# --- the page -------------------------------------------------------------------------------------------------------

QUICK = "/line?count=200&steps=12&seed=3"
NUMBERS = "() => [...document.querySelectorAll('.numbers tbody td')].map(cell => cell.textContent)"
NAMES = "name => document.querySelector(`.${name}`).data.map(trace => trace.name)"


def test_what_a_run_says_before_the_screen_has_loaded_is_shown_all_the_same(page, server):
    held = []
    page.route("**/line/screen.js", lambda route: held.append(route))
    with page.expect_event("requestfailed", lambda request: "queue/data" in request.url):  # as Gradio ends its stream
        page.goto(server + QUICK)
    assert page.locator(".play").is_disabled()
    held[0].continue_()
    assert finish(page)["frames"] == "13"


def fill(page, name, value):
    box = page.locator(f"#{name} input[type=number]")
    box.fill(str(value))
    box.press("Tab")


def settle(page, job):
    """Until the run after ``job`` has finished."""
    wait(page, f"d.job !== '{job}'")
    return finish(page)


def test_the_page_runs_by_itself_and_shows_paths_histogram_and_curves(page, server):
    assert open_page(page, server + QUICK)["frames"] == "13"
    assert page.locator(".step").inner_text() == "step t = 0 of 12"
    assert page.evaluate(TRACES, "heat") == 3
    assert page.evaluate(NAMES, "histogram") == ["samples", "true density pₜ"]
    assert page.evaluate(NAMES, "curves") == ["pₜ, where the data is", "exact", "learned"]
    assert "±" in page.evaluate(NUMBERS)[0] and "true 0.333" in page.evaluate(NUMBERS)[0]


def test_the_histogram_at_rest_holds_all_samples(page, server):
    open_page(page, server + QUICK)
    x, y = page.evaluate(
        "() => { const { x, y } = document.querySelector('.histogram').data[0]; return [[...x], [...y]]; }"
    )
    assert np.trapezoid(y, x) == pytest.approx(1)


DRAWN = """name => Object.fromEntries(document.querySelector(`.${name}`).data.map(
  ({ name, x, y }) => [name, [[...x], [...y]]]))"""


@pytest.mark.parametrize(
    ("curve", "of"), [("noise", noise_from_x0), ("x0", lambda x, x0, log_snr: x0), ("score", score_from_x0)]
)
def test_the_curves_are_those_of_the_network_and_of_the_formula(page, server, network, curve, of):
    open_page(page, f"{server}{QUICK}&show_curve={curve}")
    scrub(page, 6)
    page.wait_for_function("document.querySelector('.histogram').data.length === 4")
    line = Line(count=200, steps=12, seed=3)
    frame, drawn = carried_out(line, network)[6], page.evaluate(DRAWN, "curves")
    for source, tolerance in (("exact", 1e-4), ("learned", 1e-3)):
        x, y = drawn[source]
        expected = of(AXIS, torch.from_numpy(getattr(frame, source)), torch.tensor(frame.log_snr))
        assert x == pytest.approx(AXIS.tolist(), abs=1e-5) and y == pytest.approx(expected.tolist(), abs=tolerance)


def test_the_densities_are_the_exact_ones_and_the_histogram_counts_the_samples(page, server, network):
    open_page(page, server + QUICK)
    scrub(page, 6)
    page.wait_for_function("document.querySelector('.histogram').data.length === 4")
    line = Line(count=200, steps=12, seed=3)
    true, made, drawn = densities(line).numpy(), carried_out(line, network), page.evaluate(DRAWN, "histogram")
    near = {"abs": float(true.max()) / 60_000}
    assert drawn["true density pₜ"][1] == pytest.approx(true[6].tolist(), **near)
    assert drawn["true density at the end"][1] == pytest.approx(true[12].tolist(), **near)
    for name, frame in (("samples", made[6]), ("samples at the end", made[12])):
        heights = np.array(drawn[name][1])
        bars = heights[1:-1:2] if name == "samples" else heights[::2]
        assert bars == pytest.approx(frame.counts.reshape(-1, 8).sum(1) / (200 * 8 * 2 * EDGE / BINS))
    heat = page.evaluate("() => (({ x, z }) => [x, z])(document.querySelector('.heat').data[0])")
    assert heat[0] == list(range(13)) and np.abs(np.array(heat[1]).T[::-1] - true).max() <= near["abs"]


def test_the_traces_stay_within_the_axes_when_the_address_has_changed(page, server):
    open_page(page, server + QUICK)
    clips = page.evaluate(
        "() => [...document.querySelectorAll('.plot [clip-path]')].map(e => e.getAttribute('clip-path'))"
    )
    assert len(clips) == 3 and all(clip.startswith("url(#") for clip in clips)


def test_the_keyboard_steps_back_and_forth_and_the_moving_part_is_drawn(page, server):
    open_page(page, server + QUICK)
    page.locator(".player").focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    wait(page, "d.position === '9'")
    assert page.evaluate(INK, "heat") > 0
    page.keyboard.press("ArrowRight")
    wait(page, "d.position === '10'")
    page.keyboard.press("Space")
    assert finish(page)["position"] == "12"


def test_the_histogram_shows_the_end_dashed_beside_an_earlier_step(page, server):
    open_page(page, server + QUICK)
    scrub(page, 6)
    page.wait_for_function("document.querySelector('.histogram').data.length === 4")
    assert page.evaluate(NAMES, "histogram")[1:3] == ["samples at the end", "true density at the end"]
    page.locator(".layers [name=end]").uncheck()
    page.wait_for_function("document.querySelector('.histogram').data.length === 2")
    assert query(page)["show_end"] == "0"


def test_moved_modes_show_at_once_and_the_page_says_that_the_network_has_not_learned_them(page, server):
    before = open_page(page, server + QUICK)["job"]
    slider = page.locator("#mean1 input[type=range]")
    slider.focus()
    slider.press("ArrowRight")
    fill(page, "mean1", 1)
    page.locator("#mean1 input[type=range]").dispatch_event("pointerup")
    wait(page, f"d.job !== '{before}' && d.state === 'finished'")
    page.wait_for_function("document.querySelector('.notes').textContent.includes('has learned one mixture only')")
    assert query(page)["mean1"] == "1"
    assert "not this one" in page.locator(".of-error").inner_text()


def test_a_link_with_moved_modes_run_by_the_exact_denoiser_ends_on_them(page, server):
    open_page(page, f"{server}/line?{urlencode({**MOVED.query(), 'count': 2000, 'steps': 50})}")
    weight, mean, *_ = page.evaluate(NUMBERS)
    assert float(weight.split()[0]) == pytest.approx(0.75, abs=0.04)
    assert float(mean.split()[0].replace("−", "-")) == pytest.approx(-1.5, abs=0.06)


@pytest.mark.parametrize(
    ("button", "figure", "tall"), [("distribution", "distribution", "histogram"), ("histories", "histories", "heat")]
)
def test_a_figure_of_the_exercise_is_one_click_from_anywhere(page, server, button, figure, tall):
    before = open_page(page, f"{server}/line?mean1=0&count=300&steps=9&seed=5&schedule=cosine&show_paths=10")["job"]
    page.locator(f"#{button}").click()
    assert settle(page, before)["figure"] == figure
    asked = query(page)
    assert {name: asked[name] for name in SETTINGS} == Line().query()
    assert asked["show_figure"] == figure
    heights = page.evaluate(
        "() => ['heat', 'histogram', 'curves'].map(n => document.querySelector(`.${n}`).clientHeight)"
    )
    assert ["heat", "histogram", "curves"][int(np.argmax(heights))] == tall
    assert "null" not in page.locator(".numbers").inner_text()


def test_the_address_reproduces_the_run_and_what_is_shown(page, context, server):
    open_page(page, server + QUICK)
    page.locator(".layers [name=curve]").select_option("score")
    page.locator(".layers [name=paths]").select_option("10")
    other = context.new_page()
    open_page(other, page.url)
    assert query(page) == query(other)
    assert page.evaluate(NUMBERS) == other.evaluate(NUMBERS)
    assert other.locator(".layers [name=curve]").input_value() == "score"
    assert "of 10 of 200 samples" in other.locator(".of-heat").inner_text()


def test_the_json_of_a_run_gives_it_back(page, server):
    open_page(page, server + QUICK)
    given = page.evaluate("() => fetch(document.querySelector('.json').href).then(answer => answer.text())")
    assert Line.from_json(given) == Line(count=200, steps=12, seed=3)


def test_stop_ends_the_run(page, server):
    with at_work(server, 1):  # so that the run is not over when the click arrives
        page.goto(f"{server}/line?steps=1000&sampler=heun")
        wait(page, "Number(d.frames) >= 2 && (document.querySelector('#stop').click(), true)")
        wait(page, "d.state === 'stopped'")
    assert 2 <= int(state(page)["frames"]) < 100


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(page, server, theme):
    page.set_viewport_size({"width": 390, "height": 844})
    open_page(page, f"{server}{QUICK}&__theme={theme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("heat", "histogram", "curves"):
        box = page.locator(f".plot.{name}").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
