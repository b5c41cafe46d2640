"""The numbers of Algorithm 2's lines, and what a step adds to its mean."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from ddpm.algorithm import SECOND_ORDER, added, lines
from ddpm.process import noise_from_x0, posterior
from ddpm.run import Run
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


def pairs(run):
    steps = states(run)
    return list(pairwise(steps))


@every_run
def test_both_ways_to_write_the_mean_give_that_of_the_run(run):
    for step, after in pairs(run):
        numbers, noise = lines(run, step.log_snr, after.log_snr), noise_from_x0(step.x, step.x0, step.log_snr)
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
        numbers, rest = lines(run, step.log_snr, after.log_snr), added(run, step, after.log_snr, after.x)
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


@pytest.mark.parametrize("sampler", SECOND_ORDER)
def test_what_a_second_order_sampler_adds_leads_from_the_step_of_ddim_to_its_own(sampler):
    run, largest = Run(steps=5, sampler=sampler), 0.0
    for step, after in pairs(run):
        numbers, rest = lines(run, step.log_snr, after.log_snr), added(run, step, after.log_snr, after.x)
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
    found = [lines(run, *pair) for pair in pairwise(levels)]
    assert_close(torch.tensor([one.beta for one in found]), betas(levels).float())
    assert_close(torch.tensor([one.alpha_bar for one in found]), alpha_bar(levels[:-1]).float())
    for one in found:
        assert one.alpha == pytest.approx(one.alpha_bar / one.alpha_bar_next)
        assert one.root**2 + one.sigma**2 == pytest.approx(1)
        assert one.std == pytest.approx(math.sqrt((1 - one.alpha_bar_next) / (1 - one.alpha_bar) * one.beta))


def test_the_other_variance_of_algorithm_2_is_beta():
    levels = grid(Run().curve, 10)
    for pair in pairwise(levels):
        one = lines(Run(sampler="ddpm-beta"), *pair)
        assert one.std == one.own_std == pytest.approx(math.sqrt(one.beta))
