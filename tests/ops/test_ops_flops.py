"""The arithmetic that ``torch.utils.flop_counter`` counts of the operators."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import fovigraph as fg

A = fg.SensorArray.matched(12)
GRAPH = fg.knn_graph(A, A.strided(2), k=9)


def counted(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


LAYERS = {
    "full": (lambda: fg.nn.KNNConv(3, 8, 3), 2 * GRAPH.num_edges * 3 * 8),
    "bilinear": (
        lambda: fg.nn.KNNConv(3, 8, 3, interpolation="bilinear"),
        2 * len(GRAPH.kernel_map(3, "bilinear").dst) * 3 * 8,
    ),
    "depthwise": (lambda: fg.nn.KNNDepthwiseConv(3, 3, 2), 2 * GRAPH.num_edges * 3 * 2),
    "separable": (
        lambda: fg.nn.KNNSeparableConv(3, 8, 3),
        2 * GRAPH.num_edges * 3 + 2 * GRAPH.num_dst * 3 * 8,
    ),
    "max pool": (lambda: fg.nn.KNNPool("max"), GRAPH.num_edges * 3),
    "mean pool": (lambda: fg.nn.KNNPool("mean"), GRAPH.num_edges * 3),
    "gaussian pool": (lambda: fg.nn.KNNPool("gaussian"), GRAPH.num_edges * 3),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_counts_its_edges(name):
    make, flops = LAYERS[name]
    layer, x = make(), torch.rand(2, GRAPH.num_src, 3)
    with torch.no_grad():
        assert counted(lambda: layer(x, GRAPH)) == 2 * flops


@pytest.mark.parametrize("name", ["full", "bilinear", "depthwise"])
def test_a_backward_pass_costs_a_forward_pass_for_each_gradient(name):
    make, flops = LAYERS[name]
    layer = make()
    for needs_input in (False, True):
        x = torch.rand(2, GRAPH.num_src, 3, requires_grad=needs_input)
        total = counted(lambda x=x: layer(x, GRAPH).sum().backward())
        assert total == 2 * flops * (2 + needs_input)


def test_the_count_is_that_of_the_unfused_definition():
    """One vector–matrix product for every edge, which torch counts as a batched GEMM."""
    layer, x = fg.nn.KNNConv(3, 8, 3), torch.rand(1, GRAPH.num_src, 3)
    with torch.no_grad():
        fused = counted(lambda: layer(x, GRAPH))
        features = x[0, GRAPH.edge_index[0], None]
        weights = layer.weight[GRAPH.kernel_map(3).cell]
        assert fused == counted(lambda: torch.bmm(features, weights))
