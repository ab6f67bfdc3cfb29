"""ResNets with low-rank adapters: upstream's figures, and what every network has to do."""

import sys

import pytest
import torch
from drawn_weights import dense_resnet18, drawn
from families import check_copies, check_cost, count

import fovigraph as fg
from fovigraph.models import KNNResNet, load_dense_resnet
from fovigraph.models.cost import describe
from fovigraph.models.lora import adapter_state, load_adapters, save_adapters
from fovigraph.models.resnet import ResNetConfig

TINY = {"channels": [4, 8, 16, 32], "stem_channels": 4, "kernel_multiplier": 1.0, "lora_rank": 2}
RETINA = fg.SensorArray.matched(32)


@pytest.fixture(autouse=True)
def _peft():
    pytest.importorskip("peft", reason="needs the extra vit")


def tiny(**options):
    torch.manual_seed(0)
    return KNNResNet(RETINA, ResNetConfig(**{**TINY, **options}))


def adapted(net):
    return {name.rpartition(".lora_A")[0] for name in adapter_state(net) if ".lora_A" in name}


def test_upstreams_figures():
    """A ResNet-18 on side 64, adapters of rank 8 everywhere, and the last norm learns."""
    options = ["kernel_multiplier=1", "lora_rank=8", "trainable=[layers.8.norm2]"]
    config = fg.load_config("fovi_resnet18", [f"backbone.{option}" for option in options])
    net = fg.FoviNet(config)
    assert count(net.backbone) == 7_470_296
    assert count(net.backbone, trainable=True) == 226_968
    assert count(net) == 10_071_232


def test_all_convolutions_have_adapters_unless_some_are_named():
    net = tiny()
    assert len(adapted(net)) == 1 + 2 * 8 + 3
    assert all(p.requires_grad == (".lora_" in name) for name, p in net.named_parameters())
    some = tiny(lora_blocks=[2, 3], lora_targets=["conv2", "shortcut"])
    assert adapted(some) == {"layers.3.conv2", "layers.3.shortcut", "layers.4.conv2"}
    deep = tiny(block="bottleneck", lora_blocks=[0], lora_targets=["conv1", "conv3"])
    assert adapted(deep) == {"layers.1.conv1", "layers.1.conv3"}


def test_new_adapters_change_nothing_and_learn():
    net, plain = tiny().eval(), tiny(lora_rank=None).eval()
    state = {name.replace(".base_layer.", "."): x for name, x in net.state_dict().items()}
    plain.load_state_dict({name: x for name, x in state.items() if ".lora_" not in name})
    x = torch.rand(2, len(RETINA), 3)
    assert torch.equal(net(x), plain(x))
    net(x).square().sum().backward()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if ".lora_B" in name:
                parameter -= 0.1 * parameter.grad
    assert not torch.allclose(net(x), plain(x))


def test_a_dense_networks_weights_come_under_the_adapters():
    weights, plain, net = drawn(dense_resnet18(4)), tiny(lora_rank=None), tiny()
    for each in (plain, net):
        load_dense_resnet(each, weights)
    assert torch.equal(net.layers[3].shortcut.base_layer.weight, plain.layers[3].shortcut.weight)
    x = torch.rand(2, len(RETINA), 3)
    assert torch.equal(net.eval()(x), plain.eval()(x))


def test_networks_are_saved_optimised_and_counted(tmp_path):
    sections = {"backbone": {"name": "resnet", **TINY}, "projector": {"channels": []}}
    net = fg.FoviNet({"retina": {"side": 32}, **sections, "head": {"num_classes": 5}}).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if ".lora_B" in name:
                parameter.normal_(std=0.1)
    check_copies(net, torch.rand(2, 3, 40, 40), tmp_path / "net")
    check_cost(describe(net), ("parameters",))
    save_adapters(net.backbone, tmp_path / "adapters")
    other = tiny()
    load_adapters(other, tmp_path / "adapters")
    for name, value in adapter_state(net.backbone).items():
        assert torch.equal(other.state_dict()[name], value)
    with pytest.raises(ValueError, match="in_channels"):
        fg.create_model(tmp_path / "net", pretrained=True, in_channels=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"lora_targets": ["conv3"]},
            r"targets must match one of layers\.0\.conv, ",
        ),
        ({"trainable": ["layer4"]}, r"trainable must match one of .*; got 'layer4'"),
        ({"conv": "depthwise_separable"}, r"must match one of .*conv1\.pointwise"),
    ],
    ids=str,
)
def test_names_that_match_nothing_are_listed(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_rank": 0}, "backbone.lora_rank must be at least 1, got 0"),
        ({"lora_rank": 2, "lora_blocks": [8]}, "backbone.lora_blocks must be at most 7, got 8"),
        ({"lora_rank": 2, "lora_blocks": [-2]}, "backbone.lora_blocks must be at least -1, got -2"),
        ({"lora_alpha": -1.0}, "backbone.lora_alpha must be finite and above 0"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(options, message):
    with pytest.raises(fg.ConfigError, match=message):
        fg.config.as_config({"backbone": {"name": "resnet", **options}})


def test_a_missing_peft_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"LoRA needs peft: pip install 'fovigraph\[vit\]'"):
        tiny()
