"""KNNConv and its depthwise forms: what they compute, how they may be called, what they refuse."""

import math

import pytest
import torch
from torch.nn import functional
from torch_geometric.data import Batch, Data
from torch_geometric.nn import RGCNConv

import fovigraph as fg
from fovigraph.nn import KNNConv, KNNDepthwiseConv, KNNSeparableConv

LAYERS = {
    "full": lambda: KNNConv(3, 5, kernel_size=6),
    "full without bias": lambda: KNNConv(3, 5, kernel_size=6, bias=False),
    "depthwise": lambda: KNNDepthwiseConv(3, kernel_size=6, multiplier=2),
    "separable": lambda: KNNSeparableConv(3, 5, kernel_size=6, multiplier=2),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    return LAYERS[request.param]().double()


@pytest.fixture
def x(graph):
    return torch.randn(4, graph.num_src, 3, dtype=torch.float64, requires_grad=True)


def unfused(layer):
    for module in layer.modules():
        if hasattr(module, "fused"):
            module.fused = False
    return layer


def test_tutorials_layer_on_64_images():
    """One layer: conv 3→128, k 49, kernel side 14; max pool k 9, stride 2; ReLU; batch norm."""
    retina = fg.SensorArray.matched(64)
    v1 = retina.strided(1)
    conv, pool = KNNConv(3, 128, kernel_size=14), fg.nn.KNNPool("max")
    norm = fg.nn.BatchNorm(128)
    y = conv(torch.rand(64, len(retina), 3), fg.knn_graph(retina, v1, k=49))
    y = norm(torch.relu(pool(y, fg.knn_graph(v1, v1.strided(2), k=9))))
    assert y.shape == (64, 964, 128)


def test_fused_and_unfused_agree_in_values_and_gradients(layer, graph, x):
    inputs = (x, *layer.parameters())
    fused = layer(x, graph)
    grad = torch.randn_like(fused)
    fused_grads = torch.autograd.grad(fused, inputs, grad)
    plain = unfused(layer)(x, graph)
    plain_grads = torch.autograd.grad(plain, inputs, grad)
    torch.testing.assert_close(fused, plain, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(fused_grads, plain_grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_static_batch_disjoint_batch_and_raw_edges_agree(layer, graph, x):
    static = layer(x, graph)
    cell = graph.kernel_map(layer.kernel_size).cell
    raw = layer((x, None), graph.edge_index, cell, size=graph.size())
    torch.testing.assert_close(raw, static)

    shuffled = torch.randperm(graph.num_edges)
    raw = layer((x, None), graph.edge_index[:, shuffled], cell[shuffled], size=graph.size())
    torch.testing.assert_close(raw, static)

    batch = len(x)
    offset = torch.tensor(graph.size())[:, None, None]
    edges = (graph.edge_index[:, None] + offset * torch.arange(batch)[:, None]).flatten(1)
    size = (batch * graph.num_src, batch * graph.num_dst)
    disjoint = layer((x.flatten(0, 1), None), edges, cell.repeat(batch), size=size)
    torch.testing.assert_close(disjoint.view_as(static), static)
    fewer = layer((x[0], torch.empty(graph.num_dst, 1)), graph.edge_index, cell)
    torch.testing.assert_close(fewer, static[0])


def test_a_pyg_batch_of_one_level_graphs_is_a_static_batch(retina):
    graph = fg.knn_graph(retina, retina, k=9)
    x = torch.randn(3, len(retina), 3)
    cell = graph.kernel_map(3).cell
    batch = Batch.from_data_list([Data(x=row, edge_index=graph.edge_index, cell=cell) for row in x])
    conv = KNNConv(3, 5, kernel_size=3)
    torch.testing.assert_close(
        conv(batch.x, batch.edge_index, batch.cell).view(3, -1, 5), conv(x, graph)
    )


def test_it_is_rgcn_with_the_cell_as_relation(graph, x):
    """The definition, computed by another library's operator."""
    conv = KNNConv(3, 5, kernel_size=6).double()
    rgcn = RGCNConv((3, 3), 5, num_relations=36, root_weight=False, bias=False, aggr="add").double()
    kernel_map = graph.kernel_map(6)
    with torch.no_grad():
        rgcn.weight.copy_(conv.weight)
        x_dst = torch.zeros(graph.num_dst, 3, dtype=torch.float64)
        other = rgcn((x[0], x_dst), graph.edge_index, kernel_map.cell)
        torch.testing.assert_close(conv(x[0], graph), other + conv.bias, rtol=1e-6, atol=1e-9)


def test_a_message_hook_sees_the_messages(graph, x):
    conv, seen = KNNConv(3, 5, kernel_size=6).double(), []
    fused = conv(x, graph)
    handle = conv.register_message_forward_hook(lambda module, inputs, out: seen.append(out.shape))
    torch.testing.assert_close(conv(x, graph), fused)
    assert seen == [(4, graph.num_edges, 5)]
    handle.remove()
    conv(x, graph)
    assert len(seen) == 1


def test_a_destination_without_neighbours_gets_the_bias():
    conv = KNNConv(2, 3, kernel_size=2)
    torch.nn.init.normal_(conv.bias)
    nothing = torch.empty(2, 0, dtype=torch.int64)
    for fused in (True, False):
        conv.fused = fused
        y = conv((torch.randn(4, 2), None), nothing, nothing[0], size=(4, 2))
        assert torch.equal(y, conv.bias.expand(2, 3))


def test_weights_are_he_normal_over_the_whole_reference_kernel():
    conv = KNNConv(32, 64, kernel_size=10)
    assert conv.weight.shape == (100, 32, 64)
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (32 * 100)), rel=0.02)
    assert not conv.bias.any()
    depthwise = KNNDepthwiseConv(64, kernel_size=10, multiplier=8)
    assert depthwise.weight.std().item() == pytest.approx(math.sqrt(2 / 100), rel=0.02)


def test_conv2d_weights_lie_with_columns_along_u_and_rows_along_minus_v():
    dense = torch.nn.Conv2d(2, 3, 4)
    conv = KNNConv(2, 3, kernel_size=4)
    conv.load_conv2d(dense)
    for row in range(4):
        for column in range(4):
            cell = column * 4 + (3 - row)
            assert torch.equal(conv.weight[cell], dense.weight[:, :, row, column].T)
    assert torch.equal(conv.bias, dense.bias)


def test_conv2d_weights_of_another_size_are_resized():
    dense = torch.nn.Conv2d(2, 3, 3)
    conv = KNNConv(2, 3, kernel_size=6)
    conv.load_conv2d(dense)
    resized = functional.interpolate(dense.weight, size=6, mode="bilinear", align_corners=True)
    torch.testing.assert_close(conv.weight.view(6, 6, 2, 3)[5, 1], resized[:, :, 6 - 1 - 1, 5].T)


def test_conv2d_on_pixels_is_knn_conv_on_their_graph():
    """On a lattice of pixels the two are the same convolution, up to the border."""
    side, channels = 7, 2
    steps = torch.arange(side)
    nodes = torch.cartesian_prod(steps, steps)  # (row, column)
    step = nodes[None] - nodes[:, None]  # [dst, src, (row, column)]
    dst, src = (step.abs().amax(-1) <= 1).nonzero().T
    row, column = step[dst, src].T + 1
    cell = column * 3 + (2 - row)
    dense, conv = torch.nn.Conv2d(channels, 4, 3, padding=1), KNNConv(channels, 4, kernel_size=3)
    conv.load_conv2d(dense)
    image = torch.randn(5, channels, side, side)
    y = conv(image.flatten(2).transpose(1, 2), torch.stack((src, dst)), cell)
    torch.testing.assert_close(y.transpose(1, 2).view(5, 4, side, side), dense(image))


def test_depthwise_conv2d_weights_load():
    dense = torch.nn.Conv2d(3, 6, 4, groups=3)
    conv = KNNDepthwiseConv(3, kernel_size=4, multiplier=2)
    conv.load_conv2d(dense)
    assert torch.equal(conv.weight[1 * 4 + (3 - 2), 2], dense.weight[4:6, 0, 2, 1])


@pytest.mark.parametrize(
    ("layer", "dense", "message"),
    [
        (KNNConv(2, 3, 3), torch.nn.Conv2d(2, 4, 3), "map 2 to 3 channels, got 2 to 4"),
        (KNNConv(2, 4, 3), torch.nn.Conv2d(2, 4, 3, groups=2), "groups=1, got 2"),
        (KNNConv(2, 4, 3), torch.nn.Conv2d(2, 4, 3, bias=False), "bias=False in conv"),
        (KNNDepthwiseConv(2, 3), torch.nn.Conv2d(2, 2, 3), r"\(2, 2, 2\), got \(2, 2, 1\)"),
    ],
)
def test_conv2d_that_does_not_fit_is_refused(layer, dense, message):
    with pytest.raises(ValueError, match=message):
        layer.load_conv2d(dense)


def test_autocast_computes_in_the_lower_precision(graph):
    conv = KNNConv(3, 5, kernel_size=6)
    x = torch.randn(2, graph.num_src, 3)
    with torch.autocast("cpu", torch.bfloat16):
        low = conv(x, graph)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), conv(x, graph), rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"out_channels": -1}, "out_channels must be at least 1, got -1"),
        ({"kernel_size": 0}, "kernel_size must be at least 1, got 0"),
    ],
)
def test_sizes_below_one_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        KNNConv(**{"in_channels": 3, "out_channels": 5, "kernel_size": 6} | arguments)


MAKERS = {
    "full": lambda **options: KNNConv(
        **{"in_channels": 3, "out_channels": 5, "kernel_size": 6} | options
    ),
    "depthwise": lambda **options: KNNDepthwiseConv(
        **{"in_channels": 3, "kernel_size": 6} | options
    ),
    "separable": lambda **options: KNNSeparableConv(
        **{"in_channels": 3, "out_channels": 5, "kernel_size": 6} | options
    ),
    "transposed": lambda **options: fg.nn.KNNConvTranspose(
        **{"in_channels": 3, "out_channels": 5, "kernel_size": 6} | options
    ),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("argument", ["in_channels", "kernel_size", "out_channels", "multiplier"])
def test_sizes_that_are_no_whole_numbers_or_cannot_be_are_refused_by_name(name, argument):
    if argument == {"depthwise": "out_channels", "separable": ""}.get(name, "multiplier"):
        pytest.skip("has no such argument")
    for wrong in (None, "3", 2.5, 3.0, True, [3], torch.tensor(3)):
        with pytest.raises(
            TypeError, match=f"{argument} must be a whole number of at least 1, got"
        ):
            MAKERS[name](**{argument: wrong})
    with pytest.raises(ValueError, match=f"{argument} must be at least 1, got -1"):
        MAKERS[name](**{argument: -1})
    with pytest.raises(ValueError, match=f"{argument}.* must be at most"):
        MAKERS[name](**{argument: 10**12})


@pytest.mark.parametrize("name", MAKERS)
def test_switches_that_are_neither_on_nor_off_are_refused_by_name(name):
    for wrong in (None, 1, "no"):
        with pytest.raises(TypeError, match="bias must be True or False, got"):
            MAKERS[name](bias=wrong)
    with pytest.raises(TypeError, match=r"interpolation must be one of .* got None"):
        KNNConv(3, 5, 6, interpolation=None)


@pytest.mark.parametrize("wrong", [None, 3, torch.nn.Linear(3, 5), torch.ones(5, 3, 6, 6)])
def test_what_is_no_convolution_is_refused_by_name(wrong):
    for layer in (KNNConv(3, 5, 6), KNNDepthwiseConv(3, 6)):
        with pytest.raises(TypeError, match="conv must be a Conv2d, got"):
            layer.load_conv2d(wrong)
    with pytest.raises(TypeError, match="conv must be a KNNConv, got"):
        fg.nn.KNNConvTranspose.tied(wrong)


def test_features_that_do_not_fit_are_refused(graph):
    conv = KNNConv(3, 5, kernel_size=6)
    nodes = graph.num_src
    with pytest.raises(ValueError, match=f"sources, {nodes}, got {nodes + 1}"):
        conv(torch.rand(2, nodes + 1, 3), graph)
    with pytest.raises(ValueError, match=r"must have 3 channels .* got 4"):
        conv(torch.rand(2, nodes, 4), graph)
    with pytest.raises(TypeError, match=r"float32 like the layer's weight, got torch.float64"):
        conv(torch.rand(2, nodes, 3, dtype=torch.float64), graph)
    with pytest.raises(ValueError, match=r"node features .* got shape \[3\]"):
        conv(torch.rand(3), graph)
    with pytest.raises(
        TypeError, match="graph must be a KNNGraph or an edge_index tensor, got str"
    ):
        conv(torch.rand(2, nodes, 3), "graph")


def test_edges_that_do_not_fit_are_refused(graph):
    conv, x = KNNConv(3, 5, kernel_size=6), torch.rand(graph.num_src, 3)
    cell = graph.kernel_map(6).cell
    with pytest.raises(ValueError, match="cell must be None with a KNNGraph"):
        conv(x, graph, cell)
    with pytest.raises(ValueError, match=r"size must be \(num_src, num_dst\)"):
        conv((x, None), graph.edge_index, cell)
    with pytest.raises(ValueError, match=f"each of the {graph.num_edges} edges, got None"):
        conv((x, None), graph.edge_index, size=graph.size())
    with pytest.raises(ValueError, match=r"from 0 to 35 for kernel_size=6, got .* to 36"):
        conv((x, None), graph.edge_index, cell.clamp(min=36), size=graph.size())
    with pytest.raises(ValueError, match="edge_index must name nodes below"):
        conv((x, None), graph.edge_index, cell, size=(graph.num_src, 1))
    with pytest.raises(ValueError, match="edge_index must be int64"):
        conv((x, None), graph.edge_index.float(), cell, size=graph.size())
    with pytest.raises(ValueError, match="size must be"):
        conv(x, graph, size=(1, 1))


def test_layers_print_themselves_in_one_line():
    assert repr(KNNConv(3, 5, 6)) == "KNNConv(3, 5, kernel_size=6)"
    assert repr(KNNConv(3, 5, 6, bias=False)) == "KNNConv(3, 5, kernel_size=6, bias=False)"
    assert repr(KNNDepthwiseConv(3, 6, 2)) == "KNNDepthwiseConv(3, kernel_size=6, multiplier=2)"
