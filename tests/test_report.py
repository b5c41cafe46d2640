"""Reports keep what they have, and the README's tables are filled between their markers."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from ddpm.evaluation.frontier import Point, Row, frontier
from ddpm.evaluation.judges import Setting
from ddpm.evaluation.report import (
    BEGIN,
    END,
    LIKELIHOOD_BEGIN,
    LIKELIHOOD_END,
    fill_likelihood,
    fill_readme,
    is_measured,
    merged,
    read_rows,
    write_report,
)


def row(steps: int = 25, weights: str = "a", **changes) -> Row:
    setting = {**asdict(Setting(steps, samples=100)), "seed": 0}
    measures = {"agreement": 0.987, "frechet": 0.3, "frechet_floor": 0.1, "frechet_floor_std": 0.01}
    points = {"sliced_wasserstein": 0.03, "sliced_wasserstein_floor": 0.02}
    return {**setting, "made_with": {"checkpoint": weights}, **measures, **points, **changes}


def test_a_new_row_replaces_its_setting_and_drops_rows_of_other_weights():
    rows = merged([row(50), row(10)], row(25, eta=1.0))
    assert [(r["eta"], r["steps"]) for r in rows] == [(0, 10), (0, 50), (1, 25)]
    assert merged(rows, row(10, agreement=0.5))[0]["agreement"] == 0.5
    assert merged(rows, row(5, weights="b")) == [row(5, weights="b")]


def test_a_row_counts_as_measured_only_for_its_seed_weights_measures_and_number_of_samples():
    def measured(setting: Setting, seed: int = 0, weights: str = "a", measures: tuple[str, ...] = ("frechet",)) -> bool:
        return is_measured(setting, seed, {"checkpoint": weights}, measures, [row(25, fid=None)])

    assert measured(Setting(25, samples=100))
    assert measured(Setting(25, samples=50))
    assert not measured(Setting(25, samples=200))
    assert not measured(Setting(25, samples=100), seed=1)
    assert not measured(Setting(25, samples=100), weights="b")
    assert not measured(Setting(25, eta=1.0, samples=100))
    assert not measured(Setting(25, sampler="heun", samples=100))
    assert not measured(Setting(25, samples=100), measures=("frechet", "recall"))
    assert not measured(Setting(25, samples=100), measures=("fid",))


def test_a_row_from_before_the_choice_of_samplers_is_one_of_the_default_sampler(tmp_path):
    old = row(25)
    del old["sampler"]
    write_report(tmp_path / "mnist.json", {"data": "mnist"}, [old])
    assert read_rows(tmp_path / "mnist.json") == [row(25, sampler="ddim")]


def test_a_report_survives_its_file_and_a_damaged_one_is_named(tmp_path):
    path = tmp_path / "mnist.json"
    assert read_rows(path) == []
    write_report(path, {"data": "mnist"}, [row()])
    assert read_rows(path) == [row()] and json.loads(path.read_text())["data"] == "mnist"
    for damaged in ('{"rows": [', "[]", '{"rows": [1]}', '{"rows": [{"steps": 1}]}'):
        path.write_text(damaged)
        with pytest.raises(ValueError, match="mnist.json is not a report"):
            read_rows(path)


def test_the_readme_changes_between_its_markers_only_and_twice_gives_the_same():
    text = f"# Title\n{BEGIN}\nold\n{END}\nend\n"
    field = {"t": [0.25, 0.75], "log_snr": [2.0, -2.0], "relative": [0.123, 0.01], "mean": 0.0665}
    moons = {"data": "moons", "field": field, "rows": [row(10)]}
    reports = [{"data": "mnist", "accuracy": 0.9956, "rows": [row()]}, moons]
    filled = fill_readme(text, reports)
    assert filled.startswith(f"# Title\n{BEGIN}\n") and filled.endswith(f"{END}\nend\n")
    assert "old" not in filled and fill_readme(filled, reports) == filled
    assert "| 25 | DDIM | cosine | 0 | 100 | 98.7% | 0.3 (0.1) | 3.0 |" in filled
    assert "| moons | 0.03 (1.5×) |" in filled and "99.56%" in filled
    assert "| moons | 12.3% | 1.0% | 6.7% |" in filled


def test_a_column_stands_in_the_table_once_a_row_has_its_measure():
    def table(*rows: Row) -> str:
        return fill_readme(BEGIN + END, [{"data": "mnist", "accuracy": 0.99, "rows": list(rows)}])

    assert "recall" not in table(row(10)) and "FID" not in table(row(10, fid=None))
    newer = table(row(10), row(25, recall=0.5, recall_real=0.75, fid=3.17))
    assert "| 50.0% (75.0%) | 3.17 |" in newer and "| recall | FID |" in newer


def test_the_frontier_is_what_each_sampler_leaves_above_the_floor_by_steps():
    rows = [row(10, eta=1.0), row(5, eta=1.0, frechet=0.5), row(10, sampler="dpm-solver++"), row(25, schedule="linear")]
    points = [Point(5, pytest.approx(0.4), 0.01), Point(10, pytest.approx(0.2), 0.01)]
    assert frontier(rows) == {"DDPM": points}
    assert list(frontier([*rows, row(25, sampler="dpm-solver++")])) == ["DDPM", "DPM-Solver++(2M)"]
    report = {"data": "mnist", "accuracy": 0.99, "rows": rows}
    assert "](frontier-mnist.svg)" in fill_readme(BEGIN + END, [report])


@pytest.mark.parametrize("text", ["nothing", BEGIN, END])
def test_a_readme_without_a_marker_is_refused(text):
    with pytest.raises(ValueError, match="lacks the marker"):
        fill_readme(text, [])


BOUND = {"data": "mnist", "steps": 1000, "schedule": "linear", "evaluations": 6200, "prior": 2.9e-05, "matching": 0.75}
BOUND |= {"reconstruction": 0.9756, "total": 1.7256, "error": 0.0081}


def test_the_bounds_stand_between_their_markers_and_can_be_written_again():
    text = f"before {LIKELIHOOD_BEGIN} old {LIKELIHOOD_END} after"
    filled = fill_likelihood(text, [BOUND])
    assert "| mnist | 1,000 | linear | 6,200 | 2.9e-05 | 0.750 | 0.976 | 1.726 ± 0.008 |" in filled
    assert "old" not in filled and fill_likelihood(filled, [BOUND]) == filled
    with pytest.raises(ValueError, match="likelihood:end"):
        fill_likelihood(LIKELIHOOD_BEGIN, [BOUND])
