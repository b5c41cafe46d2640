"""Arrays to Plotly figures, images and drawings. Colours tell apart under the common colour blindnesses and on light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from ddpm.data import Projection
from ddpm.evaluation.report import Point

CLASS_COLOURS = (
    "#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE",
    "#AA3377", "#EE8866", "#999933", "#44BB99", "#9970AB",
)  # fmt: skip
"""Ten hues after Paul Tol's bright, light and muted sets; where they stand, the class's name stands too."""


def projection(cloud: Projection) -> go.Figure:
    """The real images of ``cloud`` in the plane of their two leading principal components, with each class's name.

    Names of one letter stand in the plane, longer ones in the legend.
    """
    figure = go.Figure()
    short = all(len(name) == 1 for name in cloud.names)
    for label, name in enumerate(cloud.names):
        points = cloud.points[cloud.labels == label]
        colour = CLASS_COLOURS[label % len(CLASS_COLOURS)]
        marker = {"size": 4, "color": colour, "opacity": 0.3}
        cloud_of = {"mode": "markers", "name": name, "hoverinfo": "skip", "legendgroup": name}
        figure.add_scatter(x=points[:, 0], y=points[:, 1], marker=marker, showlegend=False, **cloud_of)
        if not short:
            figure.add_scatter(x=[None], y=[None], marker={"size": 8, "color": colour}, **cloud_of)
        else:
            x, y = np.median(points, 0)
            figure.add_annotation(x=x, y=y, text=name, showarrow=False, opacity=0.8, font={"size": 13, "color": colour})
    legend = {"orientation": "h", "y": -0.3, "yanchor": "top", "itemsizing": "constant", "font": {"size": 11}}
    figure.update_layout(showlegend=not short, legend=legend)
    share = cloud.explained
    figure.update_xaxes(title=f"component 1 ({share[0]:.0%} of the variance)")
    figure.update_yaxes(title=f"component 2 ({share[1]:.0%})", scaleanchor="x")
    return figure


def columns(count: int) -> int:
    """How many columns a grid of ``count`` pictures has: 5, 4 or 3 if that fills the rows, else a square's."""
    return count if count <= 3 else next((c for c in (5, 4, 3) if count % c == 0), math.ceil(math.sqrt(count)))


def tile(images: np.ndarray, scale: int = 1, across: int | None = None) -> Image.Image:
    """Pictures (N, C, H, W) uint8, C = 1 or 3, as one image: a grid with a gap of one pixel, enlarged ``scale`` times.

    It is ``across`` pictures wide, by default ``columns`` of their number.
    """
    count, channels, height, width = images.shape
    across = across or columns(count)
    down = math.ceil(count / across)
    canvas = np.full((down * (height + 1) - 1, across * (width + 1) - 1, channels), 128, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // across) * (height + 1), (i % across) * (width + 1)
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    picture = Image.fromarray(canvas[..., 0] if channels == 1 else canvas)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


# --- quality against the number of steps ----------------------------------------------------------------------------

INK = "#6e7781"
"""A grey that reads on white and on GitHub's dark page: 4.6 and 4.1 times as bright or dark as they are."""


def frontier(curves: Mapping[str, list[Point]], title: str) -> str:
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
