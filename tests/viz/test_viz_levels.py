"""Every level in both spaces, hexagonal bins, and accuracy by fixations and area."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

import fovigraph as fg
from fovigraph.viz import MAPS, plot_accuracy, plot_bins, plot_levels, plot_receptive_field


@pytest.mark.parametrize("kind", MAPS)
def test_every_level_in_both_spaces(pyramid, kind):
    figure = plot_levels(pyramid, kind=kind)
    FigureCanvasAgg(figure).draw()
    assert len(figure.axes) == 2 * len(pyramid)
    for level, array in enumerate(pyramid.levels):
        visual, cortex = figure.axes[2 * level : 2 * level + 2]
        assert len(visual.collections[0].get_offsets()) == len(array)
        assert ("(mm)" in cortex.get_xlabel()) == (kind == "cortical")


def test_levels_on_one_array_share_their_panels(array):
    steps = [fg.Step("conv", k=9, stride=2), fg.Step("conv", k=9)]
    figure = plot_levels(fg.GraphPyramid(array, steps))
    titles = [part.get_suptitle() for part in figure.subfigs]
    assert titles == ["retina: 194 nodes", "conv1, conv2: 43 nodes"]


def test_levels_without_a_cortex_have_one_panel():
    array = fg.SensorArray(6, layout="uniform_square")
    pyramid = fg.GraphPyramid(array, [fg.Step("conv", k=9, stride=2)], metric="visual")
    assert len(plot_levels(pyramid).axes) == 2


def test_bins_hold_the_mean_of_their_nodes():
    array = fg.SensorArray(16, layout="warped_cartesian")
    values = torch.where(array.mask, 1.0, 9.0)  # masked nodes are in no bin
    hexagons = plot_bins(array, values, bins=8).axes[0].collections[0]
    np.testing.assert_array_equal(hexagons.get_array(), 1.0)
    values = array.cartesian[:, 0]
    hexagons = plot_bins(array, values, bins=8, space="cortical").axes[0].collections[0]
    assert hexagons.get_array().min() >= values[array.mask].min()


def test_bad_bins(array):
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        plot_bins(array, array.eccentricity, bins=0)
    with pytest.raises(ValueError, match=r"values must be numbers, \[194\], got \[194, 3\]"):
        plot_bins(array, torch.zeros(194, 3))


def test_receptive_fields_in_bins(pyramid):
    figure = plot_receptive_field(pyramid, 2, 0, bins=10)
    FigureCanvasAgg(figure).draw()
    shares = figure.axes[2].collections[0].get_array()
    assert 0 < shares.max() <= 1 and shares.min() == 0


TABLE = [[0.4, 0.5, 0.55], [0.45, 0.5, 0.6]]


def test_a_line_for_every_area():
    figure = plot_accuracy(TABLE, [0.7, 0.3], fixations=[1, 5, 20], chance=0.1)
    FigureCanvasAgg(figure).draw()
    small, large, _ = figure.axes[0].lines
    assert small.get_label() == "30% of the image"
    assert small.get_xdata().tolist() == [1, 5, 20]
    np.testing.assert_allclose(large.get_ydata(), TABLE[0], atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 0.6], [0.3]), r"accuracy must have shape \[areas, fixations\], got \[2\]"),
        (([[1.5]], [0.3]), "accuracy must be from 0 to 1, got 1.5 to 1.5"),
        ((TABLE, [0.3]), "areas must be 2 numbers above 0, one for each row"),
        ((TABLE, [0.3, -1]), "areas must be 2 numbers above 0"),
        ((TABLE, [0.3, 0.7], [1, 2]), "fixations must be 3 numbers, one for each column"),
    ],
)
def test_bad_tables(arguments, message):
    options = {"fixations": arguments[2]} if len(arguments) > 2 else {}
    with pytest.raises(ValueError, match=message):
        plot_accuracy(*arguments[:2], **options)


def test_chance_is_a_share():
    with pytest.raises(ValueError, match="chance must be from 0 to 1, got 2"):
        plot_accuracy(TABLE, [0.3, 0.7], chance=2)
