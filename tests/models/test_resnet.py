"""ResNets: figures that must come out, and what a family has to be able to do."""

import math

import pytest
import torch
from families import (
    check_both_paths,
    check_compiles,
    check_copies,
    check_cost,
    check_grey,
    check_shares_a_pyramid,
    count,
)
from square_arrays import pixels
from torch import nn

import fovigraph as fg
from fovigraph.models import KNNResNet
from fovigraph.models.resnet import ResNetConfig

RETINA = fg.SensorArray.matched(64, fov=16.0, cmf_a=0.5)
ONE, NINE, FIFTY = {"kernel_multiplier": 1.0}, {"blocks": [1] * 4}, {"block": "bottleneck"}
LOW = {"stem_stride": 1, "stem_pool_stride": 1}
DEEP = {"blocks": [3, 4, 6, 3]}


@pytest.fixture(scope="module")
def made():
    """Networks by their options, each made once."""
    nets = {}

    def make(**options):
        key = repr(options)
        if key not in nets:
            nets[key] = KNNResNet(RETINA, ResNetConfig(**options))
        return nets[key]

    return make


# ---- figures, at side 64, 16 degrees and cmf_a 0.5


@pytest.mark.parametrize(
    ("options", "total", "stem", "stages"),
    [
        (NINE | ONE, 3_595_072, 9408, (73_984, 230_144, 919_040, 2_362_368)),
        (ONE, 7_244_352, 9408, (147_968, 525_568, 2_099_712, 4_461_568)),
        ({}, 44_161_152, 37_632, (590_336, 2_073_856, 8_292_864, 33_166_336)),
        (DEEP | ONE, 14_731_072, 9408, (221_952, 1_116_416, 6_822_400, 6_560_768)),
        (DEEP | FIFTY | ONE, 20_886_592, 9408, (215_808, 1_219_584, 7_098_368, 12_343_296)),
        (DEEP | FIFTY, 57_488_000, 37_632, (547_584, 2_989_056, 17_715_200, 36_198_400)),
        (NINE | LOW | ONE, 4_905_792, 9408, (73_984, 230_144, 919_040, 3_673_088)),
        (NINE | LOW, 19_089_792, 37_632, None),
        (LOW | ONE, 11_176_512, 9408, (147_968, 525_568, 2_099_712, 8_393_728)),
        (
            ONE | {"stem_k": 9, "stem_stride": 1},
            11_168_832,
            1728,
            (147_968, 525_568, 2_099_712, 8_393_728),
        ),
        (NINE | ONE | {"double_kernels": True}, 14_334_784, 9408, None),
    ],
)
def test_parameters_in_total_and_by_part(made, options, total, stem, stages):
    net = made(**options)
    assert count(net) == total
    assert count(net.layers[0].conv) == stem
    assert count(net.layers[0].norm) == 128
    assert (net.out_channels, len(net.pyramid.levels[-1])) == (
        2048 if "block" in options else 512,
        1,
    )
    if stages is not None:
        assert tuple(count(*stage) for stage in stages_of(net)) == stages


def stages_of(net):
    """Blocks of every stage."""
    stages = [[net.layers[1]]]
    for block in net.layers[2:-1]:
        if block.shortcut is not None:
            stages.append([])
        stages[-1].append(block)
    return stages


@pytest.mark.parametrize(
    ("options", "total", "stages"),
    [
        (NINE, 4_651_072, [83_328, 281_728, 1_120_512, 3_155_968]),
        ({}, 9_008_832, [166_656, 612_224, 2_436_864, 5_783_552]),
    ],
)
def test_separable_parameters_are_upstreams_less_its_dead_weights(made, options, total, stages):
    """Upstream keeps a full weight beside every separable convolution, which nothing uses."""

    def dead(*blocks):
        return sum(
            getattr(block, name).weight.numel() for block in blocks for name in block.runs_on
        )

    full = made(**options, **ONE)
    separable = KNNResNet(RETINA, ResNetConfig(**options, **ONE, conv="depthwise_separable"))
    assert count(separable) + dead(*full.layers[1:-1]) == total
    pairs = zip(stages_of(full), stages_of(separable), strict=True)
    assert [count(*ours) + dead(*blocks) for blocks, ours in pairs] == stages
    assert (count(separable.layers[0].conv), count(separable.layers[0].norm)) == (9408, 128)
    x = torch.rand(1, len(RETINA), 3)
    assert separable(x).shape == (1, 1, 512)  # which upstream's cannot give


@pytest.mark.parametrize(
    ("options", "nodes"),
    [(NINE, [964, 230, 230, 60, 16, 2, 1]), (NINE | LOW, [4085, 4085, 4085, 964, 230, 60, 1])],
)
def test_nodes_of_every_level(made, options, nodes):
    pyramid = made(**options, **ONE).pyramid
    counts = [len(level) for level in pyramid.levels]
    stem, blocks = counts[1:3], counts[4::2]
    assert counts[0] == 4085
    assert [*stem, *blocks[:4], counts[-1]] == nodes


@pytest.mark.parametrize(
    ("retina", "options", "nodes"),
    [
        (RETINA, {"stem_k": 9, "stem_stride": 1}, [4085, 4085, 964, 964, 230, 60, 16, 1]),
        # A side is matched, so that out_side gives 1 node where upstream's rings give 2.
        (fg.SensorArray(64), {}, [5977, 1469, 356, 356, 83, 16, 2, 1]),
        (fg.SensorArray.matched(256), {}, [65_017, 16_183, 4085, 4085, 964, 230, 60, 1]),
    ],
    ids=["a small stem", "rings not matched", "side 256"],
)
def test_nodes_of_other_pyramids(retina, options, nodes):
    narrow = {"channels": [1] * 4, "stem_channels": 1}
    pyramid = KNNResNet(retina, ResNetConfig(**NINE | ONE | narrow | options)).pyramid
    counts = [len(level) for level in pyramid.levels]
    assert [*counts[:3], *counts[4::2], counts[-1]][: len(nodes)] == nodes


def test_edges_and_cells(made):
    pyramid = made(**DEEP, **ONE).pyramid
    found = {(graph.num_src, graph.num_dst, graph.k): graph.num_edges for graph in pyramid.graphs}
    assert found == {
        (4085, 964, 49): 45_734,
        (964, 230, 9): 1995,
        (230, 230, 9): 1992,
        (230, 60, 9): 490,
        (60, 60, 9): 479,
        (60, 16, 9): 114,
        (16, 16, 9): 112,
        (16, 2, 9): 13,
        (2, 2, 2): 3,
        (2, 1, 2): 2,
    }
    steps = zip(pyramid.graphs, pyramid.kernel_sizes, strict=True)
    sizes = {graph.k: size for graph, size in steps if size}
    assert sizes == {49: 7, 9: 3, 2: 2}
    doubled = made().pyramid
    assert {size for size in doubled.kernel_sizes if size} == {14, 6}
    for connection in pyramid.relations().values():
        if connection.kind == "between":
            graph = pyramid.graph(connection)
            assert graph.num_edges == graph.num_dst
            assert connection.kernel_size == 1


def test_edges_of_low_resolution(made):
    pyramid = made(**NINE | LOW, **ONE).pyramid
    found = {(graph.num_src, graph.num_dst, graph.k): graph.num_edges for graph in pyramid.graphs}
    assert found == {
        (4085, 4085, 49): 195_005,
        (4085, 4085, 9): 36_438,
        (4085, 964, 9): 8519,
        (964, 964, 9): 8507,
        (964, 230, 9): 1995,
        (230, 230, 9): 1992,
        (230, 60, 9): 490,
        (60, 60, 9): 479,
        (60, 1, 60): 60,
    }


def test_a_classifier_takes_all_features(made):
    net = KNNResNet(RETINA, ResNetConfig(**ONE), num_classes=1000)
    assert (count(net), count(net.classifier)) == (7_757_352, 513_000)
    assert made(**ONE, out_side=None).num_features == 1024
    unmatched = KNNResNet(fg.SensorArray(64), ResNetConfig(**ONE, out_side=None))
    assert (unmatched.num_features, len(unmatched.pyramid.levels[-1])) == (1024, 2)


# ---- what it computes


@pytest.fixture(scope="module", params=["basic", "bottleneck", "separable"])
def small(request):
    options = {"block": request.param} if request.param != "separable" else {}
    if request.param == "separable":
        options["conv"] = "depthwise_separable"
    torch.manual_seed(0)
    config = {
        "retina": {"side": 24},
        "backbone": {
            "name": "resnet",
            "blocks": [1, 2],
            "channels": [4, 8],
            "strides": [1, 2],
            "stem_channels": 4,
            "stem_k": 9,
            **options,
        },
        "projector": {"channels": []},
        "head": {"num_classes": 3},
        "fixation": {"count": 2},
    }
    net = fg.FoviNet(config).eval()
    for norm in (m for m in net.modules() if isinstance(m, fg.nn.BatchNorm)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return net


def samples(net):
    return torch.rand(2, len(net.retina.array), 3)


def test_fused_and_unfused_agree(small):
    check_both_paths(small.backbone.double(), samples(small).double().requires_grad_())
    small.float()


class Dense(nn.Module):
    """A convolution of torch's own, full or separable, with the same weights as one of ours."""

    def __init__(self, conv, size, **options):
        super().__init__()
        if isinstance(conv, fg.nn.KNNConv):
            self.conv = nn.Conv2d(conv.in_channels, conv.out_channels, size, bias=False, **options)
            conv.load_conv2d(self.conv)
            return
        channels, wide = conv.depthwise.in_channels, conv.depthwise.out_channels
        spread = nn.Conv2d(channels, wide, size, bias=False, groups=channels, **options)
        conv.depthwise.load_conv2d(spread)
        mix = nn.Conv2d(wide, conv.pointwise.out_features, 1, bias=False)
        mix.weight = nn.Parameter(conv.pointwise.weight.detach().clone()[:, :, None, None])
        self.conv = nn.Sequential(spread, mix)

    def forward(self, x):
        return self.conv(x)


def as_dense(norm):
    """A norm in evaluation on ``[B, C, H, W]``."""
    return lambda x: norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("conv", ["full", "depthwise_separable"])
def test_on_a_square_array_it_is_the_dense_network(conv):
    """With kernels of one cell per neighbour: 4² in the stem, 3² elsewhere.

    What is seen lies in the interior, and only the last norm moves zeros: so what is different at
    the edge, where neighbours are missing, stays zero.
    """
    torch.manual_seed(0)
    config = ResNetConfig(
        blocks=[1, 1],
        channels=[4, 8],
        strides=[1, 1],
        stem_channels=4,
        stem_k=16,
        stem_pool_stride=1,
        kernel_multiplier=1.0,
        conv=conv,
        out_side=None,
    )
    net = KNNResNet(fg.SensorArray(64, layout="uniform_disc"), config).eval()
    for norm in (m for m in net.modules() if isinstance(m, fg.nn.BatchNorm)):
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
    stem, first, last = net.layers
    for part in (last.norm2.running_mean, last.norm2.bias.data):
        part.normal_()
    layers = {
        block: [Dense(getattr(block, name), 3, padding=1) for name in ("conv1", "conv2")]
        for block in (first, last)
    }
    stem_conv, shortcut = Dense(stem.conv, 4, stride=2, padding=1), Dense(last.shortcut, 1)
    for module in (net, stem_conv, shortcut, *layers[first], *layers[last]):
        module.double()

    def dense_block(block, x):
        conv1, conv2 = layers[block]
        y = as_dense(block.norm2)(conv2(as_dense(block.norm1)(conv1(x)).relu()))
        x = x if block.shortcut is None else as_dense(block.shortcut_norm)(shortcut(x))
        return (x + y).relu()

    dense = torch.zeros(2, 3, 64, 64, dtype=torch.float64)
    dense[:, :, 26:38, 24:40] = torch.randn(2, 3, 12, 16, dtype=torch.float64)
    row, column = pixels(net.pyramid.levels[0])
    x = dense[:, :, row, column].mT
    seen = net.intermediates(x)
    row, column = pixels(net.pyramid.levels[-1])
    for number, step in enumerate(
        (
            lambda x: nn.functional.max_pool2d(as_dense(stem.norm)(stem_conv(x)).relu(), 3, 1, 1),
            lambda x: dense_block(first, x),
            lambda x: dense_block(last, x),
        )
    ):
        dense, ours = step(dense), seen[f"layers.{number}"].features
        torch.testing.assert_close(ours, dense[:, :, row, column].mT, rtol=1e-10, atol=1e-10)
        assert ours.count_nonzero() > 100


def test_blocks_add_the_shortcut():
    config = ResNetConfig(blocks=[1], channels=[6], strides=[2], stem_channels=4, out_side=None)
    net = KNNResNet(fg.SensorArray.matched(24), config).eval()
    block, pyramid = net.layers[1], net.pyramid
    x = torch.rand(2, len(pyramid.levels[2]), 4)
    step1, step2 = pyramid.graphs[2], pyramid.graphs[3]
    y = block.norm2(block.conv2(block.norm1(block.conv1(x, step1)).relu(), step2))
    nearest = pyramid.between(2, 4, k=1).edge_index
    assert nearest[1].tolist() == list(range(len(pyramid.levels[4])))
    shortcut = block.shortcut_norm(x[:, nearest[0]] @ block.shortcut.weight[0])
    torch.testing.assert_close(block(x, pyramid), (y + shortcut).relu())


def test_it_can_do_what_others_can(small, tmp_path):
    images = torch.rand(2, 3, 40, 50)
    assert small(images).logits.shape == (2, 3)
    optimised = check_copies(small, images, tmp_path)
    if small.config.backbone.conv == "full":
        assert not any(isinstance(m, fg.nn.BatchNorm) for m in optimised.modules())
    check_grey(tmp_path, images, 3)
    check_cost(fg.models.cost.describe(small))
    seen = small.features(images, layers=["layers.1"])["layers.1"]
    assert seen.features.shape[:2] == (2, 2)


def test_it_compiles_exports_and_shares_a_pyramid(small):
    x, net = samples(small), small.backbone
    check_compiles(net, x)
    check_shares_a_pyramid(net, small.config.backbone, x)


def test_every_parameter_learns(small):
    net = fg.FoviNet(small.config).train()
    net(torch.rand(4, 3, 40, 50)).logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    relus = [m for m in net.backbone.modules() if isinstance(m, nn.ReLU)]
    assert len(relus) == len(set(relus))


# ---- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": "bsic"}, r"backbone.block must be one of .* got 'bsic' \(did you mean 'basic'"),
        ({"blocks": []}, "backbone.blocks must have at least one entry"),
        ({"channels": [64]}, "backbone.channels must have 4 entries like backbone.blocks, got 1"),
        ({"strides": [1, 2]}, "backbone.strides must have 4 entries"),
        ({"stem_k": 0}, "backbone.stem_k must be at least 1, got 0"),
        ({"kernel_multiplier": math.inf}, "backbone.kernel_multiplier must be finite"),
        ({"double_kernels": True}, "backbone.double_kernels must be false unless"),
        ({"conv": "depthwise"}, "backbone.conv must be one of"),
        ({"conv": "depthwise_separable", **FIFTY}, "backbone.conv must be 'full' with backbone.bl"),
        ({"conv": "depthwise_separable", "channels": [96] * 4}, "must be multiples of the channel"),
        ({"pool_after": [1]}, r"backbone.pool_after is not a key"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(options, message):
    with pytest.raises(fg.ConfigError, match=message):
        fg.config.as_config({"backbone": {"name": "resnet", **options}})


def test_a_stride_that_leaves_no_nodes_is_refused():
    with pytest.raises(ValueError, match="stride must leave at least one node"):
        KNNResNet(fg.SensorArray.matched(8), ResNetConfig())
