"""Nearness along the cortical surface."""

import math
import sys

import pytest
import torch

from fovigraph import SensorArray, knn_graph


@pytest.fixture
def pygeodesic():
    return pytest.importorskip("pygeodesic.geodesic")


def straight(graph):
    src, dst = graph.edge_index
    return (graph.src.cortical[src] - graph.dst.cortical[dst]).norm(dim=1)


@pytest.mark.usefixtures("pygeodesic")
@pytest.mark.parametrize("field_geometry", ["planar", "legacy"])
def test_along_a_meridian_the_distance_is_the_integral_of_the_magnification(field_geometry):
    """∫ M dr = k ln(1 + r / a), to what a mesh of a few hundred triangles is worth."""
    src = SensorArray(13, fov=16.0, cmf_a=0.5, field_geometry=field_geometry)
    graph = knn_graph(src, src.with_resolution(1), k=150, metric="geodesic")
    eccentricity = src.eccentricity[graph.edge_index[0]]
    expected = 10 * torch.log1p(eccentricity / 0.5).float()
    torch.testing.assert_close(graph.distance, expected, rtol=0.03, atol=0)
    far = eccentricity > 4
    assert (straight(graph)[far] < 0.96 * expected[far]).all()  # the surface is curved


@pytest.mark.usefixtures("pygeodesic")
@pytest.mark.parametrize(("resolution", "stride", "k"), [(9, 2, 9), (13, 2, 25), (7, 1, 9)])
def test_no_way_along_the_surface_is_shorter_than_the_straight_line(resolution, stride, k):
    src = SensorArray(resolution)
    graph = knn_graph(src, src.strided(stride), k, "geodesic")
    assert (graph.distance >= straight(graph) - 1e-5).all()
    assert (graph.distance <= 1.15 * straight(graph) + 1e-5).all()


@pytest.mark.usefixtures("pygeodesic")
def test_on_a_flat_sheet_it_is_the_straight_line():
    src = SensorArray(15, layout="uniform_disc")
    along, across = (knn_graph(src, src.strided(2), 9, m) for m in ("geodesic", "cortical"))
    assert along.edge_index.equal(across.edge_index)
    torch.testing.assert_close(along.distance, across.distance, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("pygeodesic")
def test_neighbours_are_mostly_those_of_the_straight_line():
    src = SensorArray(13)
    edges = [
        set(map(tuple, knn_graph(src, src.strided(2), 25, metric).edge_index.t().tolist()))
        for metric in ("geodesic", "cortical")
    ]
    assert len(edges[0] & edges[1]) > 0.9 * len(edges[0])


@pytest.mark.usefixtures("pygeodesic")
def test_the_graph_is_the_same_every_time_and_of_the_usual_form():
    src = SensorArray(9)
    one, two = (knn_graph(src, src.strided(2), 9, "geodesic") for _ in range(2))
    assert one.edge_index.equal(two.edge_index)
    assert one.distance.equal(two.distance)
    assert one.metric == "geodesic"
    source, destination = one.edge_index
    assert (destination * len(src) + source).diff().min() > 0
    assert one.offset.abs().max() <= 1
    assert one.edge_index[1].bincount().max() == 9


@pytest.mark.usefixtures("pygeodesic")
def test_distances_from_a_node_are_from_the_point_nearest_to_the_destination():
    src = SensorArray(13)
    graph = knn_graph(src, src.strided(2), 9, "geodesic_from_node")
    nearest = knn_graph(src, graph.dst, 1).edge_index[0]
    source, destination = graph.edge_index
    at = source == nearest[destination]
    assert at.sum() >= 0.9 * graph.num_dst  # the others have padding nearer to them
    assert graph.metric == "geodesic_from_node"
    own = knn_graph(src, graph.dst, 9, "geodesic")
    assert (
        len(
            set(map(tuple, graph.edge_index.T.tolist()))
            - set(map(tuple, own.edge_index.T.tolist()))
        )
        > 0.05 * graph.num_edges
    )


@pytest.mark.usefixtures("pygeodesic")
def test_too_few_points_for_a_surface_are_joined_by_straight_lines():
    src = SensorArray(1)
    graph = knn_graph(src, SensorArray(2), k=1, metric="geodesic")
    assert graph.distance[0] == 0
    edge = SensorArray(2).cortical[1].norm().item()
    assert graph.distance[1:].tolist() == pytest.approx([edge] * (graph.num_dst - 1))
    assert math.isfinite(edge)


def test_without_pygeodesic_the_error_says_what_to_install(monkeypatch):
    for module in ("pygeodesic", "pygeodesic.geodesic"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'fovigraph\[geodesic\]'"):
        knn_graph(SensorArray(3), SensorArray(2), 4, "geodesic")
