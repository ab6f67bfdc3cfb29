"""What every operator takes and refuses: devices, dtypes, sizes, views, which gradients."""

import copy
from itertools import product

import pytest
import torch

import fovigraph as fg
from fovigraph import ops
from fovigraph.graph import KernelMap
from fovigraph.ops.knn_conv_shared import knn_conv_shared

CHANNELS, OUTPUTS, SIDE = 3, 2, 4


def shared(x, weight, kernel_map, bias=None):
    out = knn_conv_shared(x, weight, kernel_map)
    return out if bias is None else out + bias


def pooled(reduce):
    def pool(x, weight, kernel_map, bias=None):
        edges = kernel_map.by_dst
        return ops.knn_pool(x, edges.src, edges.ptr, reduce)

    return pool


CONVS = {"full": ops.knn_conv, "depthwise": ops.knn_depthwise_conv, "bilinear": shared}
POOLS = {reduce: pooled(reduce) for reduce in ("max", "mean", "sum")}
EVERY_CONV = pytest.mark.parametrize("name", CONVS)
EVERY_OP = pytest.mark.parametrize("name", CONVS | POOLS)


@pytest.fixture
def make(graph):
    """Features, weights and bias in float64, and the kernel map, for an operator."""

    def operands(name, batch=2):
        kernel_map = graph.kernel_map(SIDE, "bilinear" if name == "bilinear" else "nearest")
        outputs = OUTPUTS * CHANNELS if name == "depthwise" else OUTPUTS
        x = torch.randn(batch, graph.num_src, CHANNELS, dtype=torch.float64)
        weight = torch.randn(SIDE**2, CHANNELS, OUTPUTS, dtype=torch.float64)
        bias = torch.randn(outputs, dtype=torch.float64)
        return (CONVS | POOLS)[name], x, weight, bias, kernel_map

    return operands


@EVERY_CONV
@pytest.mark.parametrize("elsewhere", ["weight", "bias", "kernel_map"])
def test_mixed_devices_are_refused(make, name, elsewhere):
    if (name, elsewhere) == ("bilinear", "bias"):
        pytest.skip("its bias is no operand")
    op, x, weight, bias, kernel_map = make(name)
    if elsewhere == "kernel_map":
        x, weight, bias, elsewhere = x.to("meta"), weight.to("meta"), bias.to("meta"), "kernel_map"
        message = "kernel_map must be on meta like x, got it on cpu"
    else:
        message = f"{elsewhere} must be on cpu like x, got it on meta"
        weight = weight.to("meta") if elsewhere == "weight" else weight
        bias = bias.to("meta") if elsewhere == "bias" else bias
    with pytest.raises(ValueError, match=message):
        op(x, weight, kernel_map, bias)


def test_mixed_devices_are_refused_by_pools_and_layers(graph):
    x, far = torch.randn(2, graph.num_src, CHANNELS), copy.deepcopy(graph).to("meta")
    edges = graph.edge_index[0], graph.ptr
    with pytest.raises(ValueError, match="src must be on meta like x, got it on cpu"):
        ops.knn_pool(x.to("meta"), *edges, "max")
    with pytest.raises(ValueError, match="edge_weight must be on cpu like x, got it on meta"):
        ops.knn_pool(x, *edges, "sum", torch.ones(graph.num_edges, device="meta"))
    for layer in (fg.nn.KNNConv(CHANNELS, 2, SIDE), fg.nn.KNNPool("max")):
        with pytest.raises(ValueError, match="x is on cpu and the graph on meta"):
            layer(x, far)
    for layer in (fg.nn.KNNConv(CHANNELS, 2, SIDE), fg.nn.KNNDepthwiseConv(CHANNELS, SIDE)):
        layer = layer.to("meta")
        with pytest.raises(ValueError, match="x is on cpu and the layer's weight on meta"):
            layer(x, graph)
        assert layer(x.to("meta"), far).shape[:2] == (2, graph.num_dst)


@EVERY_CONV
def test_mixed_dtypes_are_refused(make, name):
    op, x, weight, bias, kernel_map = make(name)
    with pytest.raises(TypeError, match=r"weight must be torch.float64 like x, got torch.float32"):
        op(x, weight.float(), kernel_map)
    if name != "bilinear":
        with pytest.raises(TypeError, match=r"bias must be torch.float64 like x, got torch.float3"):
            op(x, weight, kernel_map, bias.float())
    with torch.autocast("cpu", torch.bfloat16):  # which casts all but float64, as for nn.Linear
        assert op(x.float(), weight.half(), kernel_map).dtype == torch.bfloat16
        assert op(x, weight, kernel_map).dtype == torch.float64
        with pytest.raises(
            TypeError, match=r"weight must be torch.float64 like x, got torch.float"
        ):
            op(x, weight.float(), kernel_map)


@EVERY_CONV
def test_sizes_that_do_not_fit_are_refused(make, name):
    op, x, weight, bias, kernel_map = make(name)
    if name != "bilinear":
        with pytest.raises(ValueError, match=rf"bias must be \[{len(bias)} outputs\], got shape"):
            op(x, weight, kernel_map, bias[1:])
    with pytest.raises(ValueError, match=rf"x must be \[..., {x.shape[1]} nodes, channels\], got"):
        op(x[:, 1:], weight, kernel_map)
    for other in (weight[1:], weight[:, 1:], weight[0]):
        with pytest.raises(ValueError, match=r"weight must be \[16 cells, 3 channels, outputs\]"):
            op(x, other, kernel_map)


@EVERY_CONV
@pytest.mark.parametrize("wrong", [None, [1.0], "x", torch.zeros(3, dtype=int), torch.ones(3) > 0])
def test_what_is_no_floating_point_tensor_is_refused_by_name(make, name, wrong):
    op, x, weight, _, kernel_map = make(name)
    with pytest.raises(TypeError, match=r"x must be .*floating.point"):
        op(wrong, weight, kernel_map)
    with pytest.raises(TypeError, match=r"weight must be .*floating.point"):
        op(x, wrong, kernel_map)
    if name != "bilinear" and wrong is not None:
        with pytest.raises(TypeError, match=r"bias must be .*floating.point"):
            op(x, weight, kernel_map, wrong)


@EVERY_CONV
def test_other_arguments_of_the_wrong_type_are_refused_by_name(make, graph, name):
    op, x, weight, bias, kernel_map = make(name)
    for wrong in (None, graph, graph.edge_index):
        with pytest.raises(TypeError, match="kernel_map must be a KernelMap, got"):
            op(x, weight, wrong)
    if name != "bilinear":
        with pytest.raises(TypeError, match="relu must be True or False, got 1"):
            op(x, weight, kernel_map, bias, 1)


VIEWS = {
    "channels first": lambda tensor: tensor.transpose(1, 2).contiguous().transpose(1, 2),
    "every other": lambda tensor: tensor.repeat_interleave(2, dim=-1)[..., ::2],
    "expanded": lambda tensor: tensor[:1].expand(tensor.shape),
}


@EVERY_OP
@pytest.mark.parametrize("view", VIEWS)
def test_views_give_the_same_values_and_gradients(make, name, view):
    op, x, weight, bias, kernel_map = make(name, batch=4)

    def run(look):
        leaves = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
        out = op(look(leaves[0]), look(leaves[1]), kernel_map, leaves[2])
        generator = torch.Generator().manual_seed(1)
        grad = look(torch.randn(out.shape, dtype=out.dtype, generator=generator))
        return out, *torch.autograd.grad(out, leaves, grad, materialize_grads=True)

    for found, wanted in zip(
        run(VIEWS[view]), run(lambda t: VIEWS[view](t).contiguous()), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@EVERY_CONV
@pytest.mark.parametrize("wanted", [w for w in product([False, True], repeat=3) if any(w)])
def test_any_choice_of_gradients_is_the_right_one(make, name, wanted):
    op, *leaves, kernel_map = make(name)
    for tensor in leaves:
        tensor.requires_grad_()
    loss = op(*leaves[:2], kernel_map, leaves[2]).square().sum()
    everything = torch.autograd.grad(loss, leaves)
    chosen = [t if want else t.detach() for t, want in zip(leaves, wanted, strict=True)]
    loss = op(*chosen[:2], kernel_map, chosen[2]).square().sum()
    loss.backward()
    for tensor, gradient, want in zip(leaves, everything, wanted, strict=True):
        assert (tensor.grad is not None) == want
        if want:
            torch.testing.assert_close(tensor.grad, gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("op", [ops.knn_conv, ops.knn_depthwise_conv])
def test_gradcheck_with_bias_and_relu(op):
    edges, cell = torch.tensor([[0, 1, 2, 2], [0, 0, 1, 2]]), torch.tensor([0, 3, 1, 1])
    kernel_map = KernelMap.from_edges(edges, cell, num_dst=4, num_src=4, num_cells=4)
    outputs = 2 if op is ops.knn_conv else 6
    leaves = [torch.randn(shape, dtype=torch.float64) for shape in ((2, 4, 3), (4, 3, 2), outputs)]
    assert torch.autograd.gradcheck(
        lambda x, weight, bias: op(x, weight, kernel_map, bias, True),
        [leaf.requires_grad_() for leaf in leaves],
    )


@EVERY_OP
@pytest.mark.parametrize("relu", [False, True])
def test_second_derivatives_are_those_of_finite_differences(make, name, relu):
    op, x, weight, bias, kernel_map = make(name)
    if relu and name not in ("full", "depthwise"):
        pytest.skip("has no ReLU")
    options = (True,) if relu else ()
    leaves = [leaf.requires_grad_() for leaf in (x, weight, bias)]
    used = leaves[: 3 if name in CONVS else 1]

    def run(*given):
        first, second, third = (*given, *leaves[len(given) :])
        return op(first, second, kernel_map, third, *options)

    assert torch.autograd.gradgradcheck(run, used, fast_mode=True)


@pytest.mark.parametrize(
    "layer",
    [
        fg.nn.KNNConv(3, 2, SIDE),
        fg.nn.KNNConv(3, 2, SIDE, interpolation="bilinear"),
        fg.nn.KNNDepthwiseConv(3, SIDE, 2),
        fg.nn.KNNPool("max"),
        fg.nn.KNNPool("gaussian"),
    ],
    ids=repr,
)
def test_unfused_layers_have_second_derivatives(layer, graph):
    layer = copy.deepcopy(layer).double()
    layer.fused = False
    x = torch.randn(1, graph.num_src, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x, graph), (x,), fast_mode=True)


@EVERY_OP
def test_two_runs_are_bitwise_equal(make, name):
    op, x, weight, bias, kernel_map = make(name, batch=16)
    leaves = [tensor.float().requires_grad_() for tensor in (x, weight, bias)]

    def run():
        out = op(*leaves[:2], kernel_map, leaves[2])
        return out, *torch.autograd.grad(out.square().sum(), leaves, materialize_grads=True)

    for first, second in zip(run(), run(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    "layer",
    [
        fg.nn.KNNConv(3, 2, SIDE),
        fg.nn.KNNConv(3, 2, SIDE, interpolation="bilinear"),
        fg.nn.KNNDepthwiseConv(3, SIDE, 2),
        fg.nn.KNNSeparableConv(3, 2, SIDE),
        *(fg.nn.KNNPool(mode) for mode in fg.nn.POOL_MODES),
    ],
    ids=repr,
)
def test_an_empty_batch_has_empty_results_and_gradients_of_zero(layer, graph):
    x = torch.randn(0, graph.num_src, 3, requires_grad=True)
    out = layer(x, graph)
    assert out.shape[:2] == (0, graph.num_dst)
    leaves = [x, *layer.parameters()]
    gradients = torch.autograd.grad(out.sum(), leaves)
    assert [gradient.shape for gradient in gradients] == [leaf.shape for leaf in leaves]
    assert not any(gradient.any() for gradient in gradients)
