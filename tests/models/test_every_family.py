"""What every family of backbones can do, each in the same way as the AlexNet."""

import json

import pytest
import torch
from families import check_compiles, check_copies, check_cost, check_grey

import fovigraph as fg
from fovigraph.cli import main
from fovigraph.models import FAMILIES, cost

TINY_DINOV3 = ["hidden_size=16", "num_attention_heads=2", "num_hidden_layers=2"]
BACKBONES = {
    "alexnet": {"channels": [4, 6], "strides": [2, 1], "k": [9, 9], "pool_after": [0]},
    "resnet": {"blocks": [1, 1], "channels": [4, 8], "strides": [1, 2], "stem_channels": 4},
    "convnextv2": {"blocks": [1, 1], "channels": [4, 8], "strides": [2, 2], "k": 9},
    "vit": {"channels": 8, "heads": 2, "blocks": 2, "patch_size": 6, "attention_k": 5},
    "dinov3": {"options": [*TINY_DINOV3, "intermediate_size=24"], "patch_size": 6},
}
ATTENDING = ("dinov3", "vit")


def config(family):
    if family == "dinov3":
        pytest.importorskip("transformers", reason="needs the extra vit")
    return {
        "retina": {"side": 24},
        "backbone": {"name": family, **BACKBONES[family]},
        "projector": {"channels": []},
        "head": {"num_classes": 3},
        "fixation": {"count": 2},
    }


@pytest.fixture(scope="module", params=sorted(BACKBONES))
def net(request):
    torch.manual_seed(0)
    net = fg.FoviNet(config(request.param)).eval()
    with torch.no_grad():
        for parameter in net.backbone.parameters():
            parameter.normal_(std=0.3)
    return net


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(1))


def family_of(net):
    return net.config.backbone.name


def samples(net):
    return torch.rand(2, len(net.retina.array), 3, generator=torch.Generator().manual_seed(2))


def test_these_are_all_families():
    shipped = {name for name, each in FAMILIES.items() if each.backbone.__module__[:4] == "fovi"}
    assert set(BACKBONES) == shipped
    named = {fg.load_config(name).backbone.name for name in fg.list_models()}
    assert named == set(BACKBONES)


def test_intermediates(net, images):
    seen = net.features(images)
    assert list(seen) == list(net.backbone.block_names)
    for each in seen.values():
        assert each.features.shape[:3] == (2, 2, len(net.pyramid.levels[each.level]))
    out, blocks = net.backbone.forward_intermediates(samples(net))
    assert out.equal(net.backbone(samples(net))) and list(blocks) == list(seen)
    last = net.backbone.features_by_level(samples(net))
    assert max(last) == len(net.pyramid) - 1


def test_cost_and_info(net, tmp_path, capsys):
    report = cost.describe(net)
    check_cost(report)
    fg.save_config(net.config, tmp_path / "net.yaml")
    assert main(["info", str(tmp_path / "net.yaml"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {key: said[key] for key in report} == json.loads(json.dumps(report))


def test_attention_costs_what_it_computes():
    """Two products of queries, keys and values for every pair of tokens."""
    levels = [
        cost.describe(fg.FoviNet(config("vit") | {"backbone": config("vit")["backbone"] | more}))
        for more in ({"blocks": 1, "attention_k": None}, {"blocks": 2, "attention_k": None})
    ]
    one, two = (level["levels"][1]["flops"] for level in levels)
    tokens = levels[0]["levels"][1]["nodes"] + 1
    linear = 2 * tokens * 8 * (3 * 8 + 8 + 2 * 32)
    assert two - one == linear + 2 * 2 * tokens**2 * 8


def test_optimised_saved_and_exported_to_pyg(net, images, tmp_path):
    check_copies(net, images, tmp_path)
    check_grey(tmp_path, images, 3)
    data = net.pyramid.to_hetero_data()
    assert set(data.node_types) == set(net.pyramid.names)


def test_it_compiles_and_exports(net):
    check_compiles(net.backbone, samples(net), "eager")


def test_receptive_fields_are_where_gradients_come_from(net):
    backbone, pyramid = net.backbone, net.pyramid
    seen = backbone.intermediates(samples(net))
    for name, each in seen.items():
        reached = backbone.receptive_field(name, 0)
        x = samples(net)[:1].requires_grad_()
        features = backbone.intermediates(x, [name])[name].features
        (gradient,) = torch.autograd.grad(features[0, 0].square().sum(), x)
        moved = gradient[0].norm(dim=-1).nonzero()[:, 0]
        assert len(moved) and set(moved.tolist()) <= set(reached.tolist()), name
        by_graphs = pyramid.receptive_field(each.level, 0).nodes
        assert set(by_graphs.tolist()) <= set(reached.tolist())
        if family_of(net) in ("alexnet", "resnet"):
            assert reached.equal(by_graphs)
    strength = fg.viz.effective_fields(backbone, len(pyramid) - 1, [0])
    assert strength.shape == (1, len(net.retina.array)) and strength.sum() > 0


def test_attention_to_the_nearest_patches_reaches_their_nodes_and_then_all():
    backbone = fg.FoviNet(config("vit")).backbone
    pyramid = backbone.pyramid
    assert backbone.receptive_field("layers.0", 3).equal(pyramid.receptive_field(1, 3).nodes)
    source, patch = pyramid.between(1, 1, k=5).edge_index
    nodes, through = pyramid.graphs[0].edge_index
    expected = nodes[torch.isin(through, source[patch == 3])].unique()
    assert backbone.receptive_field("layers.1", 3).equal(expected)
    everything = torch.arange(len(pyramid.levels[0]))
    assert backbone.receptive_field("layers.2", 3).equal(everything)  # by the class token
    whole = fg.FoviNet(
        config("vit") | {"backbone": {**config("vit")["backbone"], "attention_k": None}}
    )
    assert whole.backbone.receptive_field("layers.1", 3).equal(everything)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("layers.9", 0), ValueError, "layer must be one of 'layers.0'"),
        (("layers.1", 1000), ValueError, "unit must be .*, got 1000"),
        (("layers.1", 1.5), TypeError, "unit must be a whole number of at least 0, got"),
    ],
)
def test_fields_of_what_is_not_there(arguments, error, message):
    with pytest.raises(error, match=message):
        fg.FoviNet(config("vit")).backbone.receptive_field(*arguments)


def test_plots_and_the_explorer(net, tmp_path):
    pytest.importorskip("matplotlib")
    for figure in (
        fg.viz.plot_receptive_field(net.pyramid, 1, 1),
        fg.viz.plot_fields(net.pyramid, 1),
        fg.viz.plot_effective_field_sizes(net.backbone, units=2),
        fg.viz.plot_pyramid(net.pyramid),
    ):
        figure.savefig(tmp_path / "figure.png", dpi=30)
    seen = net.features(torch.rand(1, 3, 40, 50))["layers.0"]
    fg.viz.plot_activations(net.pyramid.levels[seen.level], seen.features[0, 0])
    page = fg.viz.explorer_html(net.pyramid, image=torch.rand(3, 40, 50), retina=net.retina)
    assert net.pyramid.names[-1] in page


@pytest.mark.parametrize(
    ("family", "key", "others"),
    [
        ("vit", "strides", "'alexnet', 'resnet', 'convnextv2'"),
        ("resnet", "heads", "'vit'"),
        ("convnextv2", "attention_k", "'vit'"),
        ("alexnet", "lora_rank", "'dinov3', 'resnet'"),
        ("dinov3", "kernel_multiplier", "'alexnet', 'resnet'"),
    ],
)
def test_an_option_of_another_family_says_whose_it_is(family, key, others):
    with pytest.raises(fg.ConfigError) as caught:
        fg.config.as_config({"backbone": {"name": family, key: 3}})
    owners = ", ".join(sorted(others.split(", ")))
    said = str(caught.value)
    found = said.partition(f"backbone.{key} is not a key of {family!r}, but of ")[2]
    assert ", ".join(sorted(found.split(", "))) == owners, said
