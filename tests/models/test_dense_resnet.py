"""Dense ResNets' weights in ResNets on pyramids. The answers of upstream's way are in interop."""

import pytest
import torch
from drawn_weights import dense_resnet18, drawn
from torch.nn import functional

import fovigraph as fg
from fovigraph.models import KNNResNet, load_dense_resnet
from fovigraph.models.resnet import ResNetConfig

NARROW = {"channels": [4, 8, 16, 32], "stem_channels": 4}
RETINA = fg.SensorArray.matched(64)


@pytest.fixture
def weights():
    return drawn(dense_resnet18(4))


def network(**options):
    return KNNResNet(RETINA, ResNetConfig(**NARROW | {"kernel_multiplier": 1.0} | options)).eval()


@pytest.fixture
def net():
    return network()


def test_pixels_become_cells_and_statistics_stay(net, weights):
    load_dense_resnet(net, weights)
    kernel, cells = weights["conv1.weight"], net.layers[0].conv.weight
    for column, row in ((0, 0), (2, 5), (6, 1)):  # columns run along +u, rows along −v
        assert torch.equal(cells[column * 7 + 6 - row], kernel[:, :, row, column].T)
    block = net.layers[3]  # of stage 2, the first
    for ours, theirs in {
        "norm1": "layer2.0.bn1",
        "norm2": "layer2.0.bn2",
        "shortcut_norm": "layer2.0.downsample.1",
    }.items():
        for key, tensor in getattr(block, ours).state_dict().items():
            assert torch.equal(tensor, weights[f"{theirs}.{key}"])
    shortcut = weights["layer2.0.downsample.0.weight"]
    assert torch.equal(block.shortcut.weight, shortcut[:, :, 0, 0].T[None])
    assert torch.equal(block.conv2.weight[4], weights["layer2.0.conv2.weight"][:, :, 1, 1].T)


@pytest.mark.parametrize("preserve", [False, True])
def test_larger_kernels_are_resized(weights, preserve):
    net = network(kernel_multiplier=2.0)
    load_dense_resnet(net, weights, preserve_kernel_norm=preserve)
    kernel = weights["layer1.0.conv1.weight"]
    larger = functional.interpolate(kernel, (6, 6), mode="bilinear", align_corners=True)
    if preserve:
        larger *= (kernel.flatten(1).norm(dim=1) / larger.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
    cells = net.layers[1].conv1.weight.view(6, 6, 4, 4)  # column, row from below, in, out
    torch.testing.assert_close(cells.flip(1).permute(3, 2, 1, 0), larger)


def test_kernels_of_equal_size_keep_their_values_whatever_is_preserved(net, weights):
    load_dense_resnet(net, weights)
    before = net.layers[0].conv.weight.clone()
    load_dense_resnet(net, weights, preserve_kernel_norm=True)
    assert torch.equal(net.layers[0].conv.weight, before)


def test_a_bottleneck_has_three_convolutions():
    block = "layer1.0"
    shapes = {
        "conv1.weight": (4, 3, 7, 7),
        f"{block}.conv1.weight": (4, 4, 1, 1),
        f"{block}.conv2.weight": (4, 4, 3, 3),
        f"{block}.conv3.weight": (16, 4, 1, 1),
        f"{block}.downsample.0.weight": (16, 4, 1, 1),
    }
    norms = {"bn1": 4, f"{block}.bn1": 4, f"{block}.bn2": 4, f"{block}.bn3": 16}
    for norm, channels in (norms | {f"{block}.downsample.1": 16}).items():
        for key in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{key}"] = (channels,)
    weights = drawn({name: torch.empty(shape) for name, shape in shapes.items()})
    options = {"block": "bottleneck", "blocks": [1], "channels": [4], "strides": [1]}
    net = network(**options)
    load_dense_resnet(net, weights)  # of the time before batches were counted
    block = net.layers[1]
    assert torch.equal(block.conv3.weight[0], weights["layer1.0.conv3.weight"][:, :, 0, 0].T)
    assert torch.equal(block.norm3.running_var, weights["layer1.0.bn3.running_var"])
    assert block.norm3.num_batches_tracked == 0
    assert torch.equal(block.shortcut_norm.bias, weights["layer1.0.downsample.1.bias"])


def test_the_network_answers_and_can_be_saved(weights, tmp_path):
    config = {
        "retina": {"side": 32, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        "backbone": {"name": "resnet", **NARROW},
    }
    net = fg.FoviNet(config).eval()
    load_dense_resnet(net.backbone, weights)
    net.save_pretrained(tmp_path)
    images = torch.rand(1, 3, 40, 40)
    logits = net(images).logits
    assert logits.isfinite().all()
    assert fg.FoviNet.from_pretrained(tmp_path)(images).logits.equal(logits)


# ---- bad input


def test_all_that_does_not_fit_is_listed_and_nothing_changed(net, weights):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    del weights["bn1.bias"]
    weights["conv1.weight"] = torch.zeros(4, 1, 7, 7)
    weights["layer1.0.bn1.weight"] = torch.zeros(5)
    weights["layer3.1.bn2.running_var"][0] = torch.nan
    weights["layer4.0.se.fc1.weight"] = torch.zeros(2)
    with pytest.raises(ValueError, match="weights must be those of a dense ResNet") as error:
        load_dense_resnet(net, weights)
    for line in (
        "missing: bn1.bias [4]",
        "of another shape: conv1.weight [4, 1, 7, 7], not [4, 3, any, any]",
        "of another shape: layer1.0.bn1.weight [5], not [4]",
        "layer3.1.bn2.running_var: 1 of 16 values are NaN, infinite or too large",
        "unexpected: layer4.0.se.fc1.weight",
    ):
        assert line in str(error.value)
    assert "fc." not in str(error.value).replace("se.fc1", "")
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"blocks": [3, 4, 6, 3]},
            "weights must be of a ResNet of 16 blocks like the backbone, got 8",
        ),
        ({"conv": "depthwise_separable"}, "got a KNNSeparableConv in place of layer1.0.conv1"),
        ({"norm": "group"}, "got a GroupNorm in place of bn1"),
        (
            {"channels": [8, 16, 32, 64], "stem_channels": 8},
            r"conv1.weight \[4, 3, 7, 7\], not \[8",
        ),
    ],
    ids=str,
)
def test_other_networks_are_refused(weights, options, message):
    with pytest.raises(ValueError, match=message):
        load_dense_resnet(network(**options), weights)


def test_other_types_are_refused(net, weights):
    with pytest.raises(TypeError, match="backbone must be a KNNResNet"):
        load_dense_resnet(fg.create_model("fovi_tiny").backbone, weights)
    with pytest.raises(TypeError, match="weights must be named tensors, got 3"):
        load_dense_resnet(net, 3)
    with pytest.raises(TypeError, match=r"weights\['epoch'\] must be a tensor, got 3"):
        load_dense_resnet(net, {**weights, "epoch": 3})
    with pytest.raises(TypeError, match="preserve_kernel_norm must be True or False"):
        load_dense_resnet(net, weights, preserve_kernel_norm=1)
