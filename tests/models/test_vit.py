"""Vision transformers: figures that must come out, and what a family has to be able to do."""

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

import fovigraph as fg
from fovigraph.models import KNNViT, cost
from fovigraph.models.vit import ViTConfig


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("fovi_vit_tiny", (7_672_680, 5_399_424, 69_696, 5_329_152, 384, 1_248_256)),
        ("fovi_vit_small", (23_885_544, 21_415_680, 139_392, 21_275_136, 768, 1_444_864)),
    ],
)
def test_parameters_in_total_and_by_part(name, figures):
    with torch.device("meta"):
        net = fg.create_model(name)
    backbone = net.backbone
    patches, *blocks = backbone.layers
    parts = (net, backbone, patches.conv, torch.nn.ModuleList(blocks), backbone.norm, net.projector)
    assert tuple(map(count, parts)) == figures
    assert count(net.head) == 1_025_000
    assert patches.class_token.numel() == backbone.num_features == backbone.out_channels
    graph = net.pyramid.graphs[0]
    assert (len(graph.dst), graph.k, patches.conv.num_cells) == (83, 111, 121)


SMALL = {
    "retina": {"side": 24},
    "backbone": {
        "name": "vit",
        "channels": 24,
        "heads": 2,
        "blocks": 2,
        "patch_size": 6,
        "register_tokens": 1,
        "attention_k": 5,
    },
    "projector": {"channels": []},
    "head": {"num_classes": 3},
    "fixation": {"count": 2},
}


def with_backbone(**options):
    return SMALL | {"backbone": SMALL["backbone"] | options}


def small(**options):
    torch.manual_seed(0)
    net = fg.FoviNet(with_backbone(**options)).eval()
    torch.manual_seed(0)
    for parameter in net.backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net


@pytest.fixture(scope="module")
def net():
    return small()


def samples(net):
    torch.manual_seed(1)
    return torch.rand(2, len(net.retina.array), 3)


@pytest.mark.parametrize("attention_k", [None, 5])
@pytest.mark.parametrize("positions", ["rotary", "learned", "shift"])
def test_fused_and_unfused_agree(attention_k, positions):
    backbone = small(attention_k=attention_k, positions=positions).backbone.double()
    x = torch.rand(2, len(backbone.pyramid.levels[0]), 3).double().requires_grad_()
    check_both_paths(backbone, x)


@pytest.mark.parametrize(
    ("how", "rows"),
    [("class", 1), ("mean", 1), ("mean_patches", 1), ("patches", 23), ("tokens", 25)],
)
def test_aggregations(net, how, rows):
    other = small(aggregation=how)
    patches = len(other.pyramid.levels[1])
    rows += patches - 23 if rows > 1 else 0
    assert other.backbone.num_features == 24 * rows
    tokens = small(aggregation="tokens").backbone(samples(net))
    expected = {
        "class": tokens[:, :1],
        "mean": tokens.mean(1, keepdim=True),
        "mean_patches": tokens[:, 2:].mean(1, keepdim=True),
        "patches": tokens[:, 2:],
        "tokens": tokens,
    }[how]
    out = other.backbone(samples(net))
    assert out.shape == (2, rows, 24)
    torch.testing.assert_close(out, expected)


def test_patches_reach_as_far_as_attention_lets_them():
    near = small(blocks=1)
    patches, pyramid = near.pyramid.graphs[0], near.pyramid
    source, patch = patches.edge_index
    attended = pyramid.between(1, 1, k=5).edge_index
    for unit in (0, 7):
        (weights,) = fg.viz.effective_fields(near.backbone, 1, [unit])
        expected = source[torch.isin(patch, attended[0][attended[1] == unit])].unique()
        assert weights.nonzero()[:, 0].tolist() == expected.tolist()
    everywhere = small(blocks=1, attention_k=None)
    assert (fg.viz.effective_fields(everywhere.backbone, 1, [7]) > 0).all()


def test_it_can_do_what_others_can(net, tmp_path):
    images = torch.rand(2, 3, 40, 50)
    assert net(images).logits.shape == (2, 3)
    check_copies(net, images, tmp_path)
    check_grey(tmp_path, images, 3)
    check_cost(cost.describe(net))
    seen = net.features(images, layers=["layers.0", "layers.2"])["layers.2"]
    assert seen.features.shape[-2] == len(net.pyramid.levels[1])


def test_it_compiles_exports_and_shares_a_pyramid(net):
    x, backbone = samples(net), net.backbone
    check_compiles(backbone, x)
    check_shares_a_pyramid(backbone, net.config.backbone, x)


def test_every_parameter_learns(net):
    other = fg.FoviNet(net.config).train()
    other(torch.rand(4, 3, 40, 50)).logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in other.parameters())
    classifier = KNNViT(net.retina.array, ViTConfig(channels=12, blocks=1), num_classes=5)
    assert classifier(samples(net)).shape == (2, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, r"backbone.heads must divide the 24 channels .* got 5"),
        ({"heads": 48}, r"backbone.heads must divide the 24 channels .* got 48"),
        ({"patch_size": 0}, "backbone.patch_size must be finite and above 0, got 0"),
        ({"patches": "tiles"}, "backbone.patches must be one of"),
        ({"overlap": 2.0}, "backbone.overlap must be 1"),
        ({"positions": "absolute"}, "backbone.positions must be one of"),
        (
            {"positions": "shift", "position_space": "cortical"},
            "backbone.position_space must be 'v",
        ),
        ({"heads": 8}, "must be a multiple of 2 for backbone.positions='rotary', got 3"),
        ({"aggregation": "cls"}, r"backbone.aggregation must be one of .* \(did you mean"),
        ({"attention_k": 0}, "backbone.attention_k must be at least 1, got 0"),
        ({"strides": [2]}, "backbone.strides is not a key"),
        ({"dropout": 2.0}, "backbone.dropout must be from 0 to 1, got 2"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(options, message):
    with pytest.raises(fg.ConfigError, match=message):
        fg.config.as_config(with_backbone(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 25}, "patch_size must be at most 24, the side that the retina is"),
        ({"attention_k": 100}, "attention_k must be at most .* the number of patches, got 100"),
    ],
)
def test_what_does_not_fit_the_retina_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        fg.FoviNet(with_backbone(**options))
