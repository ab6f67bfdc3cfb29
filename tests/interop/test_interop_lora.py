"""ResNets of upstream's with LoRA, as adapters and merged."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import recordings
import torch
from drawn_weights import drawn
from omegaconf import OmegaConf
from recordings import changed, check_there_and_back, close, some

import fovigraph as fg
from fovigraph.interop import convert, read_config, use_neighbours, write_config
from fovigraph.interop.load import links
from fovigraph.interop.upstream_config import UpstreamConfig
from fovigraph.interop.weights import to_ours, to_theirs
from fovigraph.models.lora import adapter_state, drop_lora

NARROW = {"channels": [4, 8, 16, 32], "stem_channels": 4}


@pytest.fixture(scope="module")
def file():
    """What upstream computed: `tests/make_upstream_variants.py` describes the arrays."""
    networks, arrays, _ = recordings.read("upstream_variants.npz")
    return networks, arrays


@pytest.fixture(scope="module")
def config(file):
    return file[0]["lora"]["config"]


@pytest.fixture(scope="module")
def loaded(file, config):
    """Upstream's network, which is 16 times narrower, and ours with its weights and neighbours."""
    pytest.importorskip("peft", reason="needs the extra vit")
    networks, arrays = file
    ours = read_config(config)
    net = fg.FoviNet(replace(ours, backbone=replace(ours.backbone, **NARROW))).eval()
    pairs = list(links(net, UpstreamConfig(config)))
    theirs = drawn(recordings.empty(networks["lora"]["tensors"]))
    net.load_state_dict(to_ours(theirs, pairs, net.state_dict(), source="drawn"))
    use_neighbours(net, recordings.lists_of("lora", networks, arrays))
    outputs = recordings.outputs_of("lora", networks, arrays)
    learns = networks["lora"]["learns"]
    return SimpleNamespace(net=net, pairs=pairs, theirs=theirs, outputs=outputs, learns=learns)


def test_every_block_gives_upstreams_output(loaded, file):
    _, arrays = file
    places = {
        f"backbone.layer{stage}.{index}": f"backbone.layers.{2 * stage - 1 + index}"
        for stage in range(1, 5)
        for index in range(2)
    }
    places |= {"backbone.conv1": "backbone.layers.0.conv", "backbone.bn1": "backbone.layers.0.norm"}
    places["backbone.layer2.0.downsample.0"] = "backbone.layers.3.shortcut"
    out, found = recordings.run(loaded.net, places.values(), arrays)
    for theirs, ours in places.items():
        assert close(some(found[ours].unflatten(0, (1, 2))), loaded.outputs[theirs]), theirs
    assert close(out.fixation_logits, loaded.outputs["fixation_logits"])
    assert close(out.logits.exp(), loaded.outputs["probabilities"])


def test_tensors_are_bitwise_equal_there_and_back(loaded):
    check_there_and_back(to_theirs(loaded.net.state_dict(), loaded.pairs), loaded.theirs)


def test_the_same_parameters_learn(loaded):
    theirs = {pair.ours: pair.theirs for pair in loaded.pairs}
    ours = {theirs[name] for name, p in loaded.net.named_parameters() if p.requires_grad}
    assert ours == set(loaded.learns)


# ---- folders of upstream's trainer


@pytest.fixture(scope="module")
def folder(config, tmp_path_factory):
    """A folder as upstream's trainer writes it, of its own widths, and its tensors."""
    pytest.importorskip("peft", reason="needs the extra vit")
    path, net = tmp_path_factory.mktemp("lora"), fg.FoviNet(read_config(config))
    weights = drawn(to_theirs(net.state_dict(), links(net, UpstreamConfig(config))))
    write(path, config, weights)
    return SimpleNamespace(path=path, weights=weights, sums=summed(weights))


def write(path, config, weights):
    OmegaConf.save(OmegaConf.create(config), path / "resolved_config.yaml")
    torch.save({"epoch": 3, "state_dict": weights}, path / "final_weights.pth")


def summed(weights):
    """The tensors when upstream's adapters, of a factor of 2, are removed."""
    sums = {name: x for name, x in weights.items() if "parametrizations" not in name}
    for name, x in weights.items():
        layer, original, _ = name.partition(".parametrizations.weight.original")
        if original:
            at = f"{layer}.parametrizations.weight.0"
            sums[f"{layer}.weight"] = x + 2.0 * (weights[f"{at}.B"] @ weights[f"{at}.A"])
    return sums


def answers(net):
    with torch.no_grad():
        images = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
        return net(images, [[0.4, 0.6]]).fixation_logits


def test_a_folder_is_loaded_with_adapters_or_merged(folder):
    net, merged = (fg.from_upstream(folder.path, merge_lora=each) for each in (False, True))
    assert adapter_state(net)
    assert not adapter_state(merged)
    assert merged.config.backbone.lora_rank is None
    assert merged.config.backbone.trainable == net.config.backbone.trainable
    torch.testing.assert_close(answers(merged), answers(net), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(answers(drop_lora(net)), answers(merged), rtol=1e-4, atol=1e-4)
    plain = UpstreamConfig(write_config(merged.config))
    back = to_theirs(merged.state_dict(), links(merged, plain))
    check_there_and_back(back, folder.sums)


def test_merged_it_needs_no_peft(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"LoRA needs peft: pip install 'fovigraph\[vit\]'"):
        fg.from_upstream(folder.path)
    assert fg.from_upstream(folder.path, merge_lora=True).backbone.layers[0].conv.weight.is_leaf


def test_a_folder_goes_there_and_back(folder, config, tmp_path):
    ours = convert(folder.path, tmp_path / "ours")
    assert fg.FoviNet.from_pretrained(ours).config == read_config(config)
    back = convert(ours, tmp_path / "back", to_upstream=True)
    check_there_and_back(torch.load(back / "state_dict.pth")["state_dict"], folder.weights)
    assert OmegaConf.to_container(OmegaConf.load(back / "resolved_config.yaml")) == config


def test_weights_that_were_saved_merged(folder, config, tmp_path):
    """Upstream cannot load them with their configuration: they go back with another."""
    source = tmp_path / "theirs"
    source.mkdir()
    write(source, config, folder.sums)
    assert not adapter_state(fg.from_upstream(source))
    back = convert(convert(source, tmp_path / "ours"), tmp_path / "back", to_upstream=True)
    check_there_and_back(torch.load(back / "state_dict.pth")["state_dict"], folder.sums)
    assert OmegaConf.load(back / "resolved_config.yaml").pretrained_model.lora is None


def test_adapters_that_do_not_fit(folder, config, tmp_path):
    at = "network.backbone.conv1.parametrizations.weight.0"
    for weights in (
        {name: x for name, x in folder.weights.items() if name != f"{at}.A"},
        folder.weights | {f"{at}.B": torch.zeros(64, 3)},
    ):
        write(tmp_path, config, weights)
        with pytest.raises(ValueError, match=r"conv1.parametrizations.weight.0.A|0.B"):
            fg.from_upstream(tmp_path)
        with pytest.raises(ValueError, match=rf"{at}.B and 0.A must be there, of shapes \[64, 2\]"):
            fg.from_upstream(tmp_path, merge_lora=True)


# ---- configurations


def lora(**changes):
    keys = {"r": 2, "alpha": 4.0, "layers": [0], "sublayers": ["conv1"]}
    return {"pretrained_model__lora": {**keys, **changes}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"lora_rank": 2, "lora_alpha": 4.0, "lora_blocks": [-1, 0, 2, 7]}),
        ({}, {"trainable": ["layers.8.norm2", "layers.4"]}),
        (lora(sublayers=["downsample.0"]), {"lora_targets": ["shortcut"]}),
        ({"pretrained_model__lora": None}, {"lora_rank": None}),
        (lora(layers=None), {"lora_rank": None}),
        (
            {"pretrained_model__unfreeze_layers": -1, "pretrained_model__unfreeze_norm": 0},
            {"trainable": ["layers.0"]},
        ),
        (
            {
                "pretrained_model__unfreeze_all_norms": 1,
                "pretrained_model__unfreeze_layers": None,
            },
            {"trainable": ["layers.8.norm2", "layers.*norm*"]},
        ),
        (
            {
                "pretrained_model__freeze_backbone": False,
                "pretrained_model__unfreeze_layers": None,
                "pretrained_model__unfreeze_norm": 0,
            },
            {"trainable": ["*"]},
        ),
        ({"model__arch": "fovi_resnet18"}, {"trainable": None, "lora_rank": None}),
    ],
    ids=str,
)
def test_keys_are_mapped_and_written_back(config, changes, expected, caplog):
    ours = read_config(changed(config, **changes))
    assert caplog.text == ""
    for key, value in expected.items():
        assert getattr(ours.backbone, key) == value
    assert read_config(write_config(ours)) == ours


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lora(sublayers=["conv3"]), "lora.sublayers must be some of conv1, conv2, downsample.0, "),
        (lora(sublayers="conv1"), "lora.sublayers must be a list of names, got 'conv1'"),
        (lora(layers=[8]), "backbone.lora_blocks must be at most 7, got 8"),
        (lora(layers=[-2]), r"lora.layers must be whole numbers from -1, got \[-2\]"),
        (lora(r=0), "backbone.lora_rank must be at least 1, got 0"),
        (lora(r="8"), "pretrained_model.lora.r must be a number, got '8'"),
        (
            {"pretrained_model__unfreeze_layers": ["conv1"]},
            "unfreeze_layers must be whole numbers from -1",
        ),
        (
            {"model__norm": "channel", "pretrained_model__unfreeze_all_norms": 1},
            "unfreeze_all_norms must be 0 with model.norm 'channel'",
        ),
    ],
    ids=str,
)
def test_what_is_not_supported_is_named(config, changes, message):
    content = changed(config, model__norm_mlp=0, **changes)
    with pytest.raises(fg.ConfigError, match=message):
        read_config(content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": [1, 1, 1, 1]}, r"backbone.blocks .with adapters or frozen parts. must be \[2"),
        ({"lora_targets": ["conv3"]}, "backbone.lora_targets must be some of conv1, conv2, short"),
        ({"trainable": ["layers.1.conv1"]}, "backbone.trainable must be 'layers.8.norm2', 'lay"),
    ],
    ids=str,
)
def test_what_upstream_does_not_have_is_named(changes, message):
    overrides = {f"backbone.{key}": value for key, value in {"lora_rank": 2, **changes}.items()}
    overrides["fixation.in_eval"] = "random"
    config = fg.config.update_config(fg.load_config("fovi_resnet18"), overrides)
    with pytest.raises(fg.ConfigError, match=message):
        write_config(config)


def test_all_blocks_are_written_by_number():
    overrides = ["backbone.lora_rank=4", "fixation.in_eval=random"]
    theirs = write_config(fg.load_config("fovi_resnet18", overrides))
    assert theirs["model"]["arch"] == "fovi_resnet18_lora"
    assert theirs["pretrained_model"]["lora"] == {
        "r": 4,
        "alpha": 4.0,
        "layers": [-1, 0, 1, 2, 3, 4, 5, 6, 7],
        "sublayers": ["conv1", "conv2", "downsample.0"],
    }
    assert theirs["pretrained_model"]["freeze_backbone"] == 1
