"""Pictures of receptive fields."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure

import fovigraph as fg
from fovigraph.viz import SPACES, example_unit, plot_receptive_field, style
from fovigraph.viz.photograph import Photograph
from fovigraph.viz.receptive_field import _cleaned, _draw_seen

GREY = to_rgba(style.UNREACHED)


def colors(ax):
    (found,) = (c for c in ax.collections if isinstance(c, PolyCollection))
    return found.get_facecolors()


@pytest.mark.parametrize("space", SPACES)
def test_a_panel_a_level_shows_the_nodes_that_reach_the_unit(pyramid, space):
    figure = plot_receptive_field(pyramid, "pool1", 3, space=space)
    panels = figure.axes[:3]
    for source, ax in zip((2, 1, 0), panels, strict=True):
        field = pyramid.receptive_field("pool1", 3, source)
        reached = (colors(ax) != GREY).any(axis=1)
        assert len(reached) == len(pyramid.levels[source])
        assert reached.nonzero()[0].tolist() == field.nodes.tolist()
    assert "'retina'" in panels[2].get_title()
    count = len(pyramid.receptive_field("pool1", 3).nodes)
    assert f"{count} of\n{len(pyramid.levels[0])} samples" in panels[2].get_title()


def test_colour_grows_with_the_number_of_paths(pyramid):
    ax = plot_receptive_field(pyramid, 2, 3).axes[2]
    field = pyramid.receptive_field(2, 3)
    brightness = colors(ax)[field.nodes.numpy(), :3].sum(axis=1)  # viridis only gets brighter
    order = np.argsort(field.paths.numpy(), kind="stable")
    assert (np.diff(brightness[order]) >= -1e-2).all()
    most = int(field.paths.argmax())
    np.testing.assert_allclose(colors(ax)[field.nodes[most]], to_rgba("#fde725"), atol=0.01)


def test_an_image_adds_a_panel_in_degrees(pyramid, image):
    figure = plot_receptive_field(pyramid, 1, 5, image=image, fixation=(0.2, 0.5), size=(20, 20))
    assert len(figure.axes) == 4  # two levels, the photograph, the colour bar
    photo = figure.axes[2]
    assert "photograph" in photo.get_title()
    assert "(degrees)" in photo.get_xlabel()
    assert photo.images[0].get_extent() == pytest.approx([-24, 24, -25.6, 6.4])
    FigureCanvasAgg(figure).draw()


def test_the_photograph_is_lit_where_the_unit_sees_it(pyramid, image):
    light = plot_receptive_field(pyramid, 1, 5, image=image).axes[2].images[1].get_array()[..., 3]
    x, y = pyramid.levels[1].cartesian[5].tolist()
    row, column = 20 - 20 * y, 30 + 20 * x  # the view is 40 pixels, from the photograph's centre
    assert light[int(row), int(column)] > 0.7
    assert light[int(40 - row), int(60 - column)] == 0
    assert light[0, 0] == 0


def outlines(ax):
    """Closed curves drawn around the fields in a panel, each [M, 2]."""
    sets = [c for c in ax.collections if isinstance(c, ContourSet)]
    return [curve for lines in sets for path in lines.get_paths() for curve in path.to_polygons()]


def test_a_field_has_one_outline_without_islands_and_holes(pyramid):
    places = pyramid.levels[0].cartesian.numpy()
    weight = places[:, 0] > -0.3  # the right of the field
    lone, hole = (np.abs(places - at).sum(axis=1).argmin() for at in ((-0.7, 0.0), (0.2, 0.1)))
    assert not weight[lone] and weight[hole]
    weight[lone], weight[hole] = True, False
    photo = Photograph(np.zeros((8, 8, 3)), 8, 8)
    ax = Figure().add_subplot()
    _draw_seen(ax, photo, pyramid.levels[0], weight.astype(float), (0.5, 0.5), (8, 8))
    drawn = outlines(ax)
    assert len(drawn) == 2  # of half of the most, and of any
    for curve in drawn:
        assert curve[:, 0].min() > -0.5 * 8
        assert 8 < curve[:, 0].max() < 9  # around the outermost cells, not cut off by the axes
        np.testing.assert_array_equal(curve[0], curve[-1])


def test_parts_of_a_field_that_are_large_are_all_outlined():
    field = np.zeros((40, 40), dtype=bool)
    field[5:15, 5:15] = field[25:35, 20:35] = True
    field[27:33, 24:30] = False  # a hole as large as a quarter
    np.testing.assert_array_equal(_cleaned(field), field)
    speck = field.copy()
    speck[1:3, 30:32], speck[8, 8] = True, False
    np.testing.assert_array_equal(_cleaned(speck), field)
    for nothing in (np.zeros((4, 4), dtype=bool), np.ones((4, 4), dtype=bool)):
        np.testing.assert_array_equal(_cleaned(nothing), nothing)


def test_other_panels_are_switched_off(pyramid, image):
    steps = [fg.Step("conv", k=9)] * 4
    tall = fg.GraphPyramid(pyramid.levels[1], steps)
    axes = plot_receptive_field(tall, 4, 0).axes
    assert [ax.axison for ax in axes[:-1]] == [True] * 5 + [False]


def test_example_unit_sees_at_most_half(pyramid):
    level, unit = example_unit(pyramid)
    reached = len(pyramid.receptive_field(level, unit).nodes)
    assert reached <= len(pyramid.levels[0]) / 2
    x, y = pyramid.levels[level].cartesian[unit].tolist()
    assert x > 0 and y >= 0
    assert (level, unit) == example_unit(pyramid)


def test_example_unit_of_a_pyramid_that_sees_all_at_once():
    pyramid = fg.GraphPyramid(fg.SensorArray(3), [fg.Step("pool", side=1)] * 2)
    assert example_unit(pyramid) == (1, 0)
    with pytest.raises(ValueError, match="pyramid must have a level above the retina"):
        example_unit(fg.GraphPyramid(fg.SensorArray(3), []))


@pytest.mark.parametrize(
    ("level", "unit", "options", "message"),
    [
        (7, 0, {}, "level must be from 0 to 2, got 7"),
        ("pool", 0, {}, "level must be one of .*did you mean 'pool1'"),
        (1, 10_000, {}, "unit must be from 0 to"),
        (1, 0, {"space": "flat"}, "space must be one of 'cortical', 'schwartz'"),
    ],
)
def test_bad_arguments(pyramid, level, unit, options, message):
    with pytest.raises(ValueError, match=message):
        plot_receptive_field(pyramid, level, unit, **options)


def test_binary_shows_connections_alone(pyramid, image):
    figure = plot_receptive_field(pyramid, 2, 3, image=image, binary=True)
    reached = pyramid.receptive_field(2, 3).nodes
    lit = colors(figure.axes[2])
    assert (lit[reached] == lit[reached][0]).all()
    assert len(np.unique(lit, axis=0)) == 2
    assert len(figure.axes) == 4  # no colour bar
