"""Features given as ``[B, C, N]``: said to be that."""

import pytest
import torch

import fovigraph as fg

SRC = fg.SensorArray.matched(16)
GRAPH = fg.knn_graph(SRC, SRC.strided(2), k=9)
HINT = r"these are features \[..., channels, nodes\], and x.transpose\(-1, -2\)"

LAYERS = {
    "conv": fg.nn.KNNConv(3, 4, kernel_size=3),
    "depthwise": fg.nn.KNNDepthwiseConv(3, kernel_size=3),
    "separable": fg.nn.KNNSeparableConv(3, 4, kernel_size=3),
    "pool": fg.nn.KNNPool("max"),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_layers(layer):
    with pytest.raises(ValueError, match=HINT):
        layer(torch.rand(2, 3, len(SRC)), GRAPH)
    with pytest.raises(ValueError, match="got 5") as error:
        layer(torch.rand(2, 5, 3), GRAPH)
    assert "transpose" not in str(error.value)


def test_operator():
    kernel_map = GRAPH.kernel_map(3)
    with pytest.raises(ValueError, match=HINT):
        fg.ops.knn_conv(torch.rand(2, 3, len(SRC)), torch.rand(9, 3, 4), kernel_map)
