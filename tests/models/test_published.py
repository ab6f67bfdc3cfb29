"""The published figures of whole networks: parameters in total and by part, and output shapes."""

import pytest
import torch
from families import count

import fovigraph as fg
from fovigraph.models.lora import add_lora, train_only


def built(name, **overrides):
    """A network without memory for its weights."""
    if "dinov3" in name:
        pytest.importorskip("transformers")
        pytest.importorskip("peft")
    with torch.device("meta"):
        return fg.create_model(name, **overrides)


@pytest.mark.parametrize(
    ("name", "total", "backbone", "projector"),
    [
        ("fovi_alexnet", 17_324_840, 14_986_048, 1_313_792),
        ("fovi_resnet9", 6_196_008, 3_595_072, 1_575_936),
        ("fovi_resnet18", 46_762_088, 44_161_152, 1_575_936),
        ("fovi_resnet50", 61_661_800, 57_488_000, 3_148_800),
        ("fovi_vit_tiny", 7_672_680, 5_399_424, 1_248_256),
        ("fovi_vit_small", 23_885_544, 21_415_680, 1_444_864),
        ("fovi_dinov3_small_plus", 32_839_016, 31_420_800, 393_216),
    ],
)
def test_parameters_in_total_and_by_part(name, total, backbone, projector):
    net = built(name)
    assert (count(net), count(net.backbone)) == (total, backbone)
    assert (count(net.projector), count(net.head)) == (projector, 1_025_000)


@pytest.mark.parametrize(
    ("name", "nodes", "features"),
    [
        ("fovi_resnet9", 4085, 512),
        ("fovi_vit_tiny", 4085, 192),
        ("fovi_dinov3_small_plus", 3976, 384),
    ],
)
def test_what_one_image_becomes(name, nodes, features):
    net = built(name).eval().to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point() and tensor.numel() > 1e3:
                tensor.zero_()
        out = net(torch.rand(1, 3, 256, 256))
    assert len(net.retina.array) == nodes
    assert out.features.shape == (1, 4, features)
    assert out.embeddings.shape == (1, 4, 1024)
    assert out.logits.shape == (1, 1000)


@pytest.mark.parametrize(
    ("name", "aggregation", "features"),
    [
        ("fovi_resnet50", None, 2048),
        ("fovi_vit_small", "class", 384),
        ("fovi_vit_tiny", "tokens", 84 * 192),
        ("fovi_dinov3_small_plus", "tokens", 26_496),
        ("fovi_dinov3_small_plus", "patches", 24_576),
    ],
)
def test_features(name, aggregation, features):
    options = {} if aggregation is None else {"backbone": {"aggregation": aggregation}}
    assert built(name, **options).backbone.num_features == features


def test_adapters_of_a_resnet():
    """Upstream's ``fovi_resnet18_lora`` at rank 8, whose last norm learns, too."""
    net = built("fovi_resnet18", backbone={"kernel_multiplier": 1.0})
    pytest.importorskip("peft")
    targets = ["layers.0.conv", "layers.*.conv[12]", "layers.*.shortcut"]
    assert len(add_lora(net.backbone, targets, rank=8)) == 1 + 8 * 2 + 3
    train_only(net.backbone, ["layers.8.norm2"])
    assert (count(net), count(net.backbone)) == (10_071_232, 7_470_296)
    assert count(net.backbone, trainable=True) == 226_968


def test_patches_of_a_whole_image():
    """Upstream's dense ``vit_tiny``, and its DINOv3 on a grid: 8² pixels a patch, 64 of them."""
    pixels = {"patches": "partition", "overlap": 1.0, "kernel_size": 8, "metric": "visual"}
    net = built("fovi_vit_tiny", retina={"layout": "uniform_square"}, backbone=pixels)
    assert [len(level) for level in net.pyramid.levels] == [4096, 64]
    assert (count(net), count(net.backbone)) == (7_639_848, 5_366_592)
    assert count(net.backbone.layers[0].conv) == 36_864
    net = built("fovi_dinov3_small_plus", retina={"layout": "uniform_square"}, backbone=pixels)
    assert (count(net), count(net.backbone)) == (32_580_968, 31_162_752)
    assert count(net.backbone, trainable=True) == 2_691_840
