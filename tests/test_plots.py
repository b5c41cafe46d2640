from xml.etree import ElementTree

import numpy as np
import pytest

from ddpm.evaluation.frontier import Point, figure
from ddpm.plots import CLASS_COLOURS, columns, projection, tile
from ddpm.projection import Projection

GAP = 128
"""The grey between pictures."""


def coloured(count, channels=1, height=3, width=2):
    """Pictures told apart by any of their pixels: channel c of number i is of the value 5 i + c."""
    values = 5 * np.arange(count)[:, None] + np.arange(channels)
    return np.broadcast_to(values[..., None, None], (count, channels, height, width)).astype(np.uint8)


@pytest.mark.parametrize("count", [count for count in range(1, 26) if any(count % c == 0 for c in (3, 4, 5))])
def test_a_count_with_a_divisor_fills_its_grid(count):
    assert count % columns(count) == 0


@pytest.mark.parametrize("count", range(1, 26))
def test_a_grid_is_wider_than_a_column_and_leaves_less_than_a_row_empty(count):
    across = columns(count)
    assert min(count, 2) <= across <= 5
    assert -(-count // across) * across - count < across


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 7, 10])
def test_picture_i_stands_in_row_i_over_columns_after_a_gap_of_one_pixel(count, channels):
    images, across = coloured(count, channels), columns(count)
    grid = np.atleast_3d(np.array(tile(images)))
    for i, image in enumerate(images):
        top, left = (i // across) * 4, (i % across) * 3
        assert (grid[top : top + 3, left : left + 2] == image.transpose(1, 2, 0)).all()
        grid[top : top + 3, left : left + 2] = GAP
    assert (grid == GAP).all()
    assert grid.shape == (4 * -(-count // across) - 1, 3 * across - 1, channels)


def test_a_picture_is_not_turned_or_mirrored():
    image = np.arange(6, dtype=np.uint8).reshape(1, 1, 3, 2)
    assert np.array_equal(np.asarray(tile(image)), image[0, 0])


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_one_channel_gives_a_grey_image_and_three_a_coloured_one(channels, mode):
    assert tile(coloured(2, channels)).mode == mode


def test_scale_enlarges_every_pixel_to_a_square():
    small, large = (np.asarray(tile(coloured(4, 3), scale)) for scale in (1, 3))
    assert np.array_equal(large, small.repeat(3, 0).repeat(3, 1))


def test_the_figure_of_a_projection_has_one_trace_and_one_annotation_a_class():
    names = tuple("abcdefghijkl")
    points = np.arange(48, dtype=np.float32).reshape(24, 2)
    labels = np.arange(24) % 12
    cloud = Projection(np.zeros(4), np.zeros((2, 4)), np.array([0.4, 0.25]), points, labels, names)
    figure = projection(cloud)
    assert [trace.name for trace in figure.data] == [note.text for note in figure.layout.annotations] == list(names)
    for label, (trace, note) in enumerate(zip(figure.data, figure.layout.annotations, strict=True)):
        own = points[labels == label]
        assert np.array_equal(np.stack([trace.x, trace.y], 1), own)
        assert [note.x, note.y] == own.mean(0).tolist()  # of two points, the median is the mean
        assert trace.marker.color == note.font.color == CLASS_COLOURS[label % 10]
    assert "40%" in figure.layout.xaxis.title.text
    assert "25%" in figure.layout.yaxis.title.text


def test_the_legend_of_a_projection_with_longer_names_shows_the_colours_undimmed():
    names = ("cat", "ship")
    cloud = Projection(np.zeros(4), np.zeros((2, 4)), np.array([0.4, 0.25]), np.zeros((4, 2)), np.arange(4) % 2, names)
    shown = [trace for trace in projection(cloud).data if trace.showlegend is not False]
    assert [(trace.name, trace.marker.color) for trace in shown] == list(zip(names, CLASS_COLOURS))
    assert all(trace.marker.opacity is None and trace.x == (None,) for trace in shown)


def test_the_colours_of_ten_classes_differ():
    assert len(set(CLASS_COLOURS)) == 10


def test_the_frontier_is_an_svg_with_a_dot_for_each_point_and_lower_where_it_is_better():
    curves = {"DDIM": [Point(5, 0.4, 0.1), Point(50, 0.1, 0.1)], "DDPM": [Point(5, 0.9, 0.1), Point(50, -0.1, 0.1)]}
    svg = ElementTree.fromstring(figure(curves, "Quality & steps"))
    dots = [dot for dot in svg.iter("{http://www.w3.org/2000/svg}circle")]
    legend, ddim, ddpm = dots[0], dots[1:3], dots[4:6]
    assert len(dots) == 2 * (1 + 2) and legend.get("fill") == ddim[0].get("fill") != ddpm[0].get("fill")
    height = [float(dot.get("cy")) for dot in (*ddim, *ddpm)]
    assert height[2] < height[0] < height[1] < height[3]
    words = {text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"DDIM", "DDPM", "5", "50", "0"} <= words
