"""The layouts that `examples/primate_retina.py` registers: as dense as ganglion cells."""

import itertools
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import fovigraph as fg
from fovigraph.geometry.layout import LAYOUTS

EXAMPLE = Path(__file__).parents[2] / "examples" / "primate_retina.py"


@pytest.fixture(scope="module")
def example():
    names = runpy.run_path(str(EXAMPLE))
    yield names
    for name in ("watson", "counted_cells"):
        LAYOUTS.pop(name)


def test_the_formula(example):
    """33,163 receptive fields a square degree at the point of gaze; ever fewer outwards."""
    density = example["watson"](np.array([0.0, 1, 5, 20, 60]))
    assert density[0] == pytest.approx(33163.2)
    assert (np.diff(density) < 0).all()
    temporal = 33163.2 * (0.9851 * (1 + 10 / 1.058) ** -2 + 0.0149 * np.exp(-10 / 22.14))
    assert density[2] > temporal > density[3]


@pytest.mark.parametrize("layout", ["watson", "counted_cells"])
def test_nodes_are_as_dense_as_cells(example, layout):
    array = fg.SensorArray.matched(64, fov=40.0, layout=layout)
    assert len(array) <= 64**2 < len(array.with_resolution(array.resolution + 1))
    r, cells = array.eccentricity.numpy(), array._layout.density
    edges = np.array([1.0, 3.0, 8.0, 20.0 + 1e-9])
    nodes = np.array([((r >= a) & (r < b)).sum() for a, b in itertools.pairwise(edges)])
    mesh = np.linspace(0, 20, 100_001)
    there = np.interp(edges, mesh, (cells(mesh) * 2 * np.pi * mesh).cumsum() * (20 / 100_000))
    share = nodes / np.diff(there)
    assert share.max() / share.min() < 1.15


@pytest.mark.parametrize("layout", ["watson", "counted_cells"])
def test_neighbours_are_as_far_apart_on_the_cortex_everywhere(example, layout):
    array = fg.SensorArray.matched(48, fov=40.0, layout=layout)
    graph = fg.knn_graph(array, array, 5)
    apart = graph.distance[graph.edge_index[0] != graph.edge_index[1]].double()
    nodes = graph.edge_index[1][graph.edge_index[0] != graph.edge_index[1]]
    inner, outer = (apart[array.eccentricity[nodes] < 2], apart[array.eccentricity[nodes] > 10])
    assert float(inner.median() / outer.median()) == pytest.approx(1, abs=0.15)


def test_the_table_is_the_formula_between_its_rows(example):
    arrays = [fg.SensorArray(40, fov=40.0, layout=name) for name in ("watson", "counted_cells")]
    radii = [array.eccentricity.unique() for array in arrays]
    torch.testing.assert_close(*radii, rtol=0.05, atol=1e-6)
