"""Up the pyramid: interpolation and the transposed convolution."""

import pytest
import torch

import fovigraph as fg
from fovigraph.nn import KNNConv, KNNConvTranspose, KNNUnpool


@pytest.fixture(scope="module")
def pyramid():
    return fg.GraphPyramid(fg.SensorArray.matched(14), [fg.Step("conv", k=20, stride=2)])


@pytest.fixture
def up(pyramid):
    return pyramid.up("conv1", k=3)


@pytest.fixture
def x(up):
    return torch.randn(2, up.num_src, 4, dtype=torch.float64, requires_grad=True)


def double(layer, fused=True):
    layer.fused = fused
    return layer.double()


# ---- interpolation


@pytest.mark.parametrize("power", [1.0, 2.0, 3.5])
def test_it_is_the_mean_weighted_by_the_inverse_distance(up, x, power):
    y = KNNUnpool(power)(x, up)
    for node in range(1, up.num_dst, 7):  # the first sits on a neighbour
        edges = up.edge_index[1] == node
        weight = up.distance[edges].double() ** -power
        expected = (weight[:, None] * x[:, up.edge_index[0, edges]]).sum(1) / weight.sum()
        torch.testing.assert_close(y[:, node], expected, rtol=1e-5, atol=1e-6)


def test_a_constant_stays_what_it_is(up):
    y = KNNUnpool()(torch.full((up.num_src, 2), 3.0), up)
    torch.testing.assert_close(y, torch.full((up.num_dst, 2), 3.0))


def test_a_node_at_a_neighbours_place_gets_its_features(pyramid, x):
    # The centre of gaze is node 0 of every level.
    up = pyramid.up("conv1", k=3)
    y = KNNUnpool()(x, up)
    torch.testing.assert_close(y[:, 0], x[:, 0], rtol=1e-6, atol=1e-6)
    far = KNNUnpool(power=60.0)(x.float(), up)  # no power overflows
    assert far.isfinite().all()


def test_interpolated_coordinates_are_near_the_nodes_own(pyramid, up):
    coarse, fine = pyramid.levels[1], pyramid.levels[0]
    error = (KNNUnpool()(coarse.cortical.float(), up) - fine.cortical).norm(dim=1)
    assert error.mean() < 0.5 * up.distance.mean()
    assert error.max() < up.distance.max()


@pytest.mark.parametrize("fused", [True, False])
def test_interpolation_has_the_right_gradient(up, x, fused):
    layer = double(KNNUnpool(), fused)
    assert torch.autograd.gradcheck(lambda x: layer(x, up), x)


def test_interpolation_fused_unfused_raw_and_hooked_agree(up, x):
    fused = KNNUnpool()(x, up)
    torch.testing.assert_close(double(KNNUnpool(), False)(x, up), fused)
    order = torch.randperm(up.num_edges)
    args = up.edge_index[:, order], up.distance[order]
    torch.testing.assert_close(KNNUnpool()((x, None), *args, size=up.size()), fused)
    layer, seen = KNNUnpool(), []
    layer.register_message_forward_hook(lambda module, inputs, out: seen.append(out.shape))
    torch.testing.assert_close(layer(x, up), fused)
    assert seen == [(2, up.num_edges, 4)]


def test_distances_may_learn(up, x):
    distance = up.distance.double().requires_grad_()
    size = up.size()
    small = slice(0, 12)
    edges = up.edge_index[:, small]
    assert torch.autograd.gradcheck(
        lambda d: KNNUnpool()((x[:1].detach(), None), edges, d, size=size), distance[small]
    )


def test_a_node_without_neighbours_gets_zero(x):
    nothing = torch.empty(2, 0, dtype=torch.int64)
    y = KNNUnpool()((x, None), nothing, torch.empty(0), size=(x.shape[1], 5))
    assert torch.equal(y, x.new_zeros(2, 5, 4))


# ---- the transposed convolution


@pytest.fixture
def coarse(graph):
    return torch.randn(2, graph.num_dst, 5, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("fused", [True, False])
def test_it_is_the_adjoint_of_the_convolution(graph, coarse, fused):
    conv = KNNConv(3, 5, kernel_size=6, bias=False).double()
    back = double(KNNConvTranspose.tied(conv, bias=False), fused)
    x = torch.randn(2, graph.num_src, 3, dtype=torch.float64)
    forth = (conv(x, graph) * coarse).sum()
    torch.testing.assert_close((x * back(coarse, graph)).sum(), forth)


def test_on_a_lattice_it_is_conv_transpose2d():
    side = 6
    steps = torch.arange(side)
    nodes = torch.cartesian_prod(steps, steps)
    step = nodes[None] - nodes[:, None]  # [dst, src, (row, column)]
    dst, src = (step.abs().amax(-1) <= 1).nonzero().T
    row, column = step[dst, src].T + 1
    cell = column * 3 + (2 - row)
    dense = torch.nn.ConvTranspose2d(4, 2, 3, padding=1)
    conv = torch.nn.Conv2d(2, 4, 3, padding=1, bias=False)
    conv.weight = dense.weight
    knn, layer = KNNConv(2, 4, 3, bias=False), KNNConvTranspose(4, 2, kernel_size=3)
    knn.load_conv2d(conv)
    with torch.no_grad():
        layer.weight.copy_(knn.weight)
        layer.bias.copy_(dense.bias)
    image = torch.randn(3, 4, side, side)
    y = layer(image.flatten(2).mT, torch.stack((src, dst)), cell)
    torch.testing.assert_close(y.mT.view(3, 2, side, side), dense(image))


def test_transposed_fused_unfused_raw_and_hooked_agree_with_all_gradients(graph, coarse):
    layer = KNNConvTranspose(5, 3, kernel_size=6).double()
    inputs = (coarse, *layer.parameters())
    fused = layer(coarse, graph)
    grad = torch.randn_like(fused)
    grads = torch.autograd.grad(fused, inputs, grad)
    cell, order = graph.kernel_map(6).cell, torch.randperm(graph.num_edges)
    raw = graph.edge_index[:, order], cell[order]
    for again in (
        lambda: layer((coarse, None), *raw, size=graph.size()),
        lambda: double(layer, False)(coarse, graph),
        lambda: layer((coarse, None), *raw, size=graph.size()),
    ):
        y = again()
        torch.testing.assert_close(y, fused)
        for ours, theirs in zip(torch.autograd.grad(y, inputs, grad), grads, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_transposed_has_the_right_gradient():
    retina = fg.SensorArray.matched(5)
    graph = fg.knn_graph(retina, retina.strided(2), k=6)
    layer = KNNConvTranspose(2, 2, kernel_size=3).double()
    x = torch.randn(2, graph.num_dst, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layer(x, graph), (x, *layer.parameters()))


def test_a_tied_weight_is_one_parameter_with_both_gradients(graph):
    conv = KNNConv(3, 5, kernel_size=6)
    net = torch.nn.ModuleList([conv, KNNConvTranspose.tied(conv)])
    assert net[1].weight is conv.weight
    assert len(list(net.parameters())) == 3  # the weight, and two biases
    x = torch.randn(2, graph.num_src, 3)
    net[1](conv(x, graph).detach(), graph).sum().backward()
    only_back = conv.weight.grad.clone()
    conv.weight.grad = None
    net[1](conv(x, graph), graph).sum().backward()
    assert only_back.any() and not torch.allclose(conv.weight.grad, only_back)


def test_free_weights_are_drawn_like_the_convolutions():
    layer = KNNConvTranspose(64, 32, kernel_size=10)
    assert layer.weight.shape == KNNConv(32, 64, kernel_size=10).weight.shape
    assert layer.weight.std().item() == pytest.approx((2 / 6400) ** 0.5, rel=0.02)


def test_bad_arguments_are_refused(graph, coarse, up, x):
    layer = KNNConvTranspose(5, 3, kernel_size=6).double()
    nodes = graph.num_dst
    with pytest.raises(ValueError, match=f"destinations, {nodes}, got {nodes - 1}"):
        layer(coarse[:, 1:], graph)
    with pytest.raises(ValueError, match=r"must have 5 channels .* got 4"):
        layer(coarse[..., 1:], graph)
    with pytest.raises(ValueError, match="cell must be None with a KNNGraph"):
        layer(coarse, graph, graph.kernel_map(6).cell)
    with pytest.raises(TypeError, match="graph must be a KNNGraph or an edge_index"):
        layer(coarse, "graph")
    with pytest.raises(ValueError, match="conv must have interpolation='nearest'"):
        KNNConvTranspose.tied(KNNConv(3, 5, 6, interpolation="bilinear"))
    with pytest.raises(ValueError, match="distance must give the length of each of the"):
        KNNUnpool()((x, None), up.edge_index, size=up.size())
    with pytest.raises(ValueError, match="power must be finite and above 0, got 0"):
        KNNUnpool(0)


def test_they_print_themselves_in_one_line():
    assert repr(KNNUnpool()) == "KNNUnpool(power=2)"
    assert repr(KNNConvTranspose(5, 3, 6)) == "KNNConvTranspose(5, 3, kernel_size=6)"
