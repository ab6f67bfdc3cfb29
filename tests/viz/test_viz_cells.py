"""The cells of nodes."""

import numpy as np
import pytest
import torch
from matplotlib.path import Path
from scipy.spatial import KDTree

import fovigraph as fg
from fovigraph.viz import SPACES, flat_map, node_cells
from fovigraph.viz.cells import eccentricity_ticks, nearest_node, pixels_degrees
from fovigraph.viz.field import Field

LAYOUTS = ("isotropic", "logpolar_cylinder", "logpolar_image", "uniform_disc", "uniform_square")


def places(array, space):
    if space == "visual":
        return (array.cartesian * array.fov / 2).numpy()
    return flat_map(array, kind=space).numpy()


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
    with pytest.raises(ValueError, match=r"space must be one of 'cortical', .*'warp', got 'vis'"):
        node_cells(array, "vis")


def test_masked_nodes_have_no_cells():
    array = fg.SensorArray(8, layout="warped_cartesian")
    cells = node_cells(array)
    assert [len(cell) > 0 for cell in cells] == array.mask.tolist()
    assert sum(len(cell) > 0 for cell in cells) == 52
    assert set(nearest_node(array, array.degrees[array.mask].numpy())) == set(
        array.mask.nonzero().flatten().tolist()
    )


def test_cells_end_half_a_cell_beyond_the_edge():
    array = fg.SensorArray(10, fov=20, layout="uniform_disc")
    outermost = float(array.eccentricity.max())
    assert Field(array).edge == pytest.approx(outermost + 1)
    assert Field(fg.SensorArray(1, fov=20)).edge == 10


@pytest.mark.parametrize(
    ("options", "corner"),
    [
        ({"layout": "uniform_square"}, 8 * 2**0.5),
        ({"layout": "warped_cartesian", "extent": "square", "norm": float("inf")}, 8 * 2**0.5),
        # exp(√2 ln 17) − 1, times a
        ({"layout": "warped_cartesian", "extent": "wang"}, 0.5 * (17 ** (2**0.5) - 1)),
    ],
)
def test_fields_are_square_or_warped(options, corner):
    field = Field(fg.SensorArray(16, **options))
    directions = torch.tensor([0.0, torch.pi / 4, 1.5 * torch.pi], dtype=torch.float64)
    expected = torch.tensor([8, corner, 8], dtype=torch.float64)
    torch.testing.assert_close(field.reach(directions), expected)
    inside, beyond = 0.999 * corner / 2**0.5, 1.001 * corner / 2**0.5
    points = np.array([[inside, inside], [beyond, beyond], [0.0, -7.99], [0.0, 8.01]])
    assert field.contains(points).tolist() == [True, False, True, False]


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
