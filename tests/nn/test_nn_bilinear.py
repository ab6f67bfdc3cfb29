"""KNNConv with weights shared among the four cells around a neighbour's place."""

import pytest
import torch
from torch.nn import functional

import fovigraph as fg
from fovigraph.graph.kernel_map import KernelMap, bilinear_cells, nearest_cell
from fovigraph.nn import KNNConv
from fovigraph.ops.knn_conv_shared import knn_conv_shared

SIDE = 6


@pytest.fixture
def x(graph):
    return torch.randn(4, graph.num_src, 3, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def conv():
    return KNNConv(3, 5, kernel_size=SIDE, interpolation="bilinear").double()


def test_the_weight_is_grid_samples_bilinear_interpolation(conv):
    """The definition, computed by torch's own interpolation of the kernel as an image."""
    offset = 2 * torch.rand(500, 2, dtype=torch.float64) - 1
    cell, share = bilinear_cells(offset, SIDE)
    ours = (share[..., None, None] * conv.weight[cell]).sum(1)
    image = conv.weight.view(SIDE, SIDE, 15).permute(2, 0, 1)[None]  # rows along u, columns along v
    grid = offset.flip(-1)[None, None]
    expected = functional.grid_sample(image, grid, align_corners=True, mode="bilinear")
    torch.testing.assert_close(ours.flatten(1), expected[0, :, 0].T)


def test_shares_are_a_partition_of_one_also_at_and_beyond_the_edge():
    offset = torch.tensor([[-1.0, 1.0], [1.0, 1.0], [3.0, -3.0], [0.2, 0.3], [0.0, 1.0]])
    cell, share = bilinear_cells(offset, SIDE)
    assert cell.min() >= 0 and cell.max() < SIDE**2
    assert (share >= 0).all()
    torch.testing.assert_close(share.sum(-1), torch.ones(5))
    assert bilinear_cells(offset, 1)[0].eq(0).all()
    torch.testing.assert_close(bilinear_cells(offset, 1)[1].sum(-1), torch.ones(5))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_it_equals_nearest_when_neighbours_sit_on_cells(graph, x, size, fused):
    steps = (
        torch.linspace(-1, 1, size, dtype=torch.float64) if size > 1 else torch.zeros(1).double()
    )
    places = torch.cartesian_prod(steps, steps).view(-1, 2)
    cell = torch.randint(size**2, (graph.num_edges,))
    nearest = KNNConv(3, 5, kernel_size=size).double()
    smooth = KNNConv(3, 5, kernel_size=size, interpolation="bilinear").double()
    smooth.load_state_dict(nearest.state_dict())
    smooth.fused = nearest.fused = fused
    assert nearest_cell(places[cell], size).equal(cell)
    expected = nearest((x, None), graph.edge_index, cell, size=graph.size())
    y = smooth((x, None), graph.edge_index, offset=places[cell], size=graph.size())
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)


def test_on_cells_it_has_one_triple_an_edge(graph):
    steps = torch.linspace(-1, 1, 5, dtype=torch.float64)
    places = torch.cartesian_prod(steps, steps)[torch.randint(25, (graph.num_edges,))]
    made = KernelMap.bilinear(graph.edge_index, places, 5, num_dst=99, num_src=999)
    assert len(made) == graph.num_edges


def test_a_graphs_own_map_is_kept_sorted_and_apart_from_the_nearest(graph):
    smooth, nearest = graph.kernel_map(SIDE, "bilinear"), graph.kernel_map(SIDE)
    assert smooth is graph.kernel_map(SIDE, "bilinear")
    assert nearest is graph.kernel_map(SIDE) and nearest.share is None
    assert (smooth.dst.diff() >= 0).all()
    total = torch.zeros(graph.num_dst).index_add_(0, smooth.dst, smooth.share)
    torch.testing.assert_close(total, torch.bincount(nearest.dst).float())


def test_fused_unfused_and_raw_agree_in_values_and_gradients(conv, graph, x):
    inputs = (x, *conv.parameters())
    fused = conv(x, graph)
    grad = torch.randn_like(fused)
    grads = torch.autograd.grad(fused, inputs, grad)
    order = torch.randperm(graph.num_edges)
    raw = {"offset": graph.offset[order], "size": graph.size()}

    def unfused():
        conv.fused = False
        return conv(x, graph)

    for again in (lambda: conv((x, None), graph.edge_index[:, order], **raw), unfused):
        y = again()
        torch.testing.assert_close(y, fused, rtol=1e-6, atol=1e-6)
        for ours, theirs in zip(torch.autograd.grad(y, inputs, grad), grads, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-5)


@pytest.fixture(scope="module")
def tiny():
    retina = fg.SensorArray.matched(5)
    return fg.knn_graph(retina, retina.strided(2), k=6)


def test_it_has_the_right_gradient(tiny):
    conv = KNNConv(2, 2, kernel_size=3, interpolation="bilinear").double()
    x = torch.randn(2, tiny.num_src, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: conv(x, tiny), (x, *conv.parameters()))


def test_it_is_smooth_in_the_neighbours_place(tiny):
    conv = KNNConv(2, 2, kernel_size=4, interpolation="bilinear").double()
    x = torch.randn(tiny.num_src, 2, dtype=torch.float64)
    offset = (0.9 * tiny.offset.double()).requires_grad_()

    def convolve(offset):
        return conv((x, None), tiny.edge_index, offset=offset, size=tiny.size())

    assert torch.autograd.gradcheck(convolve, offset)
    # A step moves the output in proportion, however small, also across the border of a cell.
    step = torch.randn_like(offset)
    with torch.no_grad():
        moves = [(convolve(offset + e * step) - convolve(offset)).norm() / e for e in (1e-4, 1e-6)]
    torch.testing.assert_close(moves[0], moves[1], rtol=1e-2, atol=0)


def test_the_operator_passes_torchs_checks(tiny):
    kernel_map = tiny.kernel_map(3, "bilinear")
    x = torch.randn(2, tiny.num_src, 2, requires_grad=True)
    weight = torch.randn(9, 2, 3, requires_grad=True)
    rest = list(kernel_map.by_cell), kernel_map.share_by_cell, None, kernel_map.num_dst, False
    torch.library.opcheck(torch.ops.fovigraph.knn_conv_shared.default, (x, weight, *rest))


def test_the_transposed_map_has_the_same_triples(tiny):
    for interpolation in ("nearest", "bilinear"):
        forth = tiny.kernel_map(3, interpolation)
        back = forth.transposed
        ones = [torch.ones(len(m)) if m.share is None else m.share for m in (forth, back)]
        first = sorted(zip(forth.dst.tolist(), forth.src.tolist(), forth.cell.tolist(),
                           ones[0].tolist(), strict=True))  # fmt: skip
        second = sorted(zip(back.src.tolist(), back.dst.tolist(), back.cell.tolist(),
                            ones[1].tolist(), strict=True))  # fmt: skip
        assert first == second
        assert (back.dst.diff() >= 0).all()


def test_half_precision_and_no_batch(tiny):
    conv = KNNConv(2, 3, kernel_size=3, interpolation="bilinear")
    x = torch.randn(tiny.num_src, 2)
    y = conv(x, tiny)
    assert y.shape == (tiny.num_dst, 3)
    low = conv.bfloat16()(x.bfloat16(), tiny)
    torch.testing.assert_close(low.float(), y, rtol=0.1, atol=0.1)


def test_bad_arguments_are_refused(conv, graph, x):
    with pytest.raises(ValueError, match=r"interpolation must be one of .* got 'cubic'"):
        KNNConv(3, 5, 6, interpolation="cubic")
    with pytest.raises(ValueError, match="cell must be None for interpolation='bilinear'"):
        conv((x, None), graph.edge_index, graph.kernel_map(6).cell, size=graph.size())
    with pytest.raises(ValueError, match=r"offset must give .* got None"):
        conv((x, None), graph.edge_index, size=graph.size())
    with pytest.raises(ValueError, match="offset must be None with a KNNGraph"):
        conv(x, graph, offset=graph.offset)
    with pytest.raises(ValueError, match="offset must be None for interpolation='nearest'"):
        KNNConv(3, 5, 6).double()(x, graph, offset=graph.offset)
    with pytest.raises(ValueError, match="kernel_map must have shares"):
        knn_conv_shared(x, conv.weight, graph.kernel_map(SIDE))


def test_it_prints_itself():
    conv = KNNConv(3, 5, 6, bias=False, interpolation="bilinear")
    assert repr(conv) == "KNNConv(3, 5, kernel_size=6, bias=False, interpolation='bilinear')"
