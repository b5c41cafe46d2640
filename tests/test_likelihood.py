"""The bound: closed forms, Gibbs' inequality, the estimator; then the page."""

import math
from itertools import pairwise

import pytest
import torch
from pages import query, wait
from torch.testing import assert_close

from ddpm.exact import gaussian_mixture, gaussian_mixture_log_density, log_mass_between
from ddpm.lessons.likelihood import run as likelihood
from ddpm.lessons.likelihood.run import (
    Likelihood,
    Population,
    bounds,
    denoising_matching,
    discretised_reconstruction,
    estimates,
    of_images,
    prior_matching,
    reconstruction,
    strata,
)
from ddpm.picture import held_out
from ddpm.process import posterior, seeded
from ddpm.schedule import SCHEDULES, Constant, Cosine, Linear, alpha_bar, grid
from ddpm.toys import TOYS

STD = 0.7
SHAPE = (3,)


def gaussian() -> Population:
    """N(0, STD² I) in three dimensions."""
    zero = torch.zeros(1, *SHAPE)
    exact = gaussian_mixture_log_density(torch.ones(1), zero, STD)

    def draw(count, generator):
        return STD * torch.randn(count, *SHAPE, generator=generator)

    return Population(draw, draw(4000, seeded(9)), False, reconstruction, lambda x0: -exact(x0))


def last(work):
    """The last estimate of a job that asks no network."""
    *_, final = work
    return final


def exact_estimate(schedule, steps, rounds=20, rows=300):
    denoise = gaussian_mixture(torch.ones(1), torch.zeros(1, *SHAPE), STD)
    return last(bounds(gaussian(), grid(schedule, steps), None, 1, rounds, rows, denoise))


def within(found, value, error, errors=4.5):
    assert abs(found - value) <= errors * error + 1e-9, (found, value, error)


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), Constant()], ids=["linear", "cosine", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 10, 1000])
def test_with_the_exact_denoiser_of_a_gaussian_the_terms_are_the_closed_form(schedule, steps):
    found, levels = exact_estimate(schedule, steps), grid(schedule, steps).flip(0)
    snr = levels[1:].exp()
    squares = 1 / (1 / STD**2 + snr)  # the variance of x0 given x_t
    share, beta = alpha_bar(levels[-1]), alpha_bar(-levels[1])
    units = math.log(2)
    prior = 0.5 * (share * (STD**2 - 1) - (1 - share).log()) / units
    l0 = 0.5 * ((2 * math.pi * beta).log() + squares[0] / beta) / units
    matching = 0.5 * ((snr[:-1] - snr[1:]) * squares[1:]).sum() / units
    within(found.prior.value, prior.item(), found.prior.error)
    within(found.reconstruction.value, l0.item(), found.reconstruction.error)
    within(found.matching.value, matching.item(), found.matching.error)
    within(found.total.value, (prior + l0 + matching).item(), found.total.error)


def test_in_small_steps_of_the_log_snr_the_bound_of_the_exact_denoiser_falls_to_the_entropy():
    """Small steps of λ, not of t: where λ grows by log 2 a step, near the data, the posterior's variance is too small."""
    entropy = 0.5 * math.log2(2 * math.pi * math.e * STD**2)
    denoise = gaussian_mixture(torch.ones(1), torch.zeros(1, *SHAPE), STD)
    gaps = []
    for steps in (10, 100, 3000):
        levels = torch.cat([torch.linspace(-9, 9, steps, dtype=torch.float64), torch.tensor([math.inf])])
        found = last(bounds(gaussian(), levels, None, 1, 20, 600, denoise)).total
        gaps.append(found.value - entropy)
    assert gaps[0] > gaps[1] > gaps[2] > -3 * found.error
    assert gaps[2] < 0.03 + 3 * found.error


def test_a_matching_term_is_the_divergence_of_the_two_posteriors():
    generator = seeded(3)
    x0, predicted, x = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    noisy, clean = torch.full((5,), -1.3), torch.full((5,), -0.9)
    true, std = posterior(x, x0, noisy, clean)
    other, _ = posterior(x, predicted, noisy, clean)
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Normal(true, std.expand_as(true)), torch.distributions.Normal(other, std.expand_as(true))
    )
    assert_close(denoising_matching(x0, predicted, noisy, clean), divergence.sum(1))


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "constant"])
@pytest.mark.parametrize("data", ["mnist", "cifar10"])
def test_a_schedule_that_reaches_noise_leaves_less_than_a_thousandth_of_a_bit_to_the_prior(name, data):
    x0 = of_images(held_out(data)).reference
    bits = prior_matching(x0, grid(SCHEDULES[name](), 1)[0]) / math.log(2) / x0[0].numel()
    assert 0 <= bits.mean() <= 1e-3


def test_a_schedule_that_does_not_reach_noise_pays_for_it():
    x0 = of_images(held_out("mnist")).reference
    assert prior_matching(x0, grid(Constant(), 1)[0]).mean() / math.log(2) / 784 > 1e-3


@pytest.mark.parametrize("log_snr", [-4.0, 2.0, 10.0])
def test_the_masses_of_all_grey_levels_sum_to_one(log_snr):
    levels = (torch.arange(256) / 127.5 - 1)[:, None]
    predicted = torch.full_like(levels, 0.3)
    surprise = discretised_reconstruction(levels, predicted, torch.full((256,), log_snr))
    assert_close((-surprise).exp().sum(), torch.tensor(1.0, dtype=torch.float64))


def test_a_picture_that_the_decoder_misses_has_a_finite_surprise():
    black, white = -torch.ones(1, 4), torch.ones(1, 4)
    surprise = discretised_reconstruction(black, white, torch.tensor([12.0]))
    assert surprise.isfinite().all() and surprise > 1e4


def test_the_mass_between_infinite_ends_is_all():
    infinite = torch.tensor([math.inf], dtype=torch.float64)
    assert_close(log_mass_between(-infinite, infinite), torch.zeros(1, dtype=torch.float64))


@pytest.mark.parametrize("steps", [1, 2, 3, 17, 250, 1000])
def test_the_ranges_of_t_cover_every_step_once(steps):
    covered = [t for first, last in strata(steps) for t in range(first, last + 1)]
    assert covered == list(range(1, steps + 1))
    assert strata(steps)[0] == (1, 1)


@pytest.mark.parametrize("name", TOYS)
def test_the_log_density_of_a_toy_integrates_to_one(name):
    edge, dimensions = (12, 1) if name == "mixture1d" else (1.5, 2)
    axis = ((torch.arange(300, dtype=torch.float64) + 0.5) / 300 * 2 - 1) * edge
    grid = torch.stack(torch.meshgrid([axis] * dimensions, indexing="ij"), -1).reshape(-1, dimensions)
    mass = sum(TOYS[name].log_density(points).exp().sum() for points in grid.split(10_000))
    assert mass * (2 * edge / 300) ** dimensions == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("name", ["mixture1d", "moons", "checkerboard", "gaussians"])
@pytest.mark.parametrize("steps", [5, 1000])
def test_the_bound_with_the_exact_denoiser_is_never_below_the_exact_value(name, steps):
    found = last(estimates(Likelihood(name, denoiser="exact", steps=steps), None, rounds=8))
    assert found.total.value >= found.exact.value - 4 * math.hypot(found.total.error, found.exact.error)


def test_the_error_of_the_estimate_is_that_of_its_repetitions():
    denoise = gaussian_mixture(torch.ones(1), torch.zeros(1, *SHAPE), STD)
    made = [last(bounds(gaussian(), grid(Linear(), 20), None, seed, 20, 2, denoise)) for seed in range(40)]
    spread = torch.tensor([one.matching.value for one in made]).std().item()
    stated = sum(one.matching.error for one in made) / len(made)
    assert 0.6 < stated / spread < 1.6


def test_an_estimate_comes_after_every_round_and_its_error_falls():
    made = list(estimates(Likelihood("gaussians", denoiser="exact"), None, rounds=12))
    assert len(made) == 12 and made[-1].total.error < made[0].total.error
    assert all(a.evaluations < b.evaluations for a, b in pairwise(made))


def test_the_same_settings_give_the_same_estimate_and_another_seed_another():
    first, again, other = (
        last(estimates(Likelihood("moons", denoiser="exact", seed=seed), None, rounds=2)).total for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_wrong_setting_of_a_link_is_corrected_and_named():
    asked, notes = Likelihood.from_query({"data": "mnits", "steps": "99999", "schedule": "cosine"})
    assert (asked.data, asked.steps, asked.schedule) == ("mnist", 1000, "cosine")
    assert len(notes) == 2 and "1000" in notes[1]


# --- the page ---------------------------------------------------------------------------------------------------------

LINK = "/likelihood?data=gaussians&denoiser=exact&steps=50&schedule=cosine&seed=3"
DONE = "d.state === 'finished' && d.plots === 'ready'"
CELLS = (
    "[...document.querySelectorAll('.numbers tbody tr:not([hidden]) td:nth-child(2)')].map(cell => cell.textContent)"
)


def open_lesson(page, url):
    page.goto(url)
    wait(page, DONE)
    return page.evaluate(CELLS)


def value(text):
    return float(text.split()[0].replace("−", "-"))


def test_the_page_states_the_terms_their_sum_and_the_exact_value(page, server):
    _, matching, l0, total, exact = open_lesson(page, server + LINK)
    assert value(total) == pytest.approx(value(matching) + value(l0), abs=0.01)
    assert value(total) > value(exact) and "±" in total
    assert len(page.evaluate("document.querySelector('.refining').data")) == 4


def test_digits_are_estimated_by_the_network_and_the_estimate_is_refined(page, server):
    page.goto(server + "/likelihood?data=mnist&steps=200")
    wait(page, "Number(d.estimates) >= 2 && (document.querySelector('#stop').click(), true)")
    wait(page, "d.state === 'finished'")
    *_, total = page.evaluate(CELLS)
    assert 0.5 < value(total) < 8
    assert page.locator(".tested canvas").count() == 20
    assert page.locator(".step").inner_text() == "Averaged over 250 test pictures, of which 20 are shown"


def test_one_picture_can_be_chosen(page, server):
    page.goto(server + "/likelihood?data=mnist&of=one&example=13&steps=20")
    wait(page, "Number(d.estimates) >= 1")
    assert page.locator(".tested canvas").count() == 1
    assert page.locator("#example [aria-checked=true]").get_attribute("aria-label") == "3, example 2"
    before = page.evaluate("document.querySelector('.player').dataset.job")
    page.locator("#example [aria-checked=true]").focus()
    page.keyboard.press("ArrowRight")
    wait(page, f"d.job !== '{before}'")
    assert query(page)["example"] == "14"


def test_a_picture_of_another_data_set_can_be_picked_after_points_were_looked_at(page, server):
    open_lesson(page, server + LINK)
    for name in ("plane: spiral", "colour pictures (CIFAR-10)"):
        page.locator("#data input").click()
        page.get_by_role("option", name=name).click()
        page.wait_for_function(f"document.querySelector('#data input').value === {name!r}")
    page.locator("#example [role=radio]").nth(12).click()
    page.wait_for_function("new URL(location).searchParams.get('of') === 'one'")
    asked = query(page)
    assert (asked["data"], asked["example"]) == ("cifar10", "12")
    assert page.locator("#example [aria-checked=true]").get_attribute("aria-label") == "bird, example 2"


def test_the_keyboard_changes_t_and_the_address_follows(page, server):
    open_lesson(page, server + LINK)
    slider = page.locator("#steps input[type=range]")
    slider.focus()
    slider.press("ArrowRight")
    slider.dispatch_event("pointerup")
    page.wait_for_function("new URL(location).searchParams.get('steps') === '51'")


def test_the_address_reproduces_the_estimate(page, context, server):
    cells = open_lesson(page, server + LINK)
    other = context.new_page()
    assert open_lesson(other, page.url) == cells


def test_a_preset_shows_what_to_look_for(page, server):
    open_lesson(page, server + LINK)
    page.get_by_role("button", name="Exact, and still a gap").click()
    page.wait_for_function("document.querySelector('#look-for')?.textContent.includes('Nothing is learned here')")
    page.wait_for_function("new URL(location).searchParams.get('data') === 'mixture1d'")


def test_a_wrong_link_is_corrected_in_words(page, server):
    open_lesson(page, server + LINK.replace("steps=50", "steps=0"))
    assert "steps = 0" in page.locator(".notes").inner_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(page, server, theme):
    page.set_viewport_size({"width": 390, "height": 844})
    open_lesson(page, f"{server}{LINK}&__theme={theme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("name", ["mixture1d", "checkerboard"])
def test_the_entropy_that_is_known_is_what_many_points_have_in_the_mean(name):
    toy = TOYS[name]
    surprise = -toy.log_density(toy(200_000, seeded(3)))
    error = float(surprise.std()) / math.sqrt(len(surprise))
    assert abs(float(surprise.mean()) - likelihood.entropy(name)) < 4 * error + 1e-6
    assert likelihood.of_toy("moons", 0).entropy is None


def test_the_entropy_of_the_line_is_that_of_the_exercise():
    assert likelihood.entropy("mixture1d") / math.log(2) == pytest.approx(2.9653, abs=1e-4)
