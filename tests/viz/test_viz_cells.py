"""The cells of nodes."""

import numpy as np
import pytest
import torch
from matplotlib.path import Path
from scipy.spatial import KDTree

import fovigraph as fg
from fovigraph.viz import SPACES, flat_map, node_cells
from fovigraph.viz.cells import (
    drawn_eccentricity,
    eccentricity_ticks,
    nearest_node,
    pixels_degrees,
)

LAYOUTS = ("isotropic", "logpolar_cylinder", "uniform_disc")


def places(array, space):
    if space == "visual":
        return (array.cartesian * array.fov / 2).numpy()
    return flat_map(array).numpy()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("resolution", [1, 2, 7])
def test_one_cell_a_node_around_the_node(space, layout, resolution):
    array = fg.SensorArray(resolution, layout=layout)
    cells = node_cells(array, space)
    assert len(cells) == len(array)
    for cell, place in zip(cells, places(array, space), strict=True):
        assert Path(cell).contains_point(place)


@pytest.mark.parametrize("space", SPACES)
def test_a_cell_is_what_is_nearest_to_its_node(array, space):
    points = places(array, space)
    anywhere = np.random.default_rng(0).uniform(points.min(), points.max(), (300, 2))
    _, nearest = KDTree(points).query(anywhere)
    cells = [Path(cell) for cell in node_cells(array, space)]
    for point, node in zip(anywhere, nearest, strict=True):
        assert cells[node].contains_point(point)
        assert sum(cell.contains_point(point) for cell in cells) == 1


def test_nodes_at_one_place_share_a_cell():
    cells = node_cells(fg.SensorArray(5, layout="logpolar_cylinder"))
    for cell in cells[1:5]:
        np.testing.assert_array_equal(cell, cells[0])
    assert not np.array_equal(cells[5], cells[0])


def test_unknown_space(array):
    with pytest.raises(ValueError, match="space must be one of 'cortical', 'visual', got 'vis'"):
        node_cells(array, "vis")


def test_cells_end_half_a_cell_beyond_the_edge():
    array = fg.SensorArray(10, fov=20, layout="uniform_disc")
    outermost = float(array.eccentricity.max())
    assert drawn_eccentricity(array) == pytest.approx(outermost + 1)
    assert drawn_eccentricity(fg.SensorArray(1, fov=20)) == 10


def test_nearest_node_is_minus_one_beyond_the_field(array):
    points = np.array([[0.0, 0.0], [7.99, 0.0], [9.5, 0.0], [0.0, -20.0]])
    node = nearest_node(array, points)
    assert node[0] == 0
    assert array.cartesian[node[1]].tolist() == [1, 0]
    assert node[2:].tolist() == [-1, -1]


def test_pixels_are_row_by_row_from_the_top_left():
    points = pixels_degrees(2, 3, (-3.0, 3.0, -4.0, 4.0))
    assert points[:4].tolist() == [[-2, 2], [0, 2], [2, 2], [-2, -2]]


def test_eccentricity_ticks_are_round_and_few():
    assert eccentricity_ticks(fg.SensorArray(5, fov=16, cmf_a=0.5)) == [0.5, 1, 2, 5]
    assert eccentricity_ticks(fg.SensorArray(5, fov=130, cmf_a=0.1)) == [2, 5, 10, 20, 50]


def test_tensors_of_one_node_are_fine():
    assert torch.isfinite(flat_map(fg.SensorArray(1))).all()
