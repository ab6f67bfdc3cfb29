"""The GPU kernels against their definitions in float64.

On a GPU where there is one. Elsewhere in Triton's interpreter, which must be chosen before Triton
is imported: `test_ops_gpu_without.py` runs this file so, in a process of its own.
"""

import importlib
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("no GPU: run by test_ops_gpu_without.py", allow_module_level=True)

import fovigraph as fg  # noqa: E402
from fovigraph import ops  # noqa: E402
from fovigraph.graph import KernelMap, Triples  # noqa: E402
from fovigraph.ops import gpu  # noqa: E402
from fovigraph.ops.gpu import conv, launch, outer  # noqa: E402
from fovigraph.ops.gpu import reduce as reduction  # noqa: E402

DEVICE = "cpu" if INTERPRETED else "cuda"
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 1e-2, torch.float16: 1e-2}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)
few = settings(deadline=None, max_examples=10)

if INTERPRETED:
    import triton.language as tl
    from triton.runtime import interpreter

    dot = interpreter.InterpreterBuilder.create_dot

    def widened(handle):
        """Turn bfloat16, whose bits the interpreter would multiply as integers, into float32."""
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        bits = handle.data.astype("uint32") << 16
        return interpreter.TensorHandle(bits.view("float32"), tl.float32)

    interpreter.InterpreterBuilder.create_dot = lambda self, a, b, *rest: dot(
        self, widened(a), widened(b), *rest
    )


os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for the definitions


@pytest.fixture(autouse=True)
def _kernels_also_on_cpu(monkeypatch):
    if INTERPRETED:
        monkeypatch.setattr(gpu, "serves", lambda *tensors: tensors[0].dtype in gpu.DTYPES)


@pytest.fixture(autouse=True)
def _memory_that_nothing_wrote_is_nan():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@st.composite
def kernel_maps(draw):
    """Any list of triples: repeated, missing destinations, sources and cells included."""
    num_dst, num_src, num_cells = (draw(st.integers(1, 5)) for _ in range(3))
    triple = st.tuples(*(st.integers(0, n - 1) for n in (num_dst, num_src, num_cells)))
    triples = draw(st.lists(triple, max_size=20))
    dst, src, cell = torch.tensor(triples, dtype=torch.int64).reshape(-1, 3).unbind(1)
    return kernel_map_of(dst, src, cell, num_dst, num_src, num_cells)


def kernel_map_of(dst, src, cell, num_dst, num_src, num_cells):
    sizes = {"num_dst": num_dst, "num_src": num_src, "num_cells": num_cells}
    edges = torch.stack((src, dst)).to(DEVICE)
    return KernelMap.from_edges(edges, cell.to(DEVICE), **sizes)


def ragged(edges=40, num_dst=5, num_src=7, num_cells=6):
    """Rows of any length, the last of each kind empty."""
    generator = torch.Generator().manual_seed(1)
    ends = [torch.randint(n, (edges,), generator=generator) for n in (num_dst, num_src, num_cells)]
    return kernel_map_of(*ends, num_dst + 1, num_src + 1, num_cells + 1)


def randn(*shape, dtype=torch.float32):
    return torch.randn(shape).to(DEVICE, dtype)


def conv_definition(x, weight, kernel_map):
    messages = torch.einsum("bec,eco->beo", x[:, kernel_map.src], weight[kernel_map.cell])
    out = x.new_zeros(len(x), kernel_map.num_dst, weight.shape[2])
    return out.index_add(1, kernel_map.dst, messages)


def depthwise_definition(x, weight, kernel_map):
    messages = (x[:, kernel_map.src, :, None] * weight[kernel_map.cell]).flatten(2)
    out = x.new_zeros(len(x), kernel_map.num_dst, messages.shape[2])
    return out.index_add(1, kernel_map.dst, messages)


def assert_close(found, exact, tolerance=None):
    assert found.shape == exact.shape
    tolerance = TOLERANCE[found.dtype] if tolerance is None else tolerance
    assert (found.double() - exact).norm() <= tolerance * exact.norm()


def check_with_gradients(function, definition, *tensors):
    """Compare values and gradients with the definition in float64, of the same rounded inputs."""
    ours = [tensor.detach().requires_grad_() for tensor in tensors]
    theirs = [tensor.detach().double().requires_grad_() for tensor in tensors]
    found, exact = function(*ours), definition(*theirs)
    assert found.dtype == tensors[0].dtype
    assert_close(found, exact)
    grad = torch.randn_like(found)
    gradients = torch.autograd.grad(found, ours, grad)
    exact_gradients = torch.autograd.grad(exact, theirs, grad.double())
    for mine, true in zip(gradients, exact_gradients, strict=True):
        assert_close(mine, true)


@few
@given(kernel_maps(), st.integers(0, 20), st.integers(1, 20), st.integers(1, 20))
def test_convolution_of_any_shape(kernel_map, batch, channels, out_channels):
    x = randn(batch, kernel_map.num_src, channels)
    weight = randn(kernel_map.num_cells, channels, out_channels)
    check_with_gradients(
        lambda x, weight: ops.knn_conv(x, weight, kernel_map),
        lambda x, weight: conv_definition(x, weight, kernel_map),
        *(x, weight),
    )


@DTYPES
@pytest.mark.parametrize(
    ("batch", "channels", "out_channels"),
    [
        (1, 1, 1),
        (33, 3, 17),  # several neighbours a step, features copied to have the batch last
        (5, 11, 2),
        (3, 40, 33),  # one neighbour a step, not divided by its length
        (65, 16, 16),  # in the weight gradient, one neighbour a step
    ],
)
def test_convolution_of_every_dtype(dtype, batch, channels, out_channels):
    kernel_map = ragged()
    x = randn(batch, kernel_map.num_src, channels, dtype=dtype)
    weight = randn(kernel_map.num_cells, channels, out_channels, dtype=dtype)
    check_with_gradients(
        lambda x, weight: ops.knn_conv(x, weight, kernel_map),
        lambda x, weight: conv_definition(x, weight, kernel_map),
        *(x, weight),
    )


def test_layers_on_a_graph():
    retina = fg.SensorArray.matched(6)
    graph = fg.knn_graph(retina, retina.strided(2), k=9).to(DEVICE)
    conv, pool = fg.nn.KNNConv(3, 8, kernel_size=4).to(DEVICE), fg.nn.KNNPool("gaussian")
    x = randn(2, graph.num_src, 3)
    found = conv(x, graph), pool(x, graph)
    conv.fused = pool.fused = False
    for fused, exact in zip(found, (conv.double()(x.double(), graph), pool(x, graph)), strict=True):
        assert_close(fused, exact)


@DTYPES
@pytest.mark.parametrize("by_node", [False, True])
@pytest.mark.parametrize("batch", [1, 18, 64])
def test_both_orders_of_the_weight_gradient(dtype, by_node, batch):
    kernel_map = ragged()
    x = randn(batch, kernel_map.num_src, 3, dtype=dtype)
    grad = randn(batch, kernel_map.num_dst, 34, dtype=dtype)
    if by_node:
        found = outer._by_node(x, grad, kernel_map.by_dst, kernel_map.by_cell)
    else:
        found = outer._by_cell(x, grad, kernel_map.by_cell)
    products = torch.einsum(
        "bec,beo->eco", x.double()[:, kernel_map.src], grad.double()[:, kernel_map.dst]
    )
    exact = products.new_zeros(kernel_map.num_cells, 3, 34)
    assert_close(found, exact.index_add(0, kernel_map.cell, products))


def test_the_weight_gradient_goes_by_node_where_that_reads_less(monkeypatch):
    chosen = []
    monkeypatch.setattr(outer, "_by_node", lambda *_: chosen.append("node"))
    monkeypatch.setattr(outer, "_by_cell", lambda *_: chosen.append("cell"))
    monkeypatch.setattr(outer, "chip", lambda _: launch.Chip(2, 1 << 16, 1 << 16, False))
    for batch, channels in ((1, 3), (64, 3), (2048, 3), (2048, 96)):  # the second fits the cache
        features, gradients = torch.empty(batch, 1, channels), torch.empty(batch, 1, 96)
        outer.gather_outer(features, gradients, None, None)
    assert chosen == ["cell", "cell", "node", "cell"]


def test_work_cut_into_many_pieces_is_the_same(monkeypatch):
    """Small tiles, several of the batch together, sums in parts, products in slices."""
    for module in (conv, outer, reduction):
        monkeypatch.setattr(module, "power_of_two", lambda size, least, most: max(1, least))
        monkeypatch.setattr(module, "chip", lambda device: launch.Chip(50, 1 << 16, 16_000, False))
    monkeypatch.setattr(outer, "LITTLE", 1)
    kernel_map = ragged(25)
    for channels in (3, 20):
        x = randn(33, kernel_map.num_src, channels)
        weight = randn(kernel_map.num_cells, channels, 17)
        check_with_gradients(
            lambda x, weight: ops.knn_conv(x, weight, kernel_map),
            lambda x, weight: conv_definition(x, weight, kernel_map),
            *(x, weight),
        )
    check_with_gradients(
        lambda x, weight: ops.knn_depthwise_conv(x, weight, kernel_map),
        lambda x, weight: depthwise_definition(x, weight, kernel_map),
        *(randn(3, kernel_map.num_src, 5), randn(kernel_map.num_cells, 5, 2)),
    )


@DTYPES
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    ("op", "definition", "outputs"),
    [
        (ops.knn_conv, conv_definition, 6),
        (ops.knn_depthwise_conv, depthwise_definition, 24),
    ],
)
def test_bias_and_relu_are_fused_into_the_store(op, definition, outputs, relu, dtype):
    kernel_map, end = ragged(), torch.relu if relu else torch.clone
    check_with_gradients(
        lambda x, weight, bias: op(x, weight, kernel_map, bias, relu),
        lambda x, weight, bias: end(definition(x, weight, kernel_map) + bias),
        randn(3, kernel_map.num_src, 4, dtype=dtype),
        randn(kernel_map.num_cells, 4, 6, dtype=dtype),
        randn(outputs, dtype=dtype),
    )


def test_relu_lets_nan_through():
    kernel_map = ragged()
    x, weight = randn(1, kernel_map.num_src, 4), randn(kernel_map.num_cells, 4, 1)
    x[:, kernel_map.by_dst.src[0]] = torch.nan
    for op in (ops.knn_conv, ops.knn_depthwise_conv):
        assert op(x, weight, kernel_map, None, True)[0, 0].isnan().all()


@DTYPES
@pytest.mark.parametrize("multiplier", [1, 3])
def test_depthwise_convolution(dtype, multiplier):
    kernel_map = ragged()
    x = randn(3, kernel_map.num_src, 5, dtype=dtype)
    weight = randn(kernel_map.num_cells, 5, multiplier, dtype=dtype)
    check_with_gradients(
        lambda x, weight: ops.knn_depthwise_conv(x, weight, kernel_map),
        lambda x, weight: depthwise_definition(x, weight, kernel_map),
        *(x, weight),
    )


@few
@given(kernel_maps(), st.integers(0, 9), st.integers(1, 9), st.integers(1, 3))
def test_depthwise_convolution_of_any_shape(kernel_map, batch, channels, multiplier):
    x = randn(batch, kernel_map.num_src, channels)
    weight = randn(kernel_map.num_cells, channels, multiplier)
    check_with_gradients(
        lambda x, weight: ops.knn_depthwise_conv(x, weight, kernel_map),
        lambda x, weight: depthwise_definition(x, weight, kernel_map),
        *(x, weight),
    )


pool = importlib.import_module("fovigraph.ops.knn_pool")


def pooled(x, kernel_map, reduce, weight=None, by_src=True, most=None):
    edges, sources = kernel_map.by_dst, kernel_map.by_src if by_src else None
    return ops.knn_pool(x, edges.src, edges.ptr, reduce, weight, sources, most)


def pool_definition(x, kernel_map, reduce, weight=None):
    """The same, by the way that tensors in float64 go."""
    edges = kernel_map.by_dst
    return ops.knn_pool(x, edges.src, edges.ptr, reduce, weight)


POOLS = pytest.mark.parametrize("reduce", ["max", "mean", "sum", "weighted"])


def weights_for(reduce, kernel_map, dtype=torch.float32):
    weighted = reduce == "weighted"
    weight = torch.rand(len(kernel_map)).to(DEVICE, dtype) if weighted else None
    return "sum" if weighted else reduce, weight


@DTYPES
@POOLS
@pytest.mark.parametrize("by_src", [True, False])
def test_pooling(dtype, reduce, by_src):
    kernel_map = ragged()
    reduce, weight = weights_for(reduce, kernel_map, dtype)
    check_with_gradients(
        lambda x: pooled(x, kernel_map, reduce, weight, by_src),
        lambda x: pool_definition(x, kernel_map, reduce, weight),
        randn(3, kernel_map.num_src, 6, dtype=dtype),
    )


@few
@given(kernel_maps(), st.integers(0, 9), st.integers(1, 9), st.sampled_from([None, 20]))
def test_pooling_of_any_shape(kernel_map, batch, channels, most):
    for reduce in ("max", "mean", "sum"):
        check_with_gradients(
            lambda x, reduce=reduce: pooled(x, kernel_map, reduce, most=most),
            lambda x, reduce=reduce: pool_definition(x, kernel_map, reduce),
            randn(batch, kernel_map.num_src, channels),
        )


@pytest.mark.parametrize("values", [[0.0], [0.0, 1.0], [-torch.inf, 1, torch.nan], [-torch.inf]])
def test_ties_go_to_the_neighbour_that_the_cpu_gives_them_to(values):
    src, ptr = torch.randint(7, (20,)), torch.tensor([0, 5, 5, 6, 20])
    x = torch.tensor(values)[torch.randint(len(values), (2, 7, 5))]
    wanted = torch.func.grad(lambda x: ops.knn_pool(x, src, ptr, "max").sum())(x)
    x = x.to(DEVICE).requires_grad_()
    out = ops.knn_pool(x, src.to(DEVICE), ptr.to(DEVICE), "max")
    assert torch.autograd.grad(out.sum(), x)[0].cpu().equal(wanted)


def test_the_first_of_equals_wins_and_nan_wins_always():
    dst, src = torch.tensor([[0, 0, 0, 1, 1], [0, 1, 1, 1, 2]])
    kernel_map = kernel_map_of(dst, src, torch.zeros_like(dst), 2, 3, 1)
    x = torch.tensor([1.0, 1.0, float("nan")], device=DEVICE).view(1, 3, 1).requires_grad_()
    out = pooled(x, kernel_map, "max")
    assert out[0, 0] == 1
    assert out[0, 1].isnan()
    out[0, 0].sum().backward()
    assert x.grad.flatten().tolist() == [1, 0, 0]
    low = torch.full((1, 3, 1), float("-inf"), device=DEVICE, requires_grad=True)
    pooled(low, kernel_map, "max").sum().backward()
    assert low.grad.flatten().tolist() == [1, 1, 0]


def test_winners_take_a_byte_where_that_is_enough():
    edges, x = ragged().by_dst, randn(2, 8, 3)
    for most, dtype in ((256, torch.uint8), (257, torch.int32), (None, torch.int32)):
        _, winner = torch.ops.fovigraph.knn_pool(x, edges.src, edges.ptr, "max", None, most=most)
        assert winner.dtype == dtype


def test_more_neighbours_than_promised_are_not_passed_over_in_silence():
    dst = torch.tensor([0] * 257 + [1] * 256)
    src = torch.arange(len(dst)) % 300
    kernel_map = kernel_map_of(dst, src, torch.zeros_like(dst), 2, 300, 1)
    x = randn(2, 300, 3)
    edges, exact = kernel_map.by_dst, pool_definition(x, kernel_map, "max")
    found = pool.reduce_rows(x, edges.src, edges.ptr, "max", most=9)
    assert found[:, 0].isnan().all()
    assert torch.equal(found[:, 1], exact[:, 1])
    assert torch.equal(pooled(x, kernel_map, "max"), exact)


@pytest.mark.parametrize("name", ["full", "depthwise", "max", "mean", "sum", "weighted"])
def test_second_derivatives_and_batches_of_gradients(name):
    kernel_map = ragged()
    leaves = [randn(2, kernel_map.num_src, 3), randn(kernel_map.num_cells, 3, 2)]

    def run(dtype):
        x, weight = (leaf.to(dtype).requires_grad_() for leaf in leaves)
        if name in ("full", "depthwise"):
            op = ops.knn_conv if name == "full" else ops.knn_depthwise_conv
            inputs, out = (x, weight), op(x, weight, kernel_map)
        else:
            reduce, factor = weights_for(name, kernel_map)
            inputs, out = (x,), pooled(x, kernel_map, reduce, factor)
        pull = torch.stack((out, 2 * out)).detach()
        batched = torch.autograd.grad(out, inputs, pull, retain_graph=True, is_grads_batched=True)
        grads = torch.autograd.grad(out.pow(3).sum(), inputs, create_graph=True)
        twice = torch.autograd.grad(sum(grad.pow(2).sum() for grad in grads), inputs)
        return *batched, *twice

    torch.use_deterministic_algorithms(False)  # plain sums on a GPU have no fixed order
    torch.manual_seed(0)
    found = run(torch.float32)
    torch.manual_seed(0)
    for ours, exact in zip(found, run(torch.float64), strict=True):
        assert_close(ours, exact, tolerance=1e-5)


@pytest.mark.parametrize("op", [ops.knn_conv, ops.knn_depthwise_conv])
def test_two_runs_are_bitwise_equal(op):
    kernel_map = ragged()
    x = randn(33, kernel_map.num_src, 12).requires_grad_()
    weight = randn(kernel_map.num_cells, 12, 3).requires_grad_()

    def run():
        out = op(x, weight, kernel_map)
        return out, *torch.autograd.grad(out.square().sum(), (x, weight))

    for first, second in zip(run(), run(), strict=True):
        assert torch.equal(first, second)


def test_strided_and_expanded_features_and_weights_are_taken_as_they_are():
    kernel_map = ragged()
    channels_first = randn(3, 4, kernel_map.num_src)
    weight = randn(5, 4, kernel_map.num_cells).permute(2, 1, 0)
    edges = kernel_map.by_dst
    for x in (
        channels_first.transpose(1, 2),
        channels_first[:1].transpose(1, 2).expand(3, -1, -1),
        randn(3, kernel_map.num_src, 9)[..., 1:5],
    ):
        dense = x.contiguous()
        assert torch.equal(
            conv.gather_gemm(x, weight, edges), conv.gather_gemm(dense, weight, edges)
        )
        grad = randn(1, kernel_map.num_dst, 1).expand(3, -1, 5)
        found = outer.gather_outer(x, grad, edges, kernel_map.by_cell)
        again = outer.gather_outer(dense, grad.contiguous(), edges, kernel_map.by_cell)
        assert torch.equal(found, again)
        assert torch.equal(pooled(x, kernel_map, "mean"), pooled(dense, kernel_map, "mean"))


def test_operators_pass_torchs_own_checks():
    kernel_map = ragged()
    edges, x = kernel_map.by_dst, randn(2, kernel_map.num_src, 3).requires_grad_()
    by_src, operators = kernel_map.by_src, torch.ops.fovigraph
    torch.library.opcheck(operators.knn_pool.default, (x, edges.src, edges.ptr, "mean", None))
    sources = (by_src.dst, by_src.edge, by_src.ptr)
    torch.library.opcheck(
        operators.knn_pool.default, (x, edges.src, edges.ptr, "max", None, *sources, 9)
    )
    weight = randn(kernel_map.num_cells, 3, 2).requires_grad_()
    full = importlib.import_module("fovigraph.ops.knn_conv")
    rows, count = full.three_ways(kernel_map), kernel_map.num_dst
    torch.library.opcheck(
        operators.knn_depthwise_conv.default, (x, weight, rows, None, None, count, False)
    )
    bias = randn(2).requires_grad_()
    torch.library.opcheck(operators.knn_conv.default, (x, weight, rows, None, bias, count, True))


def test_nothing_to_compute_is_no_error():
    none = ragged(edges=0)
    check_with_gradients(
        lambda x, weight: ops.knn_conv(x, weight, none),
        lambda x, weight: conv_definition(x, weight, none),
        *(randn(2, none.num_src, 3), randn(none.num_cells, 3, 4)),
    )
    assert not pooled(randn(2, none.num_src, 3), none, "max").any()
    some = ragged()
    assert not conv.gather_gemm(
        randn(2, some.num_src, 0), randn(some.num_cells, 0, 4), some.by_dst
    ).any()
    assert conv.gather_gemm(
        randn(2, some.num_src, 4), randn(some.num_cells, 4, 0), some.by_dst
    ).shape == (2, some.num_dst, 0)


def test_what_int32_cannot_count_is_refused_before_launch():
    with pytest.raises(ValueError, match="steps must be fewer than 2147479552"):
        launch.check_counts("steps", 2**31)
    many = Triples(*[torch.zeros(1, dtype=torch.int64).expand(2**28)] * 3, torch.zeros(2), None)
    with pytest.raises(ValueError, match="edges times channels"):
        conv.gather_gemm(torch.zeros(1, 1, 8), torch.zeros(1, 8, 1), many)
    few = ragged(edges=1).by_dst
    far_apart = torch.empty_strided((1, 8, 9), (1, 1, 2**28), device="meta")
    with pytest.raises(ValueError, match="channels times their stride must be fewer than"):
        conv.gather_gemm(far_apart, torch.empty(7, 9, 1, device="meta"), few)
    many = torch.empty(2**31, 8, 1, device="meta")
    with pytest.raises(ValueError, match="along one axis must be fewer than 2147479552"):
        conv.gather_gemm(many, torch.empty(7, 1, 1, device="meta"), few)
    with pytest.raises(ValueError, match="along one axis must be fewer than"):
        reduction.gather_sum(many, few.src, few.ptr)
    with pytest.raises(ValueError, match="programs must be fewer than"):
        launch.launch(None, 2**31)


def test_float32_is_multiplied_as_torch_says():
    matmul, x = torch.backends.cuda.matmul, torch.zeros(1)
    name = "fp32_precision" if hasattr(matmul, "fp32_precision") else "allow_tf32"
    before = getattr(matmul, name)
    try:
        setattr(matmul, name, "tf32" if name == "fp32_precision" else True)
        assert launch.Dot.of(x).precision == "tf32"
        setattr(matmul, name, "ieee" if name == "fp32_precision" else False)
        assert launch.Dot.of(x).precision == "ieee"
    finally:
        setattr(matmul, name, before)
