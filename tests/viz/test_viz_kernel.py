"""Kernel maps and filters."""

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection, PolyCollection

import fovigraph as fg
from fovigraph.viz import (
    cell_counts,
    example_nodes,
    kernel_picture,
    plot_filter_in_field,
    plot_filters,
    plot_kernel_map,
)

SIZE = 6


@pytest.fixture(scope="module")
def graph():
    retina = fg.SensorArray.matched(16)
    return fg.knn_graph(retina, retina.strided(2), k=9)


def test_every_edge_is_counted_once(graph):
    counts = cell_counts(graph, SIZE)
    assert counts.shape == (SIZE**2,)
    assert counts.sum() == graph.num_edges
    assert counts[7] == (graph.kernel_map(SIZE).cell == 7).sum()


def test_kernel_is_pictured_with_u_to_the_right_and_v_up():
    cells = np.arange(9)  # index = i_u · 3 + i_v
    assert kernel_picture(cells).tolist() == [[2, 5, 8], [1, 4, 7], [0, 3, 6]]
    with pytest.raises(ValueError, match="square kernel's cells, got 5"):
        kernel_picture(np.arange(5))


def test_neighbours_are_joined_to_the_centres_of_their_cells(graph):
    figure = plot_kernel_map(graph, SIZE, nodes=[0, 30])
    frames = figure.axes[2:4]
    for node, ax in zip((0, 30), frames, strict=True):
        (joins,) = (c for c in ax.collections if isinstance(c, LineCollection))
        edges = slice(int(graph.ptr[node]), int(graph.ptr[node + 1]))
        cells = graph.kernel_map(SIZE).cell[edges]
        grid = torch.linspace(-1, 1, SIZE)
        centers = torch.stack((grid[cells // SIZE], grid[cells % SIZE]), dim=-1)
        segments = np.array(joins.get_segments())
        np.testing.assert_allclose(segments[:, 0], graph.offset[edges], atol=1e-6)
        np.testing.assert_allclose(segments[:, 1], centers, atol=1e-6)


def test_example_nodes_go_from_the_point_of_gaze_outwards(graph):
    eccentricity = graph.dst.eccentricity[example_nodes(graph.dst)]
    assert eccentricity[0] == 0
    assert (eccentricity.diff() > 0).all()


@pytest.mark.parametrize(("channels", "panels"), [(3, 5), (8, 5)])
def test_a_panel_a_filter(channels, panels):
    weight = torch.randn(SIZE**2, channels, 5)
    figure = plot_filters(weight)
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == panels
    assert shown[0].images[0].get_array().shape == (SIZE, SIZE, 3)
    assert len([ax for ax in plot_filters(weight, count=2).axes if ax.images]) == 2


def test_neighbours_have_the_colours_of_their_cells(graph):
    weight = torch.randn(SIZE**2, 3, 2)
    figure = plot_filter_in_field(graph, weight, 1, nodes=[30])
    picture = figure.axes[0].images[0].get_array()
    (patch,) = (c for c in figure.axes[2].collections if isinstance(c, PolyCollection))
    cells = graph.kernel_map(SIZE).cell[graph.ptr[30] : graph.ptr[31]].tolist()
    expected = [picture[SIZE - 1 - cell % SIZE, cell // SIZE] for cell in cells]
    np.testing.assert_allclose(patch.get_facecolors()[:, :3], expected)
    most = weight[..., 1].abs().max()
    np.testing.assert_allclose(expected, 0.5 + weight[cells, :, 1] / (2 * most), atol=1e-6)


def test_bad_arguments(graph):
    weight = torch.randn(SIZE**2, 3, 2)
    with pytest.raises(ValueError, match="channel must be from 0 to 1, got 2"):
        plot_filter_in_field(graph, weight, 2)
    with pytest.raises(ValueError, match=r"nodes must be from 0 to \d+"):
        plot_kernel_map(graph, SIZE, nodes=[10_000])
    with pytest.raises(ValueError, match="nodes must be one to six, got 0"):
        plot_kernel_map(graph, SIZE, nodes=[])
    with pytest.raises(ValueError, match=r"weight must have shape \[side², C_in, C_out\]"):
        plot_filters(torch.randn(5, 3, 2))
