"""Reports keep what they have, and the README's tables are filled between their markers."""

from __future__ import annotations

import json

import pytest

from ddpm.evaluate import Setting
from ddpm.report import BEGIN, END, Row, fill_readme, is_measured, merged, read_rows, write_report


def row(steps: int = 25, weights: str = "a", **changes) -> Row:
    setting = {"steps": steps, "schedule": "cosine", "eta": 0.0, "guidance": 0.0, "samples": 100, "seed": 0}
    measures = {"agreement": 0.987, "frechet": 0.3, "frechet_floor": 0.1}
    points = {"sliced_wasserstein": 0.03, "sliced_wasserstein_floor": 0.02}
    return {**setting, "made_with": {"checkpoint": weights}, **measures, **points, **changes}


def test_a_new_row_replaces_its_setting_and_drops_rows_of_other_weights():
    rows = merged([row(50), row(10)], row(25, eta=1.0))
    assert [(r["eta"], r["steps"]) for r in rows] == [(0, 10), (0, 50), (1, 25)]
    assert merged(rows, row(10, agreement=0.5))[0]["agreement"] == 0.5
    assert merged(rows, row(5, weights="b")) == [row(5, weights="b")]


def test_a_row_counts_as_measured_only_for_its_seed_weights_and_number_of_samples():
    rows, weights = [row(25)], {"checkpoint": "a"}
    assert is_measured(Setting(25, samples=100), 0, weights, rows)
    assert is_measured(Setting(25, samples=50), 0, weights, rows)
    assert not is_measured(Setting(25, samples=200), 0, weights, rows)
    assert not is_measured(Setting(25, samples=100), 1, weights, rows)
    assert not is_measured(Setting(25, samples=100), 0, {"checkpoint": "b"}, rows)
    assert not is_measured(Setting(25, eta=1.0, samples=100), 0, weights, rows)


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
    reports = [{"data": "mnist", "accuracy": 0.9956, "rows": [row()]}, {"data": "moons", "rows": [row(10)]}]
    filled = fill_readme(text, reports)
    assert filled.startswith(f"# Title\n{BEGIN}\n") and filled.endswith(f"{END}\nend\n")
    assert "old" not in filled and fill_readme(filled, reports) == filled
    assert "| 25 | cosine | 0 | 0 | 100 | 98.7% | 0.3 | 0.1 | 3.0 |" in filled
    assert "| moons | 0.03 (1.5×) |" in filled and "99.56%" in filled


@pytest.mark.parametrize("text", ["nothing", BEGIN, END])
def test_a_readme_without_a_marker_is_refused(text):
    with pytest.raises(ValueError, match="lacks the marker"):
        fill_readme(text, [])
