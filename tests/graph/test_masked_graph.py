"""Graphs between masked arrays, and on a cortex that runs in a circle."""

import math

import pytest
import torch

import fovigraph as fg
from fovigraph import SensorArray, knn_graph
from fovigraph.graph import GraphPyramid, Step
from fovigraph.nn import KNNConv, KNNPool, KNNSeparableConv

LOGPOLAR = {"layout": "logpolar_image"}
WARPED = {"layout": "warped_cartesian"}
SQUARES = {**WARPED, "extent": "square", "norm": math.inf}


@pytest.mark.parametrize(
    ("options", "sides", "edges"),
    [
        (LOGPOLAR, (32, 16), [2208, 6080, 11744]),
        (WARPED, (32, 16), [1797, 4778, 9119]),
        ({**WARPED, "extent": "square"}, (32, 16), [1897, 5043, 9625]),
        (SQUARES, (32, 16), [2300, 6020, 11456]),
        ({**WARPED, "extent": "wang"}, (32, 16), [2300, 6020, 11456]),
        (LOGPOLAR, (16, 8), [528, 1440, 2752]),
        (WARPED, (16, 8), [449, 1124, 2082]),
        ({**WARPED, "extent": "square"}, (16, 8), [454, 1141, 2122]),
        (SQUARES, (16, 8), [572, 1412, 2592]),
        ({"extent": "square"}, (29, 15), [2220, 6055, 11725]),
    ],
)
def test_edges(options, sides, edges):
    src, dst = (SensorArray(side, **options) for side in sides)
    assert [knn_graph(src, dst, k).num_edges for k in (9, 25, 49)] == edges


def test_a_logpolar_cortex_is_the_same_all_around():
    """Every spoke has the distances of the next: none is cut off where angles begin again."""
    src, dst = SensorArray(16, **LOGPOLAR), SensorArray(8, **LOGPOLAR)
    graph = knn_graph(src, dst, 15)
    spokes = (graph.edge_index[1] // 8).bincount().tolist()
    assert len(set(spokes)) == 1
    first, *others = graph.distance.split(spokes)
    for other in others:
        torch.testing.assert_close(other.sort().values, first.sort().values)


def test_masked_nodes_take_part_in_no_edge():
    src, dst = SensorArray(16, **WARPED), SensorArray(8, **WARPED)
    graph = knn_graph(src, dst, 9)
    assert src.mask[graph.edge_index[0]].all()
    assert dst.mask[graph.edge_index[1]].all()
    assert graph.silent[~dst.mask].all()
    whole = knn_graph(SensorArray(16, **SQUARES), SensorArray(8, **SQUARES), 9)
    assert whole.silent is None


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_outputs_without_neighbours_are_zero_after_the_bias(fused, interpolation):
    src, dst = SensorArray(12, **WARPED), SensorArray(6, **WARPED)
    graph = knn_graph(src, dst, 9)
    x = torch.randn(2, len(src), 3, dtype=torch.float64, requires_grad=True)
    conv = KNNConv(3, 4, 3, interpolation=interpolation).double()
    torch.nn.init.constant_(conv.bias, 5.0)
    conv.fused = fused
    out = conv(x, graph)
    assert not out[:, graph.silent].any()
    assert out[:, ~graph.silent].all()
    out.sum().backward()
    assert not x.grad[:, ~src.mask].any()
    for mode in ("max", "mean", "sum", "gaussian"):
        assert not KNNPool(mode)(x, graph)[:, graph.silent].any()
    separable = KNNSeparableConv(3, 4, 3).double()
    assert not separable(x, graph)[:, graph.silent].any()


@pytest.mark.parametrize("sampling", ["nearest", "bilinear", "area", "knn_mean"])
def test_samples_of_masked_nodes_are_zero(sampling):
    array = SensorArray(8, **WARPED)
    retina = fg.Retina(array, sampling, mean=[0.5] * 3, std=[0.2] * 3)
    samples = retina(torch.full((1, 3, 40, 40), 0.9), torch.full((1, 1, 2), 0.5))
    assert not samples[:, :, ~array.mask].any()
    torch.testing.assert_close(samples[:, :, 27], torch.full((1, 1, 3), 2.0))


@pytest.mark.parametrize("options", [WARPED, SQUARES, LOGPOLAR, {"extent": "square"}])
def test_hetero_data_there_and_back(options):
    pyramid = GraphPyramid(SensorArray(12, **options), [Step("conv", k=9, stride=2)])
    data = pyramid.to_hetero_data()
    again = GraphPyramid.from_hetero_data(data)
    assert list(again.levels) == list(pyramid.levels)
    name, array = pyramid.names[0], pyramid.levels[0]
    if array.mask is None:
        assert "mask" not in data[name]
    else:
        assert data[name].mask.equal(array.mask)


def test_without_a_cortex_only_the_visual_field_makes_neighbours():
    src, dst = (SensorArray(side, layout="uniform_square") for side in (8, 4))
    assert knn_graph(src, dst, 4, "visual").num_edges == 64
    for metric in ("cortical", "geodesic"):
        with pytest.raises(ValueError, match=r"has none: metric='visual'"):
            knn_graph(src, dst, 4, metric)
    flat = [SensorArray(side, **LOGPOLAR) for side in (8, 4)]
    with pytest.raises(ValueError, match=r"metric must be 'cortical' or 'visual' for layouts with"):
        knn_graph(*flat, 4, "geodesic")


@pytest.mark.parametrize("options", [WARPED, LOGPOLAR, {"layout": "uniform_square"}])
def test_the_way_back_up_comes_from_nodes_that_carry_something(options):
    metric = "visual" if "uniform_square" in options.values() else "cortical"
    steps = [Step("conv", k=9, stride=2)]
    pyramid = GraphPyramid(SensorArray.matched(12, **options), steps, metric)
    graph = pyramid.up(1, k=3)
    assert torch.isin(graph.edge_index[0], graph.src.valid_nodes).all()
    below = pyramid.levels[0].valid_nodes
    assert graph.edge_index[1].bincount(minlength=144)[below].eq(3).all()
    assert pyramid.to_hetero_data(up=200).edge_types


def test_a_graph_that_reaches_every_node_has_none_to_silence():
    graph = knn_graph(SensorArray(16, **LOGPOLAR), SensorArray(8, **LOGPOLAR), 9)
    assert graph.silent is None
    assert graph.silent_src is None
