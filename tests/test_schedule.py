import math
import re

import pytest
import torch
from torch.testing import assert_close

from ddpm.schedule import (
    LOG_SNR_MIN,
    SCHEDULES,
    Constant,
    Cosine,
    Linear,
    Polynomial,
    Sigmoid,
    Table,
    alpha,
    alpha_bar,
    betas,
    grid,
    sigma,
)

TABLES = [Table((0.5,)), Table((0.9, 0.01, 0.3)), Table(tuple(torch.linspace(1e-4, 0.02, 100).tolist()))]
TRUNCATED = [Cosine(), Cosine(s=0), Cosine(s=0.1), Polynomial(), Polynomial(0.5), Polynomial(5), Sigmoid(), Sigmoid(9)]
CURVES = [*(kind() for kind in SCHEDULES.values()), *TRUNCATED, Constant(0.5), Constant(20), *TABLES]

every_curve = pytest.mark.parametrize("schedule", CURVES, ids=lambda schedule: repr(schedule)[:30])


@every_curve
def test_log_snr_decreases_strictly_from_data_to_noise(schedule):
    log_snr = schedule.log_snr(torch.linspace(0, 1, 1001)[1:])
    assert log_snr.dtype == torch.float64
    assert (log_snr.diff() < 0).all()


@every_curve
@pytest.mark.parametrize("steps", [1, 2, 10, 1000])
def test_every_beta_of_a_grid_lies_between_0_and_1(schedule, steps):
    beta = betas(grid(schedule, steps))
    assert beta.shape == (steps,)
    assert ((0 < beta) & (beta < 1)).all()


@every_curve
def test_a_grid_ends_at_the_data_and_halving_its_steps_keeps_every_second_level(schedule):
    fine, coarse = grid(schedule, 20), grid(schedule, 10)
    assert fine[-1] == math.inf
    assert_close(coarse, fine[::2])


@pytest.mark.parametrize("log_snr", [-math.inf, LOG_SNR_MIN, -1.0, 0.0, 1.0, 12.0, math.inf])
def test_the_process_preserves_variance_and_has_the_log_snr_it_is_named_by(log_snr):
    a, s = alpha(torch.tensor(log_snr)), sigma(torch.tensor(log_snr))
    assert a**2 + s**2 == pytest.approx(1, abs=1e-15)
    assert (a**2 / s**2).log() == pytest.approx(log_snr)


def test_linear_is_within_a_tenth_of_the_papers_table_in_log_snr():
    """The table of Ho et al. 2020, section 4."""
    paper = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0).logit()
    assert_close(grid(Linear(), 1000)[:-1].flip(0), paper, atol=0.1, rtol=0)


def test_constant_at_5_stands_for_250_equal_steps_of_beta_0_02():
    assert_close(betas(grid(Constant(5), 250)), torch.full((250,), 0.02, dtype=torch.float64), atol=0, rtol=0.01)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: len(table.betas))
def test_as_many_steps_as_a_table_has_entries_give_its_betas_back(table):
    given = torch.tensor(table.betas, dtype=torch.float64)
    assert_close(betas(grid(table, len(given))).flip(0), given, atol=1e-12, rtol=0)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: len(table.betas))
@pytest.mark.parametrize("steps", [1, 7])
def test_any_number_of_steps_of_a_table_ends_at_its_noise(table, steps):
    left = (1 - torch.tensor(table.betas, dtype=torch.float64)).prod()
    assert_close(alpha_bar(grid(table, steps)[0]), left)


def cosine_paper(s):
    """Nichol & Dhariwal 2021, eq. 17."""

    def f(t):
        return math.cos((t + s) / (1 + s) * math.pi / 2) ** 2

    return lambda t: f(t) / f(0)


def polynomial(p):
    return lambda t: 1 - t**p


def sigmoid_paper(reach):
    """Jabri et al. 2022, algorithm 1, with start = −reach, end = reach, tau = 1."""

    def f(t):
        return 1 / (1 + math.exp(reach - 2 * reach * t))

    return lambda t: (f(1) - f(t)) / (f(1) - f(0))


def time_at(alpha_bar, level):
    """The t at which the decreasing ``alpha_bar`` reaches ``level``, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if alpha_bar(middle) > level else (low, middle)
    return low


@pytest.mark.parametrize(
    ("schedule", "published"),
    [
        (Cosine(), cosine_paper(0.008)),
        (Cosine(s=0.1), cosine_paper(0.1)),
        (Polynomial(), polynomial(2)),
        (Polynomial(0.5), polynomial(0.5)),
        (Sigmoid(), sigmoid_paper(3)),
        (Sigmoid(1), sigmoid_paper(1)),
    ],
    ids=lambda value: "published" if callable(value) else repr(value),
)
def test_a_truncated_curve_is_the_published_one_up_to_its_last_level(schedule, published):
    t_max = time_at(published, alpha_bar(torch.tensor(LOG_SNR_MIN)).item())
    t = torch.linspace(0, 1, 101, dtype=torch.float64)[1:]
    expected = torch.tensor([published(t_max * time) for time in t.tolist()], dtype=torch.float64)
    assert_close(alpha_bar(schedule.log_snr(t)), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("schedule", TRUNCATED, ids=repr)
def test_a_curve_that_would_end_at_minus_infinity_ends_at_minus_12(schedule):
    assert schedule.log_snr(torch.tensor(1.0)) == pytest.approx(-12)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *((kind, value) for kind in (Polynomial, Sigmoid, Constant) for value in (0.0, -1.5, math.nan)),
        *((Cosine, value) for value in (-0.1, math.nan)),
        *((lambda beta: Table((0.5, beta)), value) for value in (0.0, 1.0, -0.2, math.nan)),
        (lambda steps: grid(Linear(), steps), 0),
        (lambda steps: grid(Linear(), steps), -3),
    ],
)
def test_a_bad_parameter_is_refused_with_a_sentence_that_names_it(kind, value):
    with pytest.raises(ValueError, match=rf"{re.escape(str(value))}[;,].*\.$"):
        kind(value)


def test_an_empty_table_is_refused():
    with pytest.raises(ValueError, match="empty"):
        Table(())
