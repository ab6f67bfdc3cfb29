"""Graphs of neighbours found elsewhere, and pyramids of ready-made graphs."""

import pytest
import torch

from fovigraph import GraphPyramid, SensorArray, Step, knn_graph
from fovigraph.graph import graph_from_neighbours
from fovigraph.graph.search import k_nearest


@pytest.fixture(scope="module")
def arrays():
    src = SensorArray.matched(14)
    return src, src.strided(2)


@pytest.mark.parametrize("metric", ["cortical", "visual"])
def test_the_nearest_neighbours_give_the_usual_graph(arrays, metric):
    src, dst = arrays
    usual = knn_graph(src, dst, 20, metric)
    if metric == "cortical":
        points, places = torch.cat((src.cortical, src.padding_cortical)), dst.cortical
    else:
        points = torch.cat((src.cartesian, src.padding_cartesian)) * (src.fov / 2)
        places = dst.cartesian * (dst.fov / 2)
    index, _ = k_nearest(points, places, 20)
    shuffled = index[:, torch.randperm(20)].to(torch.int16)
    graph = graph_from_neighbours(src, dst, shuffled, metric)
    assert torch.equal(graph.edge_index, usual.edge_index)
    assert graph.k == usual.k
    for name in ("distance", "offset", "relative_distance"):
        torch.testing.assert_close(getattr(graph, name), getattr(usual, name))
    assert torch.equal(graph.kernel_map(5).cell, usual.kernel_map(5).cell)


def test_padding_has_no_edges_but_shapes_the_neighbourhood(arrays):
    src, dst = arrays
    nodes = torch.arange(4).repeat(len(dst), 1)
    padded = torch.cat((nodes[:, :3], torch.full((len(dst), 1), len(src))), dim=1)
    assert graph_from_neighbours(src, dst, nodes).num_edges == 4 * len(dst)
    assert graph_from_neighbours(src, dst, padded).num_edges == 3 * len(dst)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x.float(), TypeError, "neighbours must be whole numbers"),
        (lambda x: x[1:], ValueError, r"must have shape \[\d+, k\]"),
        (lambda x: x[:, :0], ValueError, r"must have shape \[\d+, k\]"),
        (lambda x: x - 1, ValueError, "must be from 0 to"),
        (lambda x: x + 10_000, ValueError, "must be from 0 to"),
        (lambda x: x * 0, ValueError, "must not name a node twice, as they do for node 0"),
    ],
)
def test_what_are_no_neighbours_is_refused(arrays, change, error, message):
    src, dst = arrays
    neighbours = torch.arange(4).repeat(len(dst), 1)
    with pytest.raises(error, match=message):
        graph_from_neighbours(src, dst, change(neighbours))


def test_an_unknown_metric_is_refused(arrays):
    src, dst = arrays
    with pytest.raises(ValueError, match="metric must be one of"):
        graph_from_neighbours(src, dst, torch.arange(4).repeat(len(dst), 1), "nearby")


class TestPyramidOfReadyMadeGraphs:
    steps = (Step("conv", k=9, stride=2), Step("pool", k=9, stride=2))

    def test_has_them(self, arrays):
        usual = GraphPyramid(arrays[0], self.steps)
        pyramid = GraphPyramid(arrays[0], self.steps, graphs=usual.graphs)
        assert all(a is b for a, b in zip(pyramid.graphs, usual.graphs, strict=True))
        assert pyramid.kernel_sizes == usual.kernel_sizes
        assert repr(pyramid) == repr(usual)

    def test_needs_one_for_each_step(self, arrays):
        graphs = GraphPyramid(arrays[0], self.steps).graphs
        with pytest.raises(ValueError, match="graphs must be one for each of the 2 steps, got 1"):
            GraphPyramid(arrays[0], self.steps, graphs=graphs[:1])

    def test_needs_them_to_join_its_levels(self, arrays):
        graphs = GraphPyramid(arrays[0], self.steps).graphs
        with pytest.raises(ValueError, match=r"graphs\[0\] must lead from"):
            GraphPyramid(arrays[0], self.steps, graphs=[graphs[1], graphs[1]])
