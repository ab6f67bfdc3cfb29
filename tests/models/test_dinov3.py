"""DINOv3: upstream's figures, transformers' results, published weights, adapters."""

import copy
import json

import pytest
import torch
from families import check_compiles, check_copies, check_cost, check_grey, count
from safetensors.torch import load_file, save_file
from torch import nn

import fovigraph as fg
from fovigraph.models import DINOv3, cost
from fovigraph.models.dinov3 import SIZES, DINOv3Config, transformers_config
from fovigraph.models.lora import (
    adapter_state,
    add_lora,
    drop_lora,
    load_adapters,
    merge_lora,
    save_adapters,
    train_only,
    unmerge_lora,
)

hf = pytest.importorskip("transformers.models.dinov3_vit", reason="needs the extra vit")
pytest.importorskip("peft", reason="needs the extra vit")

RETINA = fg.SensorArray.matched(64, cmf_a=2.785765)
SMALL = fg.SensorArray.matched(24)
TINY = {
    "size": "small_plus",
    "options": [
        "hidden_size=24",
        "num_attention_heads=2",
        "num_hidden_layers=3",
        "intermediate_size=40",
        "num_register_tokens=2",
        "layerscale_value=0.5",
    ],
    "patch_size": 6.0,
    "kernel_size": 4,
}
LORA = {"lora_rank": 3, "lora_alpha": 6.0, "lora_blocks": [-1, 1]}


def tiny(retina=SMALL, **options):
    torch.manual_seed(0)
    net = DINOv3(retina, DINOv3Config(**{**TINY, **options}))
    torch.manual_seed(0)
    for name, parameter in net.named_parameters():
        if ".lora_" not in name:
            nn.init.normal_(parameter, std=0.2)
    return net.eval()


def samples(batch=(2,)):
    torch.manual_seed(1)
    return torch.rand(*batch, len(SMALL), 3)


# ---- figures


@pytest.mark.parametrize("size", SIZES)
def test_published_sizes_are_transformers_own(size):
    config = DINOv3Config(size=size, patch_size=8.0)
    with torch.device("meta"):
        ours, theirs = DINOv3(RETINA, config), hf.DINOv3ViTModel(transformers_config(config))
    assert count(ours) == count(theirs)
    assert f"fovi_dinov3_{size}" in fg.list_models()
    assert fg.load_config(f"fovi_dinov3_{size}").backbone.size == size


@pytest.mark.parametrize(
    ("size", "total"),
    [("small_plus", 28_692_864), ("small", 21_596_544), ("huge_plus", 840_592_640)],
)
def test_parameters_of_published_sizes(size, total):
    with torch.device("meta"):
        net = DINOv3(RETINA, DINOv3Config(size=size, patch_size=8.0))
    assert count(net) == total
    if size == "small_plus":
        assert count(net.layers[0]) == 297_600
        assert count(*net.layers[1:]) == 28_394_496
        assert count(net.norm) == 768
    if size == "huge_plus":
        assert (net.out_channels, len(net.layers)) == (1280, 33)


def test_parameters_with_adapters():
    with torch.device("meta"):
        net = fg.create_model("fovi_dinov3_small_plus")
    backbone = net.backbone
    assert (count(net), count(backbone)) == (32_839_016, 31_420_800)
    assert count(backbone.layers[0]) == 371_328
    assert count(*backbone.layers[1:]) == 31_048_704
    assert sum(p.numel() for p in adapter_state(backbone).values()) == 2_727_936
    assert count(backbone, trainable=True) == 2_728_704
    assert count(net, trainable=True) == 4_146_920
    assert (count(net.projector), count(net.head)) == (393_216, 1_025_000)
    norms = [f"layers.*.layer.{name}" for name in ("norm[12]", "layer_scale[12]")]
    train_only(backbone, ["norm", *norms])
    assert count(backbone, trainable=True) == 2_756_352


@pytest.mark.parametrize(("how", "total"), [("tokens", 59_577_704), ("patches", 57_611_624)])
def test_parameters_by_output(how, total):
    with torch.device("meta"):
        net = fg.create_model("fovi_dinov3_small_plus", backbone={"aggregation": how})
    assert count(net) == total


def test_parameters_that_learn_by_name():
    with torch.device("meta"):
        options = {"trainable": ["norm", "layers.0.conv", "layers.1"], "patch_size": 8.0}
        net = DINOv3(RETINA, DINOv3Config(**options))
    assert count(net, trainable=True) == 2_662_272
    assert not net.layers[0].class_token.requires_grad


# ---- what it computes


def published(tmp_path, seed=0, **options):
    """A folder with random weights of transformers' own network, and the network."""
    values = DINOv3Config(**{**TINY, **options}).values()
    torch.manual_seed(seed)
    theirs = hf.DINOv3ViTModel(hf.DINOv3ViTConfig(patch_size=4, **values)).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    theirs.save_pretrained(tmp_path)
    return theirs


class Given(nn.Module):
    """A module that returns what it was given, in place of one of transformers'."""

    def __init__(self, result):
        super().__init__()
        self.weight, self.result = torch.zeros(1), result

    def forward(self, _):
        return self.result


def test_it_gives_what_transformers_gives_from_the_same_patches(tmp_path):
    theirs = published(tmp_path)
    net = tiny(aggregation="tokens")
    net.load_published(tmp_path)
    x = samples()
    embedding, positions = net.layers[0], net.layers[1].positions
    kernel = theirs.embeddings.patch_embeddings
    # A dense kernel's column is the cell's u, and its row is -v, from the last.
    cells = embedding.conv.weight.view(4, 4, 3, 24)
    assert cells[1, 0].T.equal(kernel.weight[:, :, 3, 1])
    assert embedding.conv.bias.equal(kernel.bias)
    patches = embedding.conv(x, net.pyramid.graphs[0])
    theirs.embeddings.patch_embeddings = Given(patches.transpose(1, 2))
    theirs.rope_embeddings = Given((positions.cos, positions.sin))
    expected = theirs(torch.zeros(2, 3, 8, 8)).last_hidden_state
    torch.testing.assert_close(net(x), expected)
    for how, rows in (("class", expected[:, :1]), ("patches", expected[:, 3:])):
        other = tiny(aggregation=how)
        other.load_state_dict(net.state_dict())
        torch.testing.assert_close(other(x), rows)


@pytest.mark.parametrize("layout", ["layer.", "model.layer.", "encoder.layer."])
def test_blocks_are_read_from_any_layout(tmp_path, layout):
    published(tmp_path)
    expected, net = tiny(), tiny()
    expected.load_published(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    renamed = {
        k.replace("model.layer.", "layer.").replace("layer.", layout, 1): v
        for k, v in tensors.items()
        if "layer." in k
    }
    rest = {k: v for k, v in tensors.items() if "layer." not in k}
    file.unlink()  # as large networks are: in parts
    save_file(rest, tmp_path / "model-00001-of-00002.safetensors")
    save_file(renamed, tmp_path / "model-00002-of-00002.safetensors")
    net.load_published(tmp_path)
    for name, value in net.state_dict().items():
        assert value.equal(expected.state_dict()[name]), name
    random = tiny().layers[0].conv.weight.clone()
    other = tiny()
    other.load_published(tmp_path, patches=False)
    assert other.layers[0].conv.weight.equal(random)


def test_what_is_not_published_weights_of_this_size_is_named(tmp_path):
    published(tmp_path)
    with pytest.raises(ValueError, match=r"same size: .* must have shape \[1, 32\], got \[1, 1"):
        tiny(options=[*TINY["options"][1:], "hidden_size=32"]).load_published(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    mixed = {
        k.replace("layer.1.", "encoder.layer.1.").replace("model.e", "e"): v
        for k, v in tensors.items()
    }
    save_file(mixed, file)
    with pytest.raises(ValueError, match=r"all blocks under one of .* got .*encoder"):
        tiny().load_published(tmp_path)
    save_file({k: v for k, v in tensors.items() if "layer.2" not in k}, file)
    with pytest.raises(ValueError, match=r"must have the tensors \['layer.2"):
        tiny().load_published(tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"must have \*.safetensors"):
        tiny().load_published(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov2"}))
    with pytest.raises(ValueError, match="must be of a dinov3_vit, got one of a 'dinov2'"):
        tiny().load_published(tmp_path)
    with pytest.raises(ValueError, match="configuration of a dinov3_vit, got one of 'dinov2'"):
        DINOv3Config.of_transformers(tmp_path)


def test_configurations_of_transformers(tmp_path):
    theirs = published(tmp_path)
    for source in (tmp_path, theirs.config):
        config = DINOv3Config.of_transformers(source, patch_size=6.0, kernel_size=4)
        net = DINOv3(SMALL, config)
        net.load_published(tmp_path)
        assert count(net) == count(theirs)
    assert DINOv3Config(size="small").values()["hidden_size"] == 384


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return fg.FoviNet(
        {
            "retina": {"side": 24},
            "backbone": {"name": "dinov3", **TINY, **LORA, "trainable": ["norm"]},
            "projector": {"channels": []},
            "head": {"num_classes": 3},
            "fixation": {"count": 2},
        }
    ).eval()


def test_it_can_do_what_others_can(net, tmp_path):
    images = torch.rand(2, 3, 40, 50)
    check_copies(net, images, tmp_path)
    with pytest.raises(ValueError, match="in_channels"):  # an adapter takes them as well
        fg.create_model(tmp_path, pretrained=True, in_channels=1)
    plain = fg.FoviNet({"backbone": {"name": "dinov3", **TINY}, "retina": {"side": 24}})
    plain.save_pretrained(tmp_path / "plain")
    check_grey(tmp_path / "plain", images, 1000)
    check_cost(cost.describe(net), ["parameters"])
    seen = net.features(images, layers=["layers.2"])["layers.2"]
    assert seen.features.shape[-2:] == (len(net.pyramid.levels[1]), 24)
    weights = fg.viz.effective_fields(net.backbone, 1, [3])
    assert (weights > 0).all()


def test_only_adapters_and_what_is_named_learn(net):
    other = copy.deepcopy(net).train()
    other(torch.rand(4, 3, 40, 50)).logits.square().sum().backward()
    for name, parameter in other.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    learns = {n for n, p in other.backbone.named_parameters() if p.requires_grad}
    assert learns == {*adapter_state(other.backbone), "norm.weight", "norm.bias"}


def test_checkpointing_changes_nothing():
    gradients = []
    for checkpointing in (False, True):
        backbone = tiny().train()
        backbone.activation_checkpointing = checkpointing
        backbone(samples()).square().sum().backward()
        gradients.append([p.grad for p in backbone.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
    out = tiny()(samples((2, 2)))
    assert out.shape == (2, 2, 1, 24)
    torch.testing.assert_close(out[1], tiny()(samples((2, 2))[1]))


def test_it_compiles_and_exports():
    net, x = tiny(options=[*TINY["options"], "num_hidden_layers=1"]), samples()
    check_compiles(net, x, "eager")


# ---- adapters


def adapted():
    net = tiny(**LORA).double()
    for name, value in net.named_parameters():
        if ".lora_" in name:
            nn.init.normal_(value, std=0.3)
    return net


def test_new_adapters_change_nothing():
    plain, net = tiny(), tiny(**LORA)
    torch.testing.assert_close(net(samples()), plain(samples()), rtol=0, atol=0)
    down = net.layers[0].conv.lora_A["default"]
    assert down.weight.abs().max() <= down.fan_in**-0.5


def test_the_adapted_weight_is_the_sum():
    net, plain = adapted(), tiny().double()
    names = {name for name, m in net.named_modules() if hasattr(m, "base_layer")}
    maps = ("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj")
    maps += ("mlp.up_proj", "mlp.down_proj")
    assert names == {"layers.0.conv", *(f"layers.2.layer.{name}" for name in maps)}
    with torch.no_grad():
        for name in names:
            layer, weight = net.get_submodule(name), plain.get_submodule(name).weight
            down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            if name == "layers.0.conv":
                weight += 2.0 * torch.einsum("vcr,dr->vcd", down, up)
            else:
                weight += 2.0 * up @ down
    x = samples().double()
    torch.testing.assert_close(net(x), plain(x), rtol=1e-10, atol=1e-10)


def test_merged_unmerged_and_dropped_adapters():
    net, x = adapted(), samples().double()
    expected, weight = net(x), net.layers[0].conv.base_layer.weight.clone()
    merge_lora(net)
    assert not net.layers[0].conv.base_layer.weight.equal(weight)
    torch.testing.assert_close(net(x), expected)
    merge_lora(net)  # once is enough
    torch.testing.assert_close(net(x), expected)
    unmerge_lora(net)
    torch.testing.assert_close(net.layers[0].conv.base_layer.weight, weight)
    torch.testing.assert_close(net(x), expected)
    plain = drop_lora(net)
    assert not adapter_state(plain)
    assert plain.state_dict().keys() == tiny().state_dict().keys()
    torch.testing.assert_close(plain(x), expected)


def test_adapters_are_saved_alone(tmp_path):
    net, x = adapted(), samples().double()
    save_adapters(net, tmp_path)
    assert {f.name for f in tmp_path.iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    for other in (tiny(**LORA).double(), tiny().double()):
        load_adapters(other, tmp_path)
        assert other(x).equal(net(x))
    with pytest.raises(ValueError, match="must have the adapters of the network; these differ"):
        load_adapters(tiny(**{**LORA, "lora_blocks": [0]}), tmp_path)
    with pytest.raises(
        ValueError, match=r"must have shape \[16, 3, 5\], got \[16, 3, 3\]|must have shape"
    ):
        load_adapters(tiny(**{**LORA, "lora_rank": 5}), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"folder must have adapter_model.safetensors"):
        load_adapters(net, tmp_path / "no")
    with pytest.raises(ValueError, match="net must have adapters"):
        save_adapters(tiny(), tmp_path)


def test_any_network_can_have_adapters():
    vit = fg.models.KNNViT(
        SMALL, fg.models.vit.ViTConfig(channels=12, heads=2, blocks=2, patch_size=6)
    )
    chosen = add_lora(vit, ["layers.0.conv", "layers.*.attention.qkv"], rank=2)
    assert chosen == ["layers.0.conv", "layers.1.attention.qkv", "layers.2.attention.qkv"]
    vit(samples()).sum().backward()
    learns = {name for name, p in vit.named_parameters() if p.grad is not None}
    assert learns == set(adapter_state(vit))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"lora_targets": ["qkv"], **LORA},
            r"backbone.lora_targets must be one of 'down_proj', .*, 'v_proj', got 'qkv'",
        ),
        ({"trainable": ["nrm"]}, r"trainable must match one of .*; got 'nrm'"),
        ({"options": ["hidden_width=3"]}, r"backbone.options must be one of .* got 'hidden_width'"),
        ({"patch_size": 30.0}, "patch_size must be at most 24"),
    ],
)
def test_what_matches_nothing_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)
