"""The numbers of Algorithm 2's lines, what a step adds to its mean, and the part of the page that shows both."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
from pages import finish, open_page, query, scrub, state, wait
from torch.testing import assert_close

from ddpm.checkpoint import load_network
from ddpm.lessons.pictures.algorithm import SECOND_ORDER, added, lines
from ddpm.lessons.pictures.run import Run, perform
from ddpm.process import noise_from_x0, posterior
from ddpm.sampling import SAMPLERS, follow, generators, normal
from ddpm.schedule import alpha_bar, betas, grid

SHAPE = (1, 4, 4)
RUNS = [
    Run(steps=9, eta=1.0),
    Run(steps=9),
    Run(steps=7, eta=0.4, schedule="linear"),
    Run(steps=9, sampler="ddpm-beta"),
    Run(steps=1, eta=1.0),
    Run(steps=1000, eta=1.0, schedule="polynomial", count=1),
]
every_run = pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.sampler}-{run.eta}-{run.steps}")


def states(run):
    """The states of ``run`` with a denoiser that answers half of x, within [−1, 1]."""
    own = generators(run.seed, range(run.count))
    path = SAMPLERS[run.sampler](grid(run.curve, run.steps), normal(SHAPE, own), run.eta, own)
    return list(follow(path, lambda x, log_snr: (x / 2).clamp(-1, 1)))


def line(run, step, after):
    """The numbers of the step of ``run`` from one state to the next."""
    [numbers] = lines(run, torch.stack([step.log_snr, after.log_snr]))
    return numbers


def pairs(run):
    steps = states(run)
    return list(pairwise(steps))


@every_run
def test_both_ways_to_write_the_mean_give_that_of_the_run(run):
    for step, after in pairs(run):
        numbers, noise = line(run, step, after), noise_from_x0(step.x, step.x0, step.log_snr)
        eta = {"ddpm-beta": 1.0}.get(run.sampler, run.eta)
        mean, _ = posterior(step.x, step.x0, step.log_snr, after.log_snr, eta)
        assert_close(numbers.on_x * step.x + numbers.on_x0 * step.x0, mean)
        assert_close(numbers.signal * step.x0 + numbers.own_direction * noise, mean, atol=1e-5, rtol=1e-4)
        ddpm, _ = posterior(step.x, step.x0, step.log_snr, after.log_snr)
        assert_close(numbers.scale * (step.x - numbers.removal * noise), ddpm, atol=1e-5, rtol=1e-4)
        ddim, _ = posterior(step.x, step.x0, step.log_snr, after.log_snr, eta=0)
        assert_close(numbers.signal * step.x0 + numbers.direction * noise, ddim, atol=1e-5, rtol=1e-4)


@every_run
def test_the_next_state_is_the_mean_and_the_added_noise(run):
    for step, after in pairs(run):
        numbers, rest = line(run, step, after), added(run, step, after.log_snr, after.x)
        mean = numbers.on_x * step.x + numbers.on_x0 * step.x0
        assert_close(mean if rest is None else mean + numbers.own_std * rest, after.x)


@pytest.mark.parametrize("run", [Run(steps=6, eta=1.0), Run(steps=6, eta=0.3), Run(steps=6, sampler="ddpm-beta")])
def test_the_added_noise_is_what_each_pictures_generator_drew(run):
    own = generators(run.seed, range(run.count))
    normal(SHAPE, own)  # x_T
    *rest, last = [added(run, step, after.log_snr, after.x) for step, after in pairs(run)]
    for noise in rest:
        assert_close(noise, normal(SHAPE, own), atol=1e-4, rtol=1e-4)
    assert_close(last, torch.zeros_like(last))


@pytest.mark.parametrize("eta", [1e-200, 1e-50, 1e-30])
def test_of_an_eta_that_vanishes_beside_the_picture_nothing_is_added(eta):
    run = Run(steps=6, eta=eta)
    for step, after in pairs(run):
        rest = added(run, step, after.log_snr, after.x)
        assert_close(rest, torch.zeros_like(rest))


@pytest.mark.parametrize("sampler", SECOND_ORDER)
def test_what_a_second_order_sampler_adds_leads_from_the_step_of_ddim_to_its_own(sampler):
    run, largest = Run(steps=5, sampler=sampler), 0.0
    for step, after in pairs(run):
        numbers, rest = line(run, step, after), added(run, step, after.log_snr, after.x)
        ddim, _ = posterior(step.x, step.x0, step.log_snr, after.log_snr, eta=0)
        assert_close(ddim + rest, after.x)
        assert numbers.own_std == 0
        largest = max(largest, float(rest.abs().max()))
    assert largest > 1e-2


def test_ddim_adds_nothing():
    assert all(added(Run(steps=4), step, after.log_snr, after.x) is None for step, after in pairs(Run(steps=4)))


def test_the_shares_and_betas_are_those_of_the_grid():
    run = Run(steps=20, schedule="linear")
    levels = grid(run.curve, run.steps)
    found = lines(run, levels)
    assert_close(torch.tensor([one.beta for one in found]), betas(levels).float())
    assert_close(torch.tensor([one.alpha_bar for one in found]), alpha_bar(levels[:-1]).float())
    for one in found:
        assert one.alpha == pytest.approx(one.alpha_bar / one.alpha_bar_next)
        assert one.root**2 + one.sigma**2 == pytest.approx(1)
        assert one.std == pytest.approx(math.sqrt((1 - one.alpha_bar_next) / (1 - one.alpha_bar) * one.beta))


def test_the_other_variance_of_algorithm_2_is_beta():
    for one in lines(Run(sampler="ddpm-beta"), grid(Run().curve, 10)):
        assert one.std == one.own_std == pytest.approx(math.sqrt(one.beta))


# --- the page -------------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parent.parent
OPEN = {"show_algorithm": 1}
FIGURES = """() => Object.fromEntries([...document.querySelectorAll('.listing figure')]
  .filter(f => f.offsetParent && !f.classList.contains('empty')).map(f => {
    const c = f.querySelector('canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    return [f.dataset.picture, [f.querySelector('.pixel').textContent, c.height, c.width, ...d]]; }))"""
NUMBERS = """() => Object.fromEntries([...document.querySelectorAll('.algorithm [data-value]')]
  .map(e => [e.dataset.value, e.textContent]))"""
LINE = "() => document.querySelector('.listing .now')?.dataset.line"


def opened(page, url, position):
    """The page with the section open, at rest at ``position``."""
    open_page(page, url)
    scrub(page, position)
    wait(page, f"d.position === '{position}' && d.playing === 'false'")


def figures(page):
    """The pictures that are to be seen in the section: the value of the pixel as a text, and the image (C, H, W)."""
    found = page.evaluate(FIGURES)
    return {
        name: (text, np.array(image).reshape(height, width, 4)[..., :3].transpose(2, 0, 1))
        for name, (text, height, width, *image) in found.items()
    }


def number(text):
    return float(text.replace(" · 10", "e").translate(str.maketrans("−⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "--0123456789")))


SHOWN = [
    (Run(count=2, steps=5, eta=1.0, seed=3), 1),
    (Run(count=2, steps=5, seed=3), 2),
    (Run(count=2, steps=150, eta=0.5, seed=3, schedule="polynomial"), 98),
    (Run(count=2, steps=5, sampler="ddpm-beta"), 4),
    (Run(count=2, steps=5, sampler="dpm-solver++"), 2),
    (Run(model="cifar10", count=2, steps=3, sampler="heun"), 1),
]


@pytest.mark.parametrize(("run", "position"), SHOWN, ids=[f"{run.sampler}-{run.eta}-{run.steps}" for run, _ in SHOWN])
def test_the_numbers_and_the_pictures_are_those_of_the_library(page, server, run, position):
    path = "/colour" if run.model == "cifar10" else "/"
    opened(page, f"{server}{path}?{urlencode({**run.query(), **OPEN})}", position)
    page.locator(".followed").select_option("1")
    states = {
        step.index: step for step in perform(run, load_network(ROOT / f"checkpoints/{run.model}.safetensors").network)
    }
    shown_now = page.evaluate(NUMBERS)
    step = states[int(shown_now["t"])]
    after, first = states[step.index - 1], states[run.steps]
    numbers, rest = line(run, step, after), added(run, step, after.log_snr, after.x)
    for name, value in numbers._asdict().items():
        if name in shown_now:
            assert number(shown_now[name]) == pytest.approx(value, rel=6e-3 if abs(value) < 1e-3 else 6e-4)
    mean = numbers.on_x * step.x + numbers.on_x0 * step.x0
    noise = noise_from_x0(step.x, step.x0, step.log_snr)
    made = {"first": first.x, "x": step.x, "noise": noise, "x0": step.x0, "mean": mean, "next": after.x}
    if run.sampler in SECOND_ORDER:
        made["correction"] = rest
    elif rest is not None:
        made |= {"z": rest, "term": numbers.own_std * rest}
    found = figures(page)
    assert found.keys() == made.keys()
    for name, (text, image) in found.items():
        span = {"noise": 3, "z": 3, "correction": 0.3}.get(name, 1)
        expected = ((made[name][1] / span + 1) * 127.5).clamp(0, 255).numpy()
        assert np.abs(image - expected).max() <= 2.5, name
        middle = made[name][1][:, image.shape[1] // 2, image.shape[2] // 2].tolist()
        assert [number(part) for part in text.split()] == pytest.approx(
            middle, abs=0.02 / span if span < 1 else 0.02 * span
        )


QUICK = "/?count=2&steps=3&seed=3&eta=1&show_algorithm=1"
ORDER = ["level", "predict", "mean", "draw", "next"]


def test_the_button_walks_through_the_lines_of_every_step_to_the_end_without_the_server(page, context, server):
    opened(page, server + QUICK, 0)
    context.set_offline(True)
    walked = []
    for _ in range(17):
        page.locator(".line-on").click()
        page.wait_for_function(f"({LINE})() && ({LINE})() !== '{walked[-1] if walked else ''}'")
        walked.append(page.evaluate(LINE))
    assert walked == ["begin", *ORDER * 3, "end"]
    page.locator(".line-back").click()
    page.wait_for_function(f"({LINE})() === 'next'")
    assert state(page)["position"] == "2"
    context.set_offline(False)


def test_the_keys_walk_and_later_lines_show_nothing_yet(page, server):
    opened(page, server + QUICK, 1)
    assert page.evaluate(LINE) is None and len(figures(page)) == 8
    page.locator(".listing").focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.wait_for_function(f"({LINE})() === 'mean'")
    assert figures(page).keys() == {"first", "x", "noise", "x0", "mean"}
    assert page.locator(".listing [aria-current=step]").get_attribute("data-line") == "mean"
    page.keyboard.press("ArrowUp")
    page.wait_for_function(f"({LINE})() === 'predict'")
    page.keyboard.press("ArrowRight")
    wait(page, "d.position === '2'")
    assert page.evaluate(LINE) is None


def test_the_last_state_returns_its_picture(page, server):
    open_page(page, server + QUICK)
    assert page.evaluate(LINE) == "end"
    assert figures(page).keys() == {"first", "last"}
    assert "the run is over" in page.locator(".where").inner_text()


def test_opening_the_section_at_the_end_goes_to_a_step_and_stays_in_the_address(page, context, server):
    open_page(page, server + "/?count=2&steps=5")
    assert "show_algorithm" not in query(page)
    page.locator(".algorithm summary").click()
    wait(page, "d.position === '2'")
    assert query(page)["show_algorithm"] == "1"
    other = context.new_page()
    open_page(other, page.url)
    assert other.locator(".listing").is_visible()
    page.locator(".algorithm summary").click()
    page.wait_for_function("new URL(location).searchParams.get('show_algorithm') === '0'")


def test_a_click_on_a_picture_above_follows_it_and_one_below_another_pixel(page, server):
    opened(page, server + QUICK, 1)
    box = page.locator("canvas.x").bounding_box()
    page.locator("canvas.x").click(position={"x": 0.75 * box["width"], "y": 0.5 * box["height"]})
    page.wait_for_function("document.querySelector('.followed').value === '1'")
    before = figures(page)
    canvas = page.locator("figure[data-picture=x] canvas")
    canvas.click(position={"x": 3, "y": 3})
    page.wait_for_function(
        f"document.querySelector('figure[data-picture=x] .pixel').textContent !== '{before['x'][0]}'"
    )
    assert np.array_equal(figures(page)["x"][1], before["x"][1])


def test_the_run_that_replaces_another_takes_its_own_lines(page, server):
    opened(page, server + QUICK, 1)
    assert "DDPM's lines" in page.locator(".whose").inner_text()
    page.locator("#eta input[type=number]").fill("0")
    page.locator("#eta input[type=number]").press("Tab")
    job = state(page)["job"]
    page.locator("#generate").click()
    wait(page, f"d.job !== '{job}'")
    finish(page)
    assert "DDIM's lines" in page.locator(".whose").inner_text()
    scrub(page, 1)
    wait(page, "d.position === '1'")
    assert figures(page).keys() == {"first", "x", "noise", "x0", "mean", "next"}


def test_the_section_fits_a_phone(page, server):
    page.set_viewport_size({"width": 390, "height": 844})
    opened(page, server + QUICK, 1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    edges = page.locator(".listing figure, .listing .ways > div").evaluate_all(
        "all => all.filter(e => e.offsetParent).map(e => e.getBoundingClientRect()).map(b => [b.left, b.right])"
    )
    assert edges and all(left >= 0 and right <= 390 for left, right in edges)


def test_the_walks_buttons_and_the_marked_line_stay_in_view(page, server):
    page.set_viewport_size({"width": 1280, "height": 500})
    opened(page, server + QUICK, 1)
    for line in ORDER:
        page.locator(".line-on").click()
        page.wait_for_function(f"({LINE})() === '{line}'")
        bar, now = page.locator(".walk").bounding_box(), page.locator(".listing .now").bounding_box()
        assert bar["y"] >= 0 and bar["y"] + bar["height"] <= now["y"] and now["y"] + now["height"] <= 500
