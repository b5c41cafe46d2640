"""Arrays to Plotly figures, images and drawings. Colours tell apart under the common colour blindnesses and on light and dark."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from ddpm.projection import Projection

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
