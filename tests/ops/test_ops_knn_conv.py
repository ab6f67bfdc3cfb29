"""The fast paths of kNN convolution against its definition, and what torch asks of an operator."""

import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fovigraph as fg
from fovigraph import ops
from fovigraph.graph import KernelMap
from fovigraph.ops import cpu, registration

FULL = torch.ops.fovigraph.knn_conv.default
DEPTHWISE = torch.ops.fovigraph.knn_depthwise_conv.default
fast = importlib.import_module("fovigraph.ops.knn_conv")
depthwise = importlib.import_module("fovigraph.ops.knn_depthwise")


def definition(x, weight, kernel_map):
    """y[dst] = Σ x[src] @ W[cell], one triple after the other."""
    y = x.new_zeros(x.shape[0], kernel_map.num_dst, weight.shape[2])
    y = y + 0 * (x.sum() + weight.sum())  # the gradients exist without a single triple, too
    for dst, src, cell in zip(kernel_map.dst, kernel_map.src, kernel_map.cell, strict=True):
        y[:, dst] += x[:, src] @ weight[cell]
    return y


@st.composite
def kernel_maps(draw):
    """Any list of triples: repeated, missing destinations, sources and cells included."""
    num_dst, num_src, num_cells = (draw(st.integers(1, 6)) for _ in range(3))
    triples = draw(
        st.lists(
            st.tuples(
                st.integers(0, num_dst - 1),
                st.integers(0, num_src - 1),
                st.integers(0, num_cells - 1),
            ),
            max_size=20,
        )
    )
    dst, src, cell = torch.tensor(triples, dtype=torch.int64).reshape(-1, 3).unbind(1)
    sizes = {"num_dst": num_dst, "num_src": num_src, "num_cells": num_cells}
    return KernelMap.from_edges(torch.stack((src, dst)), cell, **sizes)


def make(kernel_map, batch, channels, out_channels):
    x = torch.randn(batch, kernel_map.num_src, channels, dtype=torch.float64)
    weight = torch.randn(kernel_map.num_cells, channels, out_channels, dtype=torch.float64)
    return x.requires_grad_(), weight.requires_grad_()


@given(kernel_maps(), st.integers(0, 3), st.integers(1, 4), st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_both_ways_of_summing_are_the_definition(kernel_map, batch, channels, out_channels):
    x, weight = make(kernel_map, batch, channels, out_channels)
    expected = definition(x, weight, kernel_map)
    grad = torch.randn_like(expected)
    grad_x, grad_weight = torch.autograd.grad(expected, (x, weight), grad)

    by_dst, by_src, by_cell = kernel_map.by_dst, kernel_map.by_src, kernel_map.by_cell
    with torch.no_grad():
        for found, wanted in (
            (fast._gather_gemm_by_cell(x, weight, by_cell, kernel_map.num_dst), expected),
            (fast._gather_gemm_by_node(x, weight, by_dst), expected),
            (fast._gather_outer_by_cell(x, grad, by_cell), grad_weight),
            (fast._gather_outer_by_node(x, grad, by_dst, kernel_map.num_cells), grad_weight),
            (
                fast._gather_gemm_by_node(grad, weight.transpose(1, 2), by_src.reversed()),
                grad_x,
            ),
            (
                fast._gather_gemm_by_cell(
                    grad, weight.transpose(1, 2), by_cell.reversed(), kernel_map.num_src
                ),
                grad_x,
            ),
        ):
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def depthwise_definition(x, weight, kernel_map):
    y = x.new_zeros(x.shape[0], kernel_map.num_dst, weight.shape[1] * weight.shape[2])
    y = y + 0 * (x.sum() + weight.sum())
    for dst, src, cell in zip(kernel_map.dst, kernel_map.src, kernel_map.cell, strict=True):
        y[:, dst] += (x[:, src, :, None] * weight[cell]).flatten(1)
    return y


@given(kernel_maps(), st.integers(0, 3), st.integers(1, 4), st.integers(1, 10))
@settings(deadline=None, max_examples=40)
def test_depthwise_convolution_is_its_definition(kernel_map, batch, channels, multiplier):
    x, weight = make(kernel_map, batch, channels, multiplier)
    found = ops.knn_depthwise_conv(x, weight, kernel_map)
    wanted = depthwise_definition(x, weight, kernel_map)
    assert found.is_contiguous()
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    grad = torch.randn_like(wanted)
    for ours, theirs in zip(
        torch.autograd.grad(found, (x, weight), grad),
        torch.autograd.grad(wanted, (x, weight), grad),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("multiplier", [1, 2, depthwise.MANY])
def test_depthwise_convolution_in_lower_precision(graph, dtype, multiplier):
    kernel_map = graph.kernel_map(5)
    leaves = [tensor.detach().to(dtype) for tensor in make(kernel_map, 3, 8, multiplier)]
    grad = torch.randn(3, kernel_map.num_dst, 8 * multiplier).to(dtype)

    def run(op, dtype):
        x, weight = (leaf.to(dtype).requires_grad_() for leaf in leaves)
        out = op(x, weight, kernel_map)
        return out, *torch.autograd.grad(out, (x, weight), grad.to(dtype))

    every = run(ops.knn_depthwise_conv, dtype), run(depthwise_definition, torch.float64)
    for found, exact in zip(*every, strict=True):
        assert found.dtype == dtype
        error = (found.double() - exact).norm() / exact.norm()
        assert error < (1e-6 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("batch", [1, 2, 300])
@pytest.mark.parametrize("channels", [1, 3, 17])
def test_values_and_gradients_are_the_definitions(graph, batch, channels):
    kernel_map = graph.kernel_map(5)
    x, weight = make(kernel_map, batch, channels, 6)
    found, wanted = ops.knn_conv(x, weight, kernel_map), definition(x, weight, kernel_map)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    grad = torch.randn_like(wanted)
    for ours, theirs in zip(
        torch.autograd.grad(found, (x, weight), grad),
        torch.autograd.grad(wanted, (x, weight), grad),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precision_is_as_close_as_it_can_be(graph, dtype):
    kernel_map = graph.kernel_map(5)
    x, weight = make(kernel_map, 3, 8, 6)
    exact_x, exact_weight = x.to(dtype).double(), weight.to(dtype).double()
    exact = definition(exact_x, exact_weight, kernel_map)
    found = ops.knn_conv(x.to(dtype), weight.to(dtype), kernel_map).double()
    relative = (found - exact).norm() / exact.norm()
    assert relative < (1e-6 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("op", [ops.knn_conv, ops.knn_depthwise_conv])
def test_gradcheck(op):
    edges = torch.tensor([[0, 1, 2, 2, 3, 0], [0, 0, 1, 1, 1, 2]])
    cell = torch.tensor([0, 3, 1, 1, 2, 0])
    kernel_map = KernelMap.from_edges(edges, cell, num_dst=4, num_src=4, num_cells=5)
    x, weight = make(kernel_map, 2, 3, 2)
    assert torch.autograd.gradcheck(lambda x, weight: op(x, weight, kernel_map), (x, weight))


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_only_the_gradients_asked_for_are_made(graph, needs):
    kernel_map = graph.kernel_map(4)
    x, weight = make(kernel_map, 2, 3, 4)
    x.requires_grad_(needs[0])
    weight.requires_grad_(needs[1])
    ops.knn_conv(x, weight, kernel_map).sum().backward()
    assert (x.grad is not None, weight.grad is not None) == needs


@pytest.mark.parametrize("op", [ops.knn_conv, ops.knn_depthwise_conv])
def test_two_runs_are_bitwise_equal(graph, op):
    kernel_map = graph.kernel_map(5)
    x = torch.randn(16, kernel_map.num_src, 12, requires_grad=True)
    weight = torch.randn(25, 12, 8, requires_grad=True)

    def run():
        out = op(x, weight, kernel_map)
        return out, *torch.autograd.grad(out.square().sum(), (x, weight))

    for first, second in zip(run(), run(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("op", [ops.knn_conv, ops.knn_depthwise_conv])
def test_expanded_and_strided_features_are_taken_as_they_are(graph, op):
    kernel_map = graph.kernel_map(4)
    weight = torch.randn(16, 3, 5, dtype=torch.float64)
    channels_first = torch.randn(2, 3, kernel_map.num_src, dtype=torch.float64)
    views = (channels_first.transpose(1, 2), channels_first[:1].transpose(1, 2).expand(4, -1, -1))
    for view in views:
        copy = op(view.contiguous(), weight, kernel_map)
        torch.testing.assert_close(op(view, weight, kernel_map), copy)


def test_leading_dimensions_are_batch_dimensions(graph):
    kernel_map = graph.kernel_map(4)
    x, weight = make(kernel_map, 6, 3, 5)
    flat = ops.knn_conv(x, weight, kernel_map)
    folded = ops.knn_conv(x.view(2, 3, *x.shape[1:]), weight, kernel_map)
    torch.testing.assert_close(folded.flatten(0, 1), flat)
    torch.testing.assert_close(ops.knn_conv(x[0], weight, kernel_map), flat[0])
    assert ops.knn_conv(x[:0], weight, kernel_map).shape == (0, kernel_map.num_dst, 5)


def test_a_small_chunk_changes_nothing(graph, monkeypatch):
    kernel_map = graph.kernel_map(4)
    x, weight = make(kernel_map, 5, 40, 30)
    whole = fast._gather_gemm_by_cell(x, weight, kernel_map.by_cell, kernel_map.num_dst)
    monkeypatch.setattr("fovigraph.ops.rows.CHUNK", 1000)
    parts = fast._gather_gemm_by_cell(x, weight, kernel_map.by_cell, kernel_map.num_dst)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


def test_operators_pass_torchs_own_checks(graph):
    kernel_map = graph.kernel_map(4)
    x, weight = make(kernel_map, 2, 3, 4)
    rows, count = fast.three_ways(kernel_map), kernel_map.num_dst
    for operator, width in (
        (torch.ops.fovigraph.knn_conv.default, 4),
        (torch.ops.fovigraph.knn_depthwise_conv.default, 12),
    ):
        bias = torch.randn(width, dtype=torch.float64, requires_grad=True)
        torch.library.opcheck(operator, (x, weight, rows, None, None, count, False))
        torch.library.opcheck(operator, (x, weight, rows, None, bias, count, True))


def test_the_first_layer_sums_by_node_and_wide_layers_by_cell(monkeypatch):
    """3 channels, 121 neighbours; then 96 channels, 25 neighbours, from small batches on."""
    chosen = []
    monkeypatch.setattr(cpu, "serves", lambda *_: False)
    for way in ("cell", "node"):

        def gather(x, weight, *_, way=way):
            chosen.append(way)
            return x.new_empty(len(x), 230, weight.shape[2])

        monkeypatch.setattr(fast, f"_gather_gemm_by_{way}", gather)
    for batch in (4, 64):
        for channels, out_channels, k, cells in ((3, 96, 121, 484), (96, 256, 25, 100)):
            dst = torch.arange(230).repeat_interleave(k)
            src, cell = torch.zeros_like(dst), torch.arange(len(dst)) % cells
            sizes = {"num_dst": 230, "num_src": 1, "num_cells": cells}
            kernel_map = KernelMap.from_edges(torch.stack((src, dst)), cell, **sizes)
            x = torch.empty(batch, 1, channels)
            weight = torch.empty(cells, channels, out_channels)
            fast.gather_gemm(x, weight, kernel_map.by_dst, kernel_map.by_cell)
    assert chosen[0::2] == ["node", "node"]
    assert chosen[1] == "cell"


def steps(node):
    """The names of all steps of a backward pass."""
    if node is None:
        return set()
    return {node.name()}.union(*(steps(before) for before, _ in node.next_functions))


LAYERS = {
    "full": lambda: fg.nn.KNNConv(4, 6, kernel_size=3),
    "bilinear": lambda: fg.nn.KNNConv(4, 6, kernel_size=3, interpolation="bilinear"),
    "depthwise": lambda: fg.nn.KNNDepthwiseConv(4, kernel_size=3),
    "max pool": lambda: fg.nn.KNNPool("max"),
    "mean pool": lambda: fg.nn.KNNPool("mean"),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_calling_without_an_operator_changes_no_bit(layer, graph, monkeypatch):
    layer = layer().double()

    def results():
        x = torch.linspace(-1, 1, graph.num_src * 4, dtype=torch.float64).view(-1, 4).sin()
        x.requires_grad_()
        y = layer(x, graph)
        wanted = [x, *layer.parameters()]
        return y, steps(y.grad_fn), torch.autograd.grad(y.square().sum(), wanted)

    y, way, grads = results()
    for module in (registration, importlib.import_module("fovigraph.ops.knn_pool")):
        monkeypatch.setattr(module, "unobserved", lambda *_: False)
    by_operator, other_way, other_grads = results()
    assert way != other_way  # there are two ways to compare
    assert torch.equal(y, by_operator)
    assert all(map(torch.equal, grads, other_grads))


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_whoever_watches_operators_sees_them(layer, graph):
    layer = layer()
    x = torch.rand(graph.num_src, 4, requires_grad=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        layer(x, graph).sum().backward()
    seen = {event.name for event in profiler.events() if event.name.startswith("fovigraph::")}
    assert len(seen) == 2  # forward and backward
