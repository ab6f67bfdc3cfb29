"""Pictures of sensor arrays."""

import sys

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.spatial import KDTree

import fovigraph as fg
from fovigraph.geometry import LAYOUTS
from fovigraph.viz import (
    SPACES,
    node_spacing,
    plot_activations,
    plot_manifold,
    plot_nodes,
    plot_sampling,
    plot_spacing,
    plotly_manifold,
    spacing_law,
)
from fovigraph.viz.array import COLORINGS, DARK_COLORMAP, DOT


def test_the_law_is_the_rings(array):
    radii = torch.unique(array.eccentricity)
    steps = torch.log(radii + array.cmf_a).diff()
    law = spacing_law(array) / (array.eccentricity.numpy() + array.cmf_a)
    np.testing.assert_allclose(law, float(steps.mean()))
    np.testing.assert_allclose(steps, float(steps.mean()))


@pytest.mark.parametrize("layout", ["isotropic", "uniform_disc"])
def test_spacing_follows_the_law(layout):
    array = fg.SensorArray.matched(48, layout=layout)
    ratio = node_spacing(array) / spacing_law(array)
    assert ratio.min() > 0.75 and ratio.max() < 1.05


@pytest.mark.parametrize("color", COLORINGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_of_every_layout(layout, color):
    array = fg.SensorArray.matched(12, layout=layout)
    FigureCanvasAgg(plot_sampling(array, color=color)).draw()
    if array.has_cortex:
        FigureCanvasAgg(plot_manifold(array, color=color)).draw()
    else:
        with pytest.raises(ValueError, match="layout must be one with cortical coordinates"):
            plot_manifold(array)


def test_masked_nodes_are_not_drawn():
    array = fg.SensorArray(8, layout="warped_cartesian")
    for space in SPACES:
        (dots,) = plot_nodes(array, space=space).axes[0].collections
        assert len(dots.get_offsets()) == 52
    assert plot_manifold(array).axes[0].collections[0].get_offsets().shape[0] == 52
    assert "52 samples" in plot_sampling(array).axes[0].get_title()
    assert np.isnan(node_spacing(array)).sum() == 12


@pytest.mark.parametrize("space", SPACES)
def test_nodes_lie_where_they_are(array, space):
    figure = plot_nodes(array, space=space)
    dots = figure.axes[0].collections[0].get_offsets()
    assert len(dots) == len(array)
    if space == "visual":
        np.testing.assert_allclose(dots, array.cartesian * array.fov / 2)
    unit = {"visual": "(degrees)", "cortical": "(mm)"}.get(space, "(no unit)")
    assert unit in figure.axes[0].get_xlabel()


@pytest.mark.parametrize("space", SPACES)
def test_dots_are_as_large_as_there_is_room_for(array, space):
    (dots,) = plot_nodes(array, space=space).axes[0].collections
    places, sizes = dots.get_offsets(), dots.get_widths()
    distance = KDTree(places).query(places, k=2)[0][:, 1]
    np.testing.assert_allclose(sizes, DOT * distance, rtol=1e-6)
    if space == "visual":
        assert sizes[-1] > 5 * sizes[0]


def test_dots_of_any_colour_are_seen_on_white():
    colors = DARK_COLORMAP(np.linspace(0, 1, 50))[:, :3]
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    contrast = 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    assert contrast.min() > 3  # what WCAG 2 asks of graphics


def test_a_single_node_is_a_dot():
    (dots,) = plot_nodes(fg.SensorArray(1)).axes[0].collections
    assert dots.get_widths() > 0


def test_drawn_where_told(array):
    figure = Figure()
    assert plot_spacing(array, ax=figure.add_subplot(121)) is figure
    assert plot_manifold(array, ax=figure.add_subplot(122, projection="3d")) is figure
    with pytest.raises(TypeError, match="ax must have projection='3d', got Axes"):
        plot_manifold(array, ax=figure.axes[0])


def test_plotly_has_the_nodes_in_millimetres(array):
    pytest.importorskip("plotly")
    figure = plotly_manifold(array)
    np.testing.assert_allclose(figure.data[0].z, array.cortical[:, 2])
    assert figure.data[1].text == ("point of gaze",)
    assert "(mm)" in figure.layout.scene.zaxis.title.text


def test_without_plotly_the_extra_is_named(array, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ImportError, match=r"pip install 'fovigraph\[viz\]'"):
        plotly_manifold(array)


def test_color(array):
    with pytest.raises(ValueError, match="color must be one of 'eccentricity', 'polar_angle'"):
        plot_nodes(array, color="angle")


def test_activations_that_vary_most(array):
    features = torch.randn(len(array), 6) * torch.arange(6)
    figure = plot_activations(array, features, count=2)
    assert [ax.get_title() for ax in figure.axes[:2]] == ["channel 5", "channel 4"]
    figure = plot_activations(array, features, channels=[0, 3], space="cortical")
    assert [ax.get_title() for ax in figure.axes[:2]] == ["channel 0", "channel 3"]
    with pytest.raises(ValueError, match="channels must be from 0 to 5"):
        plot_activations(array, features, channels=[6])
    with pytest.raises(ValueError, match="features must have shape"):
        plot_activations(array, features[1:])
