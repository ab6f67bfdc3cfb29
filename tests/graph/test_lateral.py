"""Graphs beside the steps: within a level and back down."""

import copy
import pickle

import numpy as np
import pytest
import torch

from fovigraph import GraphPyramid, SensorArray, Step, knn_graph
from fovigraph.graph.lateral import lateral_graph, up_graph


@pytest.fixture(scope="module")
def pyramid():
    steps = [Step("conv", k=16, stride=2), Step("conv", k=9), Step("pool", k=4, stride=2)]
    return GraphPyramid(SensorArray.matched(12, fov=30.0, cmf_a=2.0), steps)


def nearest(src, dst, k):
    """The k smallest distances from every node of dst to nodes of src."""
    return torch.cdist(dst.cortical, src.cortical).sort(dim=1).values[:, :k]


def test_with_self_loops_it_is_the_knn_graph_of_a_level_with_itself(pyramid):
    level = pyramid.levels[1]
    graph, expected = pyramid.lateral("conv1", 9, self_loops=True), knn_graph(level, level, 9)
    for name, tensor in expected.fixed_tensors().items():
        assert getattr(graph, name).equal(tensor)
    assert (graph.edge_index[0] == graph.edge_index[1]).sum() == len(level)


def test_without_self_loops_it_is_the_same_graph_but_for_them(pyramid):
    graph, looped = pyramid.lateral(1, 8), pyramid.lateral(1, 9, self_loops=True)
    others = looped.edge_index[0] != looped.edge_index[1]
    assert graph.k == 8
    assert graph.edge_index.equal(looped.edge_index[:, others])
    assert graph.offset.equal(looped.offset[others])
    assert graph.distance.equal(looped.distance[others])
    assert graph.ptr[-1] == graph.num_edges
    assert graph.ptr.diff().max() == 8


def test_inner_nodes_have_k_neighbours_the_nearest_ones(pyramid):
    level, graph = pyramid.levels[0], pyramid.lateral("retina", 6)
    inner = graph.ptr.diff() == 6
    assert inner[: len(level) // 2].all()
    found = torch.stack(
        [
            d.sort().values
            for d in graph.distance.view(-1).split(graph.ptr.diff().tolist())
            if len(d) == 6
        ]
    )
    expected = nearest(level, level, 7)[inner, 1:].float()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_edge_attributes_are_distance_and_offset(pyramid):
    graph = pyramid.lateral("conv2", 5)
    assert graph.edge_attr.shape == (graph.num_edges, 3)
    assert graph.edge_attr[:, 0].equal(graph.distance)
    assert graph.edge_attr[:, 1:].equal(graph.offset)


def test_the_way_up_has_k_real_neighbours_everywhere_the_nearest_ones(pyramid):
    fine, coarse = pyramid.levels[2:4]
    graph = pyramid.up("pool1", 3)
    assert (graph.src, graph.dst) == (coarse, fine)
    assert (graph.ptr.diff() == 3).all()
    found = graph.distance.view(-1, 3).sort(dim=1).values
    torch.testing.assert_close(found, nearest(coarse, fine, 3).float(), rtol=1e-5, atol=1e-6)


def test_each_is_made_once_and_shared_by_equal_levels(pyramid):
    assert pyramid.lateral("conv1", 4) is pyramid.lateral(1, 4) is pyramid.lateral("conv2", 4)
    assert pyramid.lateral(1, 4) is not pyramid.lateral(1, 4, self_loops=True)
    assert pyramid.lateral(1, 4) is not pyramid.lateral(1, 5)
    assert pyramid.up(3, 2) is pyramid.up("pool1", 2)


def test_they_move_copy_and_pickle_with_the_pyramid_and_are_no_state(pyramid):
    pyramid = copy.deepcopy(pyramid)
    graph = pyramid.lateral("conv1", 4)
    assert graph in set(pyramid.modules())
    assert pyramid.state_dict() == {}
    other = pickle.loads(pickle.dumps(pyramid))
    assert other.lateral("conv1", 4).edge_index.equal(graph.edge_index)


def test_they_are_as_precise_as_the_pyramid(pyramid):
    pyramid = copy.deepcopy(pyramid).double()
    assert pyramid.lateral("conv1", 4).distance.dtype == torch.float64
    assert pyramid.up("pool1", 2).offset.dtype == torch.float64
    without_steps = GraphPyramid(SensorArray(5), [])
    without_steps.lateral(0, 3)
    assert without_steps.double().lateral(0, 4).distance.dtype == torch.float64


def test_they_are_near_as_the_pyramid_says():
    pyramid = GraphPyramid(SensorArray(9), [Step("conv", k=9)], metric="visual")
    assert pyramid.lateral(0, 4).metric == "visual"


@pytest.mark.parametrize(
    ("k", "loops", "message"),
    [
        (0, False, "k must be at least 1, got 0"),
        (34, True, "k must be at most 33, the number of nodes in .*, got 34"),
        (33, False, "k must be at most 32, the number of other nodes in .*, got 33"),
    ],
)
def test_lateral_k_that_the_level_has_not_is_refused(pyramid, k, loops, message):
    assert len(pyramid.levels[1]) == 33
    with pytest.raises(ValueError, match=message):
        pyramid.lateral("conv1", k, self_loops=loops)
    pyramid.lateral("conv1", 32)


def test_up_k_or_level_that_there_is_not_is_refused(pyramid):
    count = len(pyramid.levels[3])
    with pytest.raises(ValueError, match=f"k must be at most {count}, .* got {count + 1}"):
        pyramid.up("pool1", count + 1)
    with pytest.raises(ValueError, match="level must be above the retina, got 'retina'"):
        pyramid.up("retina")
    with pytest.raises(ValueError, match="level must be one of"):
        pyramid.lateral("pool9", 3)


@pytest.mark.parametrize("k", [None, 3.0, "3", True, [3], torch.tensor(3)], ids=repr)
def test_k_must_be_a_whole_number(pyramid, k):
    for make in (pyramid.lateral, pyramid.up):
        with pytest.raises(TypeError, match="k must be a whole number of at least 1, got"):
            make("conv1", k)


def test_k_may_be_an_integer_of_numpy(pyramid):
    assert up_graph(pyramid.levels[3], pyramid.levels[2], np.int64(2)).k == 2
    assert lateral_graph(pyramid.levels[3], np.int64(2)).k == 2


def test_arrays_and_flags_must_be_such(pyramid):
    level = pyramid.levels[1]
    with pytest.raises(TypeError, match="self_loops must be True or False, got 1"):
        pyramid.lateral("conv1", 3, self_loops=1)
    with pytest.raises(TypeError, match="array must be a SensorArray, got 3"):
        lateral_graph(3, 3)
    with pytest.raises(TypeError, match="src must be a SensorArray, got None"):
        up_graph(None, level, 3)
    with pytest.raises(TypeError, match="dst must be a SensorArray, got 'retina'"):
        up_graph(level, "retina", 3)
