"""ConvNeXt V2: figures that must come out, and what it computes."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import fovigraph as fg
from fovigraph.models import KNNConvNeXtV2
from fovigraph.models.convnext import ConvNeXtV2Block, ConvNeXtV2Config, Downsampling, Stem

SMALL = {"depths": [1, 2], "channels": [4, 8], "strides": [2, 2], "k": 9, "stem_k": 9}


def count(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def make(resolution, depths, width, strides):
    config = ConvNeXtV2Config(
        depths=depths, channels=[width * 2**i for i in range(4)], strides=[strides] * 4
    )
    with torch.device("meta"):
        retina = fg.SensorArray(resolution, fov=16.0, cmf_a=0.5)
        return KNNConvNeXtV2(retina, config, num_classes=1000)


# ---- figures, of 64 rings without matching, as upstream repaired gives them


@pytest.mark.parametrize(
    ("depths", "width", "total", "parts"),
    [
        ([2, 2, 6, 2], 40, 3_691_240, (275_920, 3_093_680, 640, 321_000)),
        ([2, 2, 6, 2], 48, 5_212_648, None),
        ([2, 2, 6, 2], 64, 9_038_824, None),
        ([2, 2, 8, 2], 80, 15_589_480, None),
        ([3, 3, 9, 3], 96, 28_568_968, (1_565_376, 26_233_056, 1536, 769_000)),
        ([3, 3, 27, 3], 128, 88_629_096, None),
    ],
)
def test_parameters_in_total_and_by_part(depths, width, total, parts):
    net = make(64, depths, width, 2)
    assert count(net) == total
    if parts is not None:
        steps = [layer for layer in net.layers if isinstance(layer, (Stem, Downsampling))]
        blocks = [layer for layer in net.layers if isinstance(layer, ConvNeXtV2Block)]
        found = (count(*steps), count(*blocks), count(net.layers[-1]), count(net.classifier))
        assert found == parts


def test_nodes_edges_and_cells():
    pyramid = make(64, [2, 2, 6, 2], 40, 2).pyramid
    graphs = {(graph.num_src, graph.num_dst, graph.k): graph.num_edges for graph in pyramid.graphs}
    assert graphs == {
        (5977, 1469, 49): 70_106,
        (1469, 1469, 49): 68_764,
        (1469, 356, 4): 1391,
        (356, 356, 49): 15_866,
        (356, 83, 4): 312,
        (83, 83, 49): 3416,
        (83, 16, 4): 56,
        (16, 16, 16): 187,
        (16, 1, 16): 16,
    }
    steps = zip(pyramid.graphs, pyramid.kernel_sizes, strict=True)
    assert {graph.k: size**2 for graph, size in steps if size} == {49: 49, 4: 4, 16: 16}


def test_a_side_of_256_at_the_published_strides():
    net = make(256, [2, 2, 6, 2], 40, 4)
    nodes = [len(level) for level in net.pyramid.levels]
    assert list(dict.fromkeys(nodes)) == [96_699, 5977, 356, 16, 1]
    assert count(net) == 3_649_960


def test_the_shipped_pyramid_is_matched():
    with torch.device("meta"):
        net = fg.create_model("fovi_convnextv2_atto")
    nodes = [len(level) for level in net.pyramid.levels]
    assert list(dict.fromkeys(nodes)) == [4085, 964, 230, 60, 16, 1]
    assert net.backbone.num_features == 320


# ---- what it computes


@pytest.fixture(scope="module")
def small():
    config = {
        "retina": {"side": 24},
        "backbone": {"name": "convnextv2", **SMALL},
        "projector": {"channels": []},
        "head": {"num_classes": 3},
        "fixation": {"count": 2},
    }
    torch.manual_seed(0)
    net = fg.FoviNet(config).eval()
    for module in net.modules():
        if isinstance(module, fg.nn.GlobalResponseNorm):
            module.weight.data.normal_()
            module.bias.data.normal_()
    return net


def response_norm(x, weight, bias):
    length = x.square().sum(-2, keepdim=True).sqrt()
    return weight * (x * (length / (length.mean(-1, keepdim=True) + 1e-6))) + bias + x


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_response_norm_is_its_formula(dtype):
    norm = fg.nn.GlobalResponseNorm(5)
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    norm = norm.to(dtype)
    x = torch.randn(3, 7, 5).to(dtype)
    exact = response_norm(x.double(), norm.weight.double(), norm.bias.double())
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(norm(x).double(), exact, rtol=tolerance, atol=tolerance)
    disjoint = fg.nn.GlobalResponseNorm(5, num_nodes=7).to(dtype)
    disjoint.load_state_dict(norm.state_dict())
    torch.testing.assert_close(disjoint(x.flatten(0, 1)), norm(x).flatten(0, 1))


def test_a_block_is_its_definition(small):
    """Depthwise messages, then what ConvNeXt V2's block says of every node."""
    net = small.backbone.double()
    block, graph = net.layers[1], net.pyramid.graphs[1]
    x = torch.randn(2, graph.num_dst, 4, dtype=torch.float64, requires_grad=True)
    src, dst = graph.edge_index
    cell = graph.kernel_map(block.depthwise.kernel_size)
    weight = block.depthwise.weight
    cells = torch.empty(graph.num_edges, dtype=torch.int64)
    cells[cell.by_dst.edge] = cell.by_dst.cell
    sums = torch.zeros_like(x).index_add(1, dst, x[:, src] * weight[cells, :, 0])
    y = functional.layer_norm(
        sums + block.depthwise.bias, (4,), block.norm.weight, block.norm.bias, 1e-6
    )
    y = functional.gelu(block.expand(y))
    expected = x + block.reduce(response_norm(y, block.response.weight, block.response.bias))
    wanted = [x, *block.parameters()]
    torch.testing.assert_close(block(x, net.pyramid), expected, rtol=1e-10, atol=1e-10)
    ours, definition = (
        torch.autograd.grad(out.square().sum(), wanted) for out in (block(x, net.pyramid), expected)
    )
    for fast, plain in zip(ours, definition, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-10)
    small.float()


def test_fused_and_unfused_agree(small):
    net = small.backbone.double()
    x = torch.rand(2, len(small.retina.array), 3).double().requires_grad_()
    results = []
    for fused in (True, False):
        for module in net.modules():
            if hasattr(module, "fused"):
                module.fused = fused
        out = net(x)
        results.append((out, *torch.autograd.grad(out.square().sum(), [x, *net.parameters()])))
    for ours, definition in zip(*results, strict=True):
        torch.testing.assert_close(ours, definition, rtol=1e-10, atol=1e-10)
    for module in net.modules():
        if hasattr(module, "fused"):
            module.fused = True
    small.float()


def test_on_pixels_a_block_is_dense_convnexts_in_the_interior():
    """On a square grid with a cell per neighbour, but for the nodes that padding reaches."""
    array = fg.SensorArray(12, fov=16.0, layout="uniform")
    config = ConvNeXtV2Config(depths=[1], channels=[4], strides=[1], k=9, stem_k=9, metric="visual")
    net = KNNConvNeXtV2(array, config).double()
    block, pyramid = net.layers[1], net.pyramid
    dense = nn.Conv2d(4, 4, 3, padding=1, groups=4).double()
    block.depthwise.load_conv2d(dense)
    block.response.weight.data.zero_()
    side = array.resolution
    places = (array.cartesian.double() + 1) * side / 2 - 0.5
    assert (places - places.round()).abs().max() < 1e-9
    places = places.round().long()
    column, row = places[:, 0], side - 1 - places[:, 1]
    image = torch.zeros(2, 4, side, side, dtype=torch.float64)
    x = torch.randn(2, len(array), 4, dtype=torch.float64)
    image[:, :, row, column] = x.mT
    y = dense(image)[:, :, row, column].mT
    y = block.reduce(functional.gelu(block.expand(block.norm(y))))
    inner = (places - (side - 1) / 2).abs().amax(1) < 3
    assert inner.sum() > 20
    torch.testing.assert_close(
        block(x, pyramid)[:, inner], (x + y)[:, inner], rtol=1e-10, atol=1e-10
    )


def test_paths_are_left_out_in_training_alone():
    config = ConvNeXtV2Config(**SMALL, drop_path=0.5)
    net = KNNConvNeXtV2(fg.SensorArray.matched(24), config)
    assert [block.drop_path for block in net.layers if isinstance(block, ConvNeXtV2Block)] == [
        0,
        0.25,
        0.5,
    ]
    block, x = net.layers[-2], torch.rand(64, len(net.pyramid.levels[-2]), 8)
    kept = (block.train()(x, net.pyramid) != x).flatten(1).any(1)
    assert 16 < kept.sum() < 48
    whole = block.eval()(x, net.pyramid) - x
    grown = block.train()(x, net.pyramid) - x
    for image in range(len(x)):
        if grown[image].any():
            torch.testing.assert_close(grown[image], 2 * whole[image], rtol=1e-4, atol=1e-6)


def test_it_can_do_what_others_can(small, tmp_path):
    images = torch.rand(2, 3, 40, 50)
    out = small(images)
    assert out.logits.shape == (2, 3)
    torch.testing.assert_close(fg.optimize(small)(images).logits, out.logits)
    small.save_pretrained(tmp_path)
    assert fg.FoviNet.from_pretrained(tmp_path)(images).logits.equal(out.logits)
    grey = fg.create_model(tmp_path, pretrained=True, in_channels=1)
    assert grey(images[:, :1]).logits.shape == (2, 3)
    report = fg.models.cost.describe(small)
    parts = [*report["levels"], report["projector"], report["head"]]
    for key in ("parameters", "flops"):
        assert sum(part[key] for part in parts) == report["total"][key] > 0
    seen = small.features(images, layers=["layers.1"])["layers.1"]
    assert seen.features.shape[:2] == (2, 2)
    other = fg.GraphPyramid.from_hetero_data(small.pyramid.to_hetero_data())
    assert other.relations() == small.pyramid.relations()


def test_it_compiles_exports_and_learns(small):
    net = small.backbone
    x = torch.rand(2, len(small.retina.array), 3)
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), net(x))
    torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), net(x))
    learner = fg.FoviNet(small.config).train()
    learner(torch.rand(4, 3, 40, 50)).logits.square().sum().backward()
    for parameter in learner.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": []}, "backbone.depths must have at least one entry"),
        ({"channels": [40]}, "backbone.channels must have 4 entries like backbone.depths, got 1"),
        ({"k": 0}, "backbone.k must be at least 1, got 0"),
        ({"drop_path": 1.0}, "backbone.drop_path must be below 1, got 1"),
        ({"drop_path": -0.1}, "backbone.drop_path"),
        ({"kernel_multiplier": math.nan}, "backbone.kernel_multiplier must be finite"),
        ({"metric": "near"}, "backbone.metric must be one of"),
    ],
)
def test_what_is_no_configuration_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fg.FoviNet({"backbone": {"name": "convnextv2", **options}})
