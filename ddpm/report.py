"""Reports of evaluations: the JSON beside a checkpoint, and the README's tables made from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ddpm.checkpoint import write_beside
from ddpm.evaluate import Setting

Row = dict[str, Any]
"""A setting, what it was measured with, and the measures."""


# --- the JSON beside a checkpoint -----------------------------------------------------------------------------------


def digest(path: Path) -> str:
    """The SHA-256 of a file, which tells the weights that a row was measured with."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_rows(path: Path) -> list[Row]:
    """The rows of a report; none if there is no file. Raises ValueError if it is no report."""
    if not path.is_file():
        return []
    needed = {*Setting.__dataclass_fields__, "seed", "made_with"}
    try:
        rows = json.loads(path.read_text("utf-8"))["rows"]
        complete = all(needed <= row.keys() for row in rows)
    except (ValueError, KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        raise ValueError(f"{path} is not a report of this program; move it away to start anew.")
    return rows


def write_report(path: Path, about: Mapping[str, Any], rows: list[Row]) -> None:
    """Writes a report, whole at every moment: an interrupted evaluation keeps the rows that it has."""
    write_beside(path, (json.dumps({**about, "rows": rows}, indent=1, ensure_ascii=False) + "\n").encode())


def is_measured(setting: Setting, seed: int, made_with: Mapping[str, str], rows: list[Row]) -> bool:
    """Whether ``rows`` hold ``setting`` for this seed and these weights, by at least as many samples."""
    same = {**asdict(setting), "seed": seed, "made_with": dict(made_with)}
    samples = same.pop("samples")
    return any(row["samples"] >= samples and same.items() <= row.items() for row in rows)


def merged(rows: list[Row], new: Row) -> list[Row]:
    """``rows`` with ``new`` in place of its setting's row, in the table's order; rows of other weights are dropped."""
    kept = [row for row in rows if row["made_with"] == new["made_with"] and _place(row) != _place(new)]
    return sorted([*kept, new], key=_place)


def _place(row: Row) -> tuple[float, bool, str, float, int]:
    return row["guidance"], row["schedule"] != "cosine", row["schedule"], row["eta"], row["steps"]


# --- the tables of the README ---------------------------------------------------------------------------------------

BEGIN, END = "<!-- quality:begin -->", "<!-- quality:end -->"


def fill_readme(text: str, reports: list[dict[str, Any]]) -> str:
    """``text`` with the tables of ``reports`` between its two markers. Raises ValueError if a marker is missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"The README lacks the marker {END if begin else BEGIN}; the tables go between two such.")
    images = [report for report in reports if "accuracy" in report]
    toys = [report for report in reports if "accuracy" not in report]
    tables = [image_table(report) for report in images] + ([toy_table(toys)] if toys else [])
    return before + begin + "\n" + "\n".join(tables) + "\n" + end + after


def image_table(report: Mapping[str, Any]) -> str:
    """Markdown: one row a setting."""
    title = (
        f"**{report['data']}**, judged by a classifier that is right on {report['accuracy']:.2%} of the test set\n\n"
    )
    header = ("T", "schedule", "η", "w", "samples", "label agreement", "Fréchet distance", "its floor", "ratio")
    lines = []
    for row in report["rows"]:
        near, floor = row["frechet"], row["frechet_floor"]
        how = (row["steps"], row["schedule"], f"{row['eta']:g}", f"{row['guidance']:g}", f"{row['samples']:,}")
        lines.append((*how, f"{row['agreement']:.1%}", f"{near:.3g}", f"{floor:.3g}", f"{near / floor:.1f}"))
    return title + _markdown(header, lines)


def toy_table(reports: list[dict[str, Any]]) -> str:
    """Markdown: one row a toy, one column a setting, cells with the sliced Wasserstein distance and its ratio."""
    places = {_column(row): _place(row) for report in reports for row in report["rows"]}
    columns = sorted(places, key=places.__getitem__)
    lines = []
    for report in reports:
        cells = {_column(row): _cell(row) for row in report["rows"]}
        lines.append((report["data"], *(cells.get(column, "") for column in columns)))
    title = "**Toys**, sliced 2-Wasserstein distance to held-out points (in brackets: how many times its floor)\n\n"
    return title + _markdown(("data", *columns), lines)


def _column(row: Row) -> str:
    return f"T = {row['steps']}, {row['schedule']}, η = {row['eta']:g}"


def _cell(row: Row) -> str:
    near, floor = row["sliced_wasserstein"], row["sliced_wasserstein_floor"]
    return f"{near:.2g} ({near / floor:.1f}×)"


def _markdown(header: tuple[str, ...], lines: Iterable[tuple[Any, ...]]) -> str:
    rule = ("---",) * len(header)
    return "".join("| " + " | ".join(map(str, cells)) + " |\n" for cells in (header, rule, *lines))
