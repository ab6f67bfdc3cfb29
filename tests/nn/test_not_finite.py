"""Features, weights and offsets that are not finite: both paths of a layer give the same values."""

import math

import pytest
import torch

from fovigraph.graph.kernel_map import bilinear_cells, nearest_cell
from fovigraph.nn import POOL_MODES, KNNConv, KNNPool, KNNSeparableConv
from fovigraph.nn.knn_conv import KNNDepthwiseConv

SIZE = (12, 6)
NOT_FINITE = (math.inf, -math.inf, math.nan)
LAYERS = {
    "nearest": lambda side: KNNConv(3, 2, side),
    "bilinear": lambda side: KNNConv(3, 2, side, interpolation="bilinear"),
    "depthwise": lambda side: KNNDepthwiseConv(3, side, 2),
    "separable": lambda side: KNNSeparableConv(3, 2, side),
    **{mode: lambda _, mode=mode: KNNPool(mode) for mode in POOL_MODES},
}


def edges():
    """Some of all possible edges, in any order."""
    pairs = torch.cartesian_prod(*map(torch.arange, SIZE))
    return pairs[torch.randperm(len(pairs))[:30]].T


def sprinkled(values, choice, share=0.15):
    """Values of which some are others."""
    others = torch.tensor(choice, dtype=values.dtype)[torch.randint(len(choice), values.shape)]
    return torch.where(torch.rand(values.shape) < share, others, values)


def found(layer, fused, x, edge_index, offset):
    """What a layer computes, and the gradients of features and weights."""
    layer.fused, x = fused, x.clone().requires_grad_()
    options = {}
    if getattr(layer, "interpolation", None) == "bilinear":
        options["offset"] = offset
    elif isinstance(layer, KNNPool):
        gaussian = layer.mode == "gaussian"
        options["relative_distance"] = offset.abs().sum(1).clamp(max=1) if gaussian else None
    else:
        options["cell"] = nearest_cell(offset, layer.kernel_size)
    y = layer((x, None), edge_index, size=SIZE, **options)
    return y, *torch.autograd.grad(y, (x, *layer.parameters()), torch.randn_like(y))


@pytest.mark.parametrize("what", ["features", "weights", "offsets"])
@pytest.mark.parametrize("name", LAYERS)
def test_both_paths_agree(name, what):
    for side in (1, 2, 3, 4):
        layer, edge_index = LAYERS[name](side).double(), edges()
        x = torch.randn(2, SIZE[0], 3, dtype=torch.float64)
        offset = torch.randn(edge_index.shape[1], 2, dtype=torch.float64)  # some of them on edges
        if what == "features":
            x = sprinkled(x, NOT_FINITE)
        elif what == "offsets":
            offset = sprinkled(offset, NOT_FINITE[:2], 0.5)
        else:
            for weight in layer.parameters():
                weight.data = sprinkled(weight.data, NOT_FINITE)
        state = torch.get_rng_state()
        fused = found(layer, True, x, edge_index, offset)
        torch.set_rng_state(state)
        for ours, theirs in zip(fused, found(layer, False, x, edge_index, offset), strict=True):
            torch.testing.assert_close(ours, theirs, equal_nan=True)


@pytest.mark.parametrize("side", [1, 2, 5])
def test_an_infinite_offset_lies_on_the_edge_of_the_kernel(side):
    offset = torch.tensor([[math.inf, -math.inf], [-math.inf, 0.2], [1e300, math.inf]]).double()
    assert nearest_cell(offset, side).equal(nearest_cell(offset.clamp(-1, 1), side))
    for ours, theirs in zip(
        bilinear_cells(offset, side), bilinear_cells(offset.clamp(-1, 1), side), strict=True
    ):
        assert ours.equal(theirs)


def test_a_learnt_offset_has_both_derivatives_where_a_share_is_zero():
    """On a cell, the share of the next one is zero, but not its derivative."""
    conv = KNNConv(1, 1, 3, bias=False, interpolation="bilinear").double()
    conv.weight.data = torch.arange(9.0).double().view(9, 1, 1)
    offset = torch.tensor([[0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, 1, dtype=torch.float64)
    y = conv((one, None), torch.zeros(2, 1, dtype=torch.int64), offset=offset, size=(1, 1))
    y.sum().backward()
    assert y.item() == 4
    assert offset.grad.tolist() == [[3, 1]]  # from cell 4 to cells 7 and 5, half the kernel away
