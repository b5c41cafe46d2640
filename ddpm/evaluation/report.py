"""Reports of evaluations: the JSON beside a checkpoint, and the tables of docs/results.md and the frontier made from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ddpm.evaluation.frontier import Row, frontier, frontier_path, sampler_name
from ddpm.evaluation.judges import Setting
from ddpm.files import read_json, write_beside

# --- the JSON beside a checkpoint -----------------------------------------------------------------------------------


def digest(path: Path) -> str:
    """The SHA-256 of a file, which tells the weights that a row was measured with."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_rows(path: Path) -> list[Row]:
    """The rows of a report; none if there is no file. Raises ValueError if it is no report.

    Rows from before there was a choice of samplers were all measured with the default one.
    """
    if not path.is_file():
        return []
    needed = {*Setting.__dataclass_fields__, "seed", "made_with"}
    try:
        rows = [{"sampler": Setting.sampler, **row} for row in read_json(path)["rows"]]
        complete = all(needed <= row.keys() for row in rows)
    except (ValueError, KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        raise ValueError(f"{path} is not a report of this program; move it away to start anew.")
    return rows


def write_report(path: Path, about: Mapping[str, Any], rows: list[Row]) -> None:
    """Writes a report, whole at every moment: an interrupted evaluation keeps the rows that it has."""
    write_beside(path, (json.dumps({**about, "rows": rows}, indent=1, ensure_ascii=False) + "\n").encode())


def is_measured(
    setting: Setting, seed: int, made_with: Mapping[str, str], measures: Collection[str], rows: list[Row]
) -> bool:
    """Whether ``rows`` hold all ``measures`` of ``setting`` for this seed and these weights, by enough samples."""
    same = {**asdict(setting), "seed": seed, "made_with": dict(made_with)}
    samples = same.pop("samples")
    whole = (row for row in rows if all(row.get(name) is not None for name in measures))
    return any(row["samples"] >= samples and same.items() <= row.items() for row in whole)


def merged(rows: list[Row], new: Row) -> list[Row]:
    """``rows`` with ``new`` in place of its setting's row, in the table's order; rows of other weights are dropped."""
    kept = [row for row in rows if row["made_with"] == new["made_with"] and _place(row) != _place(new)]
    return sorted([*kept, new], key=_place)


def _place(row: Row) -> tuple[float, bool, str, str, float, int]:
    return row["guidance"], row["schedule"] != "cosine", row["schedule"], row["sampler"], row["eta"], row["steps"]


# --- the tables of docs/results.md -------------------------------------------------------------------------------------

BEGIN, END = "<!-- quality:begin -->", "<!-- quality:end -->"


def fill_readme(text: str, reports: list[dict[str, Any]]) -> str:
    """``text`` with the tables of ``reports`` between its two markers. Raises ValueError if a marker is missing."""
    images = [report for report in reports if "accuracy" in report]
    toys = [report for report in reports if "accuracy" not in report]
    tables = [image_table(report) for report in images] + ([toy_table(toys)] if toys else [])
    if fields := [report for report in toys if "field" in report]:
        tables.append(field_table(fields))
    return _between(text, BEGIN, END, "\n".join(tables))


def _between(text: str, begin: str, end: str, content: str) -> str:
    """``text`` with ``content`` between its two markers. Raises ValueError if one is missing."""
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"The document lacks the marker {end if found else begin}; the tables go between two such.")
    return f"{before}{begin}\n{content}\n{end}{after}"


def image_table(report: Mapping[str, Any]) -> str:
    """Markdown: one row a setting, and the frontier's figure if it has been measured."""
    title = (
        f"**{report['data']}{', the student of few steps' if report.get('student') else ''}**, judged by a classifier that is right on {report['accuracy']:.2%} of the test set "
        "(in brackets: training images in the samples' place)\n\n"
    )
    rows = report["rows"]
    columns = {name: cell for name, cell in IMAGE_COLUMNS.items() if any(cell(row) for row in rows)}
    table = title + _markdown(tuple(columns), [tuple(cell(row) for cell in columns.values()) for row in rows])
    if not frontier(rows):
        return table
    return table + f"\n![Quality against the number of steps on {report['data']}]({frontier_path(report['data'])})\n"


def _beside(row: Row, name: str, reference: str, form: str) -> str:
    """A measure and, in brackets, its reference; nothing if the row is of a time before the measure."""
    return f"{row[name]:{form}} ({row[reference]:{form}})" if name in row else ""


IMAGE_COLUMNS: dict[str, Callable[[Row], str]] = {
    "T": lambda row: str(row["steps"]),
    "sampler": sampler_name,
    "schedule": lambda row: row["schedule"],
    "w": lambda row: f"{row['guidance']:g}",
    "samples": lambda row: f"{row['samples']:,}",
    "label agreement": lambda row: f"{row['agreement']:.1%}",
    "Fréchet distance": lambda row: _beside(row, "frechet", "frechet_floor", ".3g"),
    "ratio": lambda row: f"{row['frechet'] / row['frechet_floor']:.1f}",
    "precision": lambda row: _beside(row, "precision", "precision_real", ".1%"),
    "recall": lambda row: _beside(row, "recall", "recall_real", ".1%"),
    "nearest": lambda row: f"{row['nearest_ratio']:.2f}" if "nearest_ratio" in row else "",
    "near copies": lambda row: f"{row['nearest_share']:.1%}" if "nearest_share" in row else "",
    "FID": lambda row: f"{row['fid']:.2f}" if row.get("fid") is not None else "",
}
"""The columns of images; one that is empty throughout is left out."""


LIKELIHOOD_BEGIN, LIKELIHOOD_END = "<!-- likelihood:begin -->", "<!-- likelihood:end -->"


def fill_likelihood(text: str, rows: Iterable[Row]) -> str:
    """``text`` with the table of the bounds ``rows`` between its two markers. Raises ValueError if one is missing."""
    names = ("data", "T", "schedule", "evaluations", "L_T", "Σ L_{t−1}", "L_0", "bound")
    lines = [
        (
            *(row["data"], f"{row['steps']:,}", row["schedule"], f"{row['evaluations']:,}", f"{row['prior']:.2g}"),
            *(f"{row[part]:.3f}" for part in ("matching", "reconstruction")),
            f"{row['total']:.3f} ± {row['error']:.3f}",
        )
        for row in rows
    ]
    return _between(text, LIKELIHOOD_BEGIN, LIKELIHOOD_END, _markdown(names, lines))


def toy_table(reports: list[dict[str, Any]]) -> str:
    """Markdown: one row a toy, one column a setting, cells with the sliced Wasserstein distance and its ratio."""
    places = {_column(row): _place(row) for report in reports for row in report["rows"]}
    columns = sorted(places, key=places.__getitem__)
    lines = []
    for report in reports:
        cells = {_column(row): _cell(row) for row in report["rows"]}
        lines.append((report["data"], *(cells.get(column, "") for column in columns)))
    title = "**Toys**, sliced 2-Wasserstein distance to held-out points"
    about = "(in brackets: how many times its floor; near 1 and below, the difference is chance)"
    return f"{title} {about}\n\n" + _markdown(("data", *columns), lines)


def _column(row: Row) -> str:
    return f"T = {row['steps']}, {row['schedule']}, {sampler_name(row)}"


def _cell(row: Row) -> str:
    near, floor = row["sliced_wasserstein"], row["sliced_wasserstein_floor"]
    return f"{near:.2g} ({near / floor:.1f}×)"


def field_table(reports: list[dict[str, Any]]) -> str:
    """Markdown: one row a toy, one column a time, cells with the relative error of the learned field."""
    title = "**Toys**, relative error ‖ε̂ − ε‖ / ‖ε‖ of the learned field at time t of the cosine schedule\n\n"
    times = reports[0]["field"]["t"]
    lines = [
        (report["data"], *(f"{error:.1%}" for error in (*report["field"]["relative"], report["field"]["mean"])))
        for report in reports
    ]
    return title + _markdown(("data", *(f"t = {t:g}" for t in times), "mean"), lines)


def _markdown(header: tuple[str, ...], lines: Iterable[tuple[Any, ...]]) -> str:
    rule = ("---",) * len(header)
    return "".join("| " + " | ".join(map(str, cells)) + " |\n" for cells in (header, rule, *lines))
