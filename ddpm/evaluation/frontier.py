"""Quality against the number of steps: the curves of the samplers, and their figure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from html import escape
from typing import Any, NamedTuple

from ddpm.evaluation.judges import FRONTIER, FRONTIER_STEPS
from ddpm.plots import CLASS_COLOURS

Row = dict[str, Any]
"""A setting, what it was measured with, and the measures."""


def sampler_name(row: Row) -> str:
    """What the field calls a sampler."""
    if row["sampler"] == "ddim":
        return {0: "DDIM", 1: "DDPM"}.get(row["eta"], f"DDIM, η = {row['eta']:g}")
    return {"ddpm-beta": "DDPM, σ² = β", "dpm-solver++": "DPM-Solver++(2M)", "heun": "Heun"}[row["sampler"]]


# --- quality against the number of steps ----------------------------------------------------------------------------


class Point(NamedTuple):
    """How far the samples of ``steps`` steps are above the Fréchet distance's floor, give or take ``std``."""

    steps: int
    excess: float
    std: float


def frontier(rows: list[Row]) -> dict[str, list[Point]]:
    """For each sampler that the frontier compares, by its name: the rows that judge it with the cosine schedule.

    The floor falls with the number of samples, which differs between the points; what lies above it does not.
    A sampler with fewer than two points is left out.
    """
    curves: dict[str, list[Point]] = {}
    for way in FRONTIER:
        same = {name: value for name, value in asdict(way).items() if name not in ("steps", "samples")}
        mine = [row for row in rows if same.items() <= row.items() and "frechet_floor_std" in row]
        points = [_point(row) for row in mine if row["steps"] in FRONTIER_STEPS]
        if len(points) > 1:
            curves[sampler_name(asdict(way))] = sorted(points)
    return curves


def _point(row: Row) -> Point:
    return Point(row["steps"], row["frechet"] - row["frechet_floor"], row["frechet_floor_std"])


def frontier_path(data: str) -> str:
    """The frontier's figure, as the folder of the results' document sees it."""
    return f"frontier-{data}.svg"


# --- quality against the number of steps ----------------------------------------------------------------------------

INK = "#6e7781"
"""A grey that reads on white and on GitHub's dark page: 4.6 and 4.1 times as bright or dark as they are."""


def figure(curves: Mapping[str, list[Point]], title: str) -> str:
    """An SVG of samplers' curves: steps along a logarithmic axis, the excess of the Fréchet distance up a square-root
    one, with a whisker of one standard deviation. What is below the floor stands on it."""
    points = [point for curve in curves.values() for point in curve]
    fewest, most = min(points).steps, max(points).steps
    highest = max(point.excess + point.std for point in points)

    def x(steps: int) -> float:
        return 60 + 630 * math.log(steps / fewest) / math.log(most / fewest)

    def y(excess: float) -> float:
        return 340 - 270 * math.sqrt(max(excess, 0) / highest)

    marks = [_text(60, 24, "Fréchet distance above its floor", "start"), _text(375, 388, "steps T")]
    for value in (0, *(digit * 10.0**power for power in range(-3, 3) for digit in (1, 3))):
        if value <= highest and (value == 0 or y(value) < y(highest / 200)):
            marks += [_line(60, y(value), 690, y(value), INK, 0.2), _text(52, y(value) + 4, f"{value:g}", "end")]
    for steps in sorted({point.steps for point in points}):
        marks.append(_text(x(steps), 362, str(steps)))
    for place, ((name, curve), colour) in enumerate(zip(curves.items(), CLASS_COLOURS)):
        marks += [_dot(80 + 150 * place, 46, colour), _text(90 + 150 * place, 50, name, "start")]
        path = " ".join(f"{x(point.steps):.1f},{y(point.excess):.1f}" for point in curve)
        marks.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in curve:
            ends = y(point.excess - point.std), y(point.excess + point.std)
            marks.append(_line(x(point.steps), ends[0], x(point.steps), ends[1], colour, 0.6))
            marks.append(_dot(x(point.steps), y(point.excess), colour))
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 400" role="img" font-family="sans-serif">'
    return "\n".join([head, f"<title>{escape(title)}</title>", *marks, "</svg>\n"])


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{INK}" font-size="13" text-anchor="{anchor}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, opacity: float) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="1.5" stroke-opacity="{opacity}"/>'


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
