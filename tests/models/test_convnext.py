"""ConvNeXt V2: figures that must come out, torch's dense modules, and what a family can do."""

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
from torch.nn import functional

import fovigraph as fg
from fovigraph.models import KNNConvNeXtV2
from fovigraph.models.convnext import ConvNeXtV2Block, ConvNeXtV2Config, Downsampling
from fovigraph.models.cost import describe
from fovigraph.nn import DropPath

FIELD = {"fov": 16.0, "cmf_a": 0.5}
PLAIN = fg.SensorArray(64, **FIELD)  # upstream's, which cannot match the levels of this family
MATCHED = fg.SensorArray.matched(64, **FIELD)
SIZES = {
    "atto": ([2, 2, 6, 2], 40),
    "femto": ([2, 2, 6, 2], 48),
    "pico": ([2, 2, 6, 2], 64),
    "nano": ([2, 2, 8, 2], 80),
    "tiny": ([3, 3, 9, 3], 96),
    "base": ([3, 3, 27, 3], 128),
    "large": ([3, 3, 27, 3], 192),
    "huge": ([3, 3, 27, 3], 352),
}


def sized(name, retina=PLAIN):
    """A network of a published size, without memory for its weights."""
    config = fg.load_config(f"fovi_convnextv2_{name}")
    with torch.device("meta"):
        return KNNConvNeXtV2(retina, config.backbone, num_classes=1000)


# ---- figures, at 16 degrees and cmf_a 0.5


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes(name):
    config = fg.load_config(f"fovi_convnextv2_{name}").backbone
    blocks, width = SIZES[name]
    assert config.blocks == blocks
    assert config.channels == [width, 2 * width, 4 * width, 8 * width]
    assert f"fovi_convnextv2_{name}" in fg.list_models("*convnext*")


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("atto", 3_691_240),
        ("femto", 5_212_648),
        ("pico", 9_038_824),
        ("nano", 15_589_480),
        ("tiny", 28_568_968),
        ("base", 88_629_096),
    ],
)
def test_parameters(name, total):
    assert count(sized(name)) == total


@pytest.mark.parametrize(
    ("name", "steps", "stages", "norm", "head"),
    [
        ("atto", 275_920, 3_093_680, 640, 321_000),
        ("tiny", 1_565_376, 26_233_056, 1536, 769_000),
    ],
)
def test_parameters_by_part(name, steps, stages, norm, head):
    net = sized(name)
    assert count(*(each for each in net.layers if isinstance(each, Downsampling))) == steps
    assert count(*(each for each in net.layers if isinstance(each, ConvNeXtV2Block))) == stages
    assert count(net.layers[-1]) == norm
    assert count(net.classifier) == head


def test_nodes_edges_and_cells():
    pyramid = sized("atto").pyramid
    found = {(graph.num_src, graph.num_dst, graph.k): graph.num_edges for graph in pyramid.graphs}
    assert found == {
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
    assert {graph.k: size for graph, size in steps if size} == {49: 7, 4: 2, 16: 4}


def test_a_matched_pyramid():
    levels = [len(level) for level in sized("atto", MATCHED).pyramid.levels]
    assert list(dict.fromkeys(levels)) == [4085, 964, 230, 60, 16, 1]


def test_strides_of_four():
    config = ConvNeXtV2Config(strides=[4, 4, 4, 4])
    with torch.device("meta"):
        net = KNNConvNeXtV2(fg.SensorArray(256, **FIELD), config, num_classes=1000)
    levels = [len(level) for level in net.pyramid.levels]
    assert list(dict.fromkeys(levels)) == [96_699, 5977, 356, 16, 1]
    assert count(net) == 3_649_960


@pytest.mark.parametrize(("name", "dense"), [("atto", 3_708_400), ("tiny", 28_635_496)])
def test_dense_counterparts_have_a_stem_of_sixteen_cells(name, dense):
    """They have a stem of 4² instead of 7², and 7² depthwise kernels on the last level."""
    net, (blocks, width) = sized(name), SIZES[name]
    stem = (49 - 16) * 3 * width
    assert count(net) - stem + blocks[-1] * (49 - 16) * 8 * width == dense


# ---- what it computes


OPTIONS = {"blocks": [1, 2], "channels": [4, 8], "strides": [2, 2], "k": 25, "stem_k": 16}


@pytest.fixture(scope="module")
def small():
    """A small network with all weights drawn."""
    torch.manual_seed(0)
    config = {
        "retina": {"side": 24},
        "backbone": {"name": "convnextv2", **OPTIONS, "drop_path": 0.2},
        "projector": {"channels": []},
        "head": {"num_classes": 3},
        "fixation": {"count": 2},
    }
    net = fg.FoviNet(config).eval()
    drawn(net)
    return net


def drawn(net):
    """Draw all weights, as those that start at zero or one hide what is wrong."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.5)


def samples(net):
    return torch.rand(2, len(net.retina.array), 3)


def test_fused_and_unfused_agree(small):
    net = KNNConvNeXtV2(small.retina.array, small.config.backbone).double().eval()
    drawn(net)
    check_both_paths(net, samples(small).double().requires_grad_())


class DenseBlock(nn.Module):
    """A ConvNeXt V2 block of torch's own modules, on ``[B, C, H, W]``; it shares all it can."""

    def __init__(self, block):
        super().__init__()
        channels = block.depthwise.in_channels
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.norm.weight, self.norm.bias = block.norm.weight, block.norm.bias
        self.expand, self.grn, self.project = block.expand, block.grn, block.project

    def forward(self, x):
        y = functional.gelu(self.expand(self.norm(self.depthwise(x).permute(0, 2, 3, 1))))
        norm = y.square().sum((1, 2), keepdim=True).sqrt()
        n = norm / (norm.mean(-1, keepdim=True) + 1e-6)
        y = self.grn.weight * (y * n) + self.grn.bias + y
        return x + self.project(y).permute(0, 3, 1, 2)


def test_on_a_square_array_it_is_the_dense_network():
    """What is seen lies in the interior, and nothing but the last block has a bias.

    So all outside of the interior is zero, in the dense network too, and global response norms,
    which are over the whole array, are equal.
    """
    torch.manual_seed(0)
    retina = fg.SensorArray(64, layout="uniform_disc", **FIELD)
    net = KNNConvNeXtV2(retina, ConvNeXtV2Config(**OPTIONS | {"blocks": [1, 1]})).double()
    drawn(net)
    stem, first, down, second, last = net.layers
    dense_stem, dense_down = nn.Conv2d(3, 4, 4, stride=2, padding=1), nn.Conv2d(4, 8, 2, stride=2)
    dense_first, dense_second = DenseBlock(first), DenseBlock(second)
    for conv, dense in (
        *((stem.conv, dense_stem), (down.conv, dense_down)),
        *((first.depthwise, dense_first.depthwise), (second.depthwise, dense_second.depthwise)),
    ):
        conv.load_conv2d(dense.double())
    biases = [
        p
        for part in (net, dense_stem, dense_down, dense_first, dense_second)
        for name, p in part.named_parameters()
        if name.endswith("bias")
    ]
    with torch.no_grad():
        for bias in biases:
            bias.zero_()
        for bias in (second.grn.bias, second.project.bias):
            bias.normal_()

    def channel_norm(layer, x):
        x = functional.layer_norm(x.permute(0, 2, 3, 1), layer.norm.weight.shape, eps=1e-6)
        return (x * layer.norm.weight).permute(0, 3, 1, 2)

    dense = torch.zeros(2, 3, 64, 64, dtype=torch.float64)
    dense[:, :, 26:38, 24:40] = torch.randn(2, 3, 12, 16, dtype=torch.float64)
    row, column = pixels(retina)
    ours = dense[:, :, row, column].mT
    for block, reference in (
        (stem, lambda x: channel_norm(stem, dense_stem(x))),
        (first, dense_first),
        (down, lambda x: dense_down(channel_norm(down, x))),
        (second, dense_second),
    ):
        dense, ours = reference(dense), block(ours, net.pyramid)
        row, column = pixels(net.pyramid.levels[block.level])
        torch.testing.assert_close(ours, dense[:, :, row, column].mT, rtol=1e-10, atol=1e-10)
        assert ours.count_nonzero() > 100
    mean = functional.layer_norm(ours.mean(1, keepdim=True), (8,), last.norm.weight, eps=1e-6)
    torch.testing.assert_close(last(ours, net.pyramid), mean, rtol=1e-10, atol=1e-10)


def test_it_can_do_what_others_can(small, tmp_path):
    images = torch.rand(2, 3, 40, 50)
    assert small(images).logits.shape == (2, 3)
    check_copies(small, images, tmp_path)
    check_grey(tmp_path, images, 3)
    seen = small.features(images, layers=["layers.1"])["layers.1"]
    assert seen.features.shape == (2, 2, len(small.pyramid.levels[2]), 4)


def test_its_cost_is_that_of_its_layers(small):
    report = describe(small)
    check_cost(report)
    graph, level = small.pyramid.graphs[1], report["levels"][2]
    assert level["flops"] == 2 * graph.num_edges * 4 + 2 * 2 * len(small.pyramid.levels[2]) * 4 * 16
    assert level["parameters"] == count(small.backbone.layers[1])


def test_it_compiles_exports_and_shares_a_pyramid(small):
    x, net = samples(small), small.backbone
    check_compiles(net, x)
    check_shares_a_pyramid(net, small.config.backbone, x)


def test_a_step_of_training_lowers_the_loss(small):
    torch.manual_seed(0)
    net = fg.FoviNet(small.config).train()
    images, labels = torch.rand(6, 3, 40, 50), torch.tensor([0, 1, 2, 0, 1, 2])
    for module in net.modules():
        if isinstance(module, (DropPath, nn.Dropout)):
            module.eval()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    losses = []
    for _ in range(2):
        loss = functional.cross_entropy(net(images, [[0.5, 0.5]]).logits, labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        optimizer.step()
    assert losses[1] < losses[0]


def test_its_weights_are_drawn_as_convnexts_are(small):
    torch.manual_seed(0)
    net = KNNConvNeXtV2(MATCHED, ConvNeXtV2Config(), num_classes=10)
    block = net.layers[1]
    for weight in (block.depthwise.weight, block.expand.weight, net.classifier.weight):
        assert 0.017 < weight.std() < 0.022
        assert weight.abs().max() < 0.12
    for bias in (block.depthwise.bias, block.expand.bias, net.layers[0].conv.bias):
        assert not bias.any()
    stem = net.layers[0].conv.weight
    torch.testing.assert_close(stem.std(), torch.tensor((2 / (3 * 49)) ** 0.5), rtol=0.05, atol=0)
    assert not block.grn.weight.any() and not block.grn.bias.any()


def test_drop_path_rises_linearly():
    config = ConvNeXtV2Config(**OPTIONS | {"blocks": [1, 2]}, drop_path=0.3)
    net = KNNConvNeXtV2(fg.SensorArray.matched(24), config)
    rates = [m.rate for m in net.modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0, 0.15, 0.3])


# ---- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": []}, "backbone.blocks must have at least one entry"),
        ({"channels": [64]}, "backbone.channels must have 4 entries like backbone.blocks, got 1"),
        ({"strides": [1, 2]}, "backbone.strides must have 4 entries"),
        ({"k": 0}, "backbone.k must be at least 1, got 0"),
        ({"drop_path": 1.0}, "backbone.drop_path must be below 1, got 1"),
        ({"drop_path": -0.1}, r"backbone.drop_path must .*0.* got -0.1"),
        ({"metric": "cortcal"}, "backbone.metric must be one of .* got 'cortcal'"),
        ({"kernel_multiplier": 2.0}, "backbone.kernel_multiplier is not a key"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(options, message):
    with pytest.raises(fg.ConfigError, match=message):
        fg.config.as_config({"backbone": {"name": "convnextv2", **options}})


def test_strides_that_leave_no_nodes_are_refused():
    with pytest.raises(ValueError, match="stride must leave at least one node"):
        KNNConvNeXtV2(fg.SensorArray(64), ConvNeXtV2Config(strides=[4, 4, 4, 4]))
