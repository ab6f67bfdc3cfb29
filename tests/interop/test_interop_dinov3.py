"""DINOv3s of upstream's: configurations, tensors with LoRA, and answers, those of every block."""

import sys
from types import SimpleNamespace

import pytest
import recordings
import torch
from drawn_weights import drawn
from omegaconf import OmegaConf
from recordings import changed, check_answers, check_there_and_back, close, some

import fovigraph as fg
from fovigraph.interop import convert, read_config, use_neighbours, write_config
from fovigraph.interop.load import links
from fovigraph.interop.upstream_config import UpstreamConfig
from fovigraph.interop.weights import to_ours, to_theirs
from fovigraph.models.lora import adapter_state, drop_lora

pytest.importorskip("transformers.models.dinov3_vit", reason="needs the extra vit")
pytest.importorskip("peft", reason="needs the extra vit")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """What upstream computed: `tests/make_upstream_dinov3.py` describes the arrays."""
    networks, arrays, texts = recordings.read("upstream_dinov3.npz")
    folder = tmp_path_factory.mktemp("dinov3")
    (folder / "config.json").write_text(texts["dinov3"])
    for network in networks.values():
        network["config"]["pretrained_model"]["path"] = str(folder)
    return networks, arrays


def upstream_weights(network):
    return drawn({name: torch.empty(shape) for name, shape in network["tensors"].items()})


@pytest.fixture(scope="module", params=["lora", "tokens", "patch_tokens"])
def loaded(request, file):
    """Upstream's network, and ours with its weights and neighbours."""
    networks, arrays = file
    network = networks[request.param]
    net = fg.FoviNet(read_config(network["config"])).eval()
    pairs = list(links(net, UpstreamConfig(network["config"])))
    theirs = upstream_weights(network)
    net.load_state_dict(to_ours(theirs, pairs, net.state_dict(), source="drawn"))
    use_neighbours(net, recordings.lists_of(request.param, networks, arrays))
    outputs = recordings.outputs_of(request.param, networks, arrays)
    return SimpleNamespace(
        net=net, pairs=pairs, theirs=theirs, outputs=outputs, learns=network["learns"]
    )


def test_every_block_gives_upstreams_output(loaded, file):
    _, arrays = file
    places = {
        "backbone.embeddings.patch_embeddings": "backbone.layers.0.conv",
        "backbone.model.layer.0": "backbone.layers.1",
        "backbone.model.layer.1": "backbone.layers.2",
        "backbone.norm": "backbone.norm",
    }
    out, found = recordings.run(loaded.net, places.values(), arrays)
    for theirs, ours in places.items():
        values = found[ours].unflatten(0, (1, 2))
        # Upstream's patches come channel by channel, which the recorder turns like the others.
        values = values if "patch" in theirs else values.transpose(-1, -2)
        assert close(some(values), loaded.outputs[theirs]), theirs
    check_answers(out, found, loaded.outputs, arrays["samples"])


def test_tensors_are_bitwise_equal_there_and_back(loaded):
    check_there_and_back(to_theirs(loaded.net.state_dict(), loaded.pairs), loaded.theirs)


def test_the_same_parameters_learn(loaded):
    theirs = {pair.ours: pair.theirs for pair in loaded.pairs}
    ours = {theirs[name] for name, p in loaded.net.named_parameters() if p.requires_grad}
    assert ours == set(loaded.learns)


@pytest.mark.parametrize("loaded", ["lora"], indirect=True)
def test_adapters_merge(loaded, file):
    _, arrays = file
    with torch.no_grad():
        out = loaded.net(arrays["images"], arrays["fixations"])
        assert adapter_state(loaded.net)
        merged = drop_lora(loaded.net)
        assert not adapter_state(merged)
        again = merged(arrays["images"], arrays["fixations"])
    torch.testing.assert_close(again.logits, out.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["model.layer.", "layer.", "encoder.layer."])
def test_a_folder_goes_there_and_back(file, layout, tmp_path):
    network = file[0]["lora"]
    weights = upstream_weights(network)
    older = {name.replace(".model.layer.", f".{layout}"): v for name, v in weights.items()}
    source = tmp_path / "theirs"
    source.mkdir()
    OmegaConf.save(OmegaConf.create(network["config"]), source / "resolved_config.yaml")
    torch.save({"epoch": 3, "state_dict": older}, source / "final_weights.pth")
    ours = convert(source, tmp_path / "ours")
    assert isinstance(fg.FoviNet.from_pretrained(ours).backbone, fg.models.DINOv3)
    back = convert(ours, tmp_path / "back", to_upstream=True)
    again = torch.load(back / "state_dict.pth")["state_dict"]
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_a_mixture_of_layouts_is_refused(file, tmp_path):
    network = file[0]["tokens"]
    weights = upstream_weights(network)
    mixed = {name.replace(".model.layer.1.", ".layer.1."): v for name, v in weights.items()}
    OmegaConf.save(OmegaConf.create(network["config"]), tmp_path / "resolved_config.yaml")
    torch.save({"epoch": 3, "state_dict": mixed}, tmp_path / "final_weights.pth")
    with pytest.raises(ValueError, match=r"under one of these names: layer\., model\.layer\."):
        fg.from_upstream(tmp_path)


# ---- configurations


@pytest.fixture
def theirs(file):
    path = "facebook/dinov3-vits16plus-pretrain-lvd1689m"
    return changed(file[0]["lora"]["config"], pretrained_model__path=path)


def test_published_values_are_our_configuration(theirs):
    lora = {**theirs["pretrained_model"]["lora"], "r": 64, "alpha": 64}
    lora["layers"] = [-1, 0, 1, 2, 3, 4, 5]
    content = changed(
        theirs,
        pretrained_model__lora=lora,
        saccades__resize_size=64,
        saccades__sample_cortex=True,
        model__mlp="1024",
        data__num_classes=1000,
    )
    ours, shipped = read_config(content), fg.load_config("fovi_dinov3_small_plus")
    assert ours.backbone == shipped.backbone
    assert ours.projector.last_relu
    assert list(ours.projector.channels) == list(shipped.projector.channels)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pretrained_model__path": "facebook/dinov3-vitl16-pretrain-x"}, {"size": "large"}),
        ({"vit__partitioning_patches": 1}, {"patches": "partition"}),
        ({"model__output_mode": "patch_tokens"}, {"aggregation": "patches"}),
        (
            {"pretrained_model__unfreeze_layers": [-1, 0]},
            {"trainable": ["norm", "layers.0.conv", "layers.1"]},
        ),
        (
            {"pretrained_model__freeze_backbone": 0, "pretrained_model__unfreeze_norm": 0},
            {"trainable": ["*"]},
        ),
        ({"pretrained_model__lora": None}, {"lora_rank": None, "trainable": ["norm"]}),
        ({"saccades__sample_cortex": "geodesic"}, {"metric": "geodesic_from_node"}),
    ],
    ids=str,
)
def test_keys_are_mapped_and_written_back(theirs, changes, expected, caplog):
    ours = read_config(changed(theirs, **changes))
    assert caplog.text == ""
    for key, value in expected.items():
        assert getattr(ours.backbone, key) == value
    assert read_config(write_config(ours)) == ours


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model_type": "vit"}', "configuration of a dinov3_vit, got one of 'vit'"),
        ("{}", "configuration of a dinov3_vit, got one of None"),
        ("[1]", r"config.json must hold keys and values, got \[1\]"),
        ("{", "config.json cannot be read: it must be JSON"),
        ('{"model_type": "dinov3_vit", "hidden_size": "big"}', "hidden_size in backbone.options"),
    ],
)
def test_a_folder_of_another_model_is_refused(theirs, tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(fg.ConfigError, match=rf"pretrained_model.path must be .*{message}"):
        read_config(changed(theirs, pretrained_model__path=str(tmp_path)))


def test_an_unknown_activation_is_named(theirs, tmp_path):
    values = '{"model_type": "dinov3_vit", "hidden_act": "silly"}'
    (tmp_path / "config.json").write_text(values)
    ours = read_config(changed(theirs, pretrained_model__path=str(tmp_path)))
    with pytest.raises(
        ValueError, match=r"hidden_act in backbone.options must be one of .*'silly'"
    ):
        fg.FoviNet(ours)


def test_missing_packages_name_the_extra(file, tmp_path, monkeypatch):
    network = file[0]["lora"]
    OmegaConf.save(OmegaConf.create(network["config"]), tmp_path / "resolved_config.yaml")
    torch.save({"state_dict": upstream_weights(network)}, tmp_path / "final_weights.pth")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"LoRA needs peft: pip install 'fovigraph\[vit\]'"):
        fg.from_upstream(tmp_path)
    assert fg.from_upstream(tmp_path, merge_lora=True).config.backbone.lora_rank is None
    monkeypatch.setitem(sys.modules, "transformers.models.dinov3_vit", None)
    with pytest.raises(ImportError, match=r"needs transformers .*pip install 'fovigraph\[vit\]'"):
        convert(tmp_path, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"pretrained_model__path": "facebook/dinov2-base"},
            "must be a folder, or a DINOv3 of one",
        ),
        ({"vit__position_coordinate_space": "cortical"}, "must be 'cartesian' or null"),
        ({"model__output_mode": "mean"}, "model.output_mode must be one of"),
        (
            {"pretrained_model__lora": {"layers": [0], "sublayers": ["mlp.x"], "r": 1, "alpha": 1}},
            "pretrained_model.lora.sublayers must be some of",
        ),
    ],
    ids=str,
)
def test_what_is_not_supported_is_named(theirs, changes, message):
    with pytest.raises(fg.ConfigError, match=message):
        read_config(changed(theirs, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inset": False}, "backbone.inset must be True"),
        ({"options": ["num_hidden_layers=7"]}, "backbone.options must be empty"),
        ({"kernel_size": None}, "backbone.kernel_size must be a number"),
        ({"trainable": ["layers.0"]}, "backbone.trainable must be 'norm'"),
        ({"trainable": ["layers.0.class_token"]}, "backbone.trainable must be 'norm'"),
        ({"lora_targets": ["qkv"]}, "backbone.lora_targets must be some of"),
        ({"aggregation": "mean"}, "backbone.aggregation must be one of"),
    ],
    ids=str,
)
def test_what_upstream_does_not_have_is_named(changes, message):
    overrides = {f"backbone.{key}": value for key, value in changes.items()}
    config = fg.config.update_config(fg.load_config("fovi_dinov3_small_plus"), overrides)
    with pytest.raises(fg.ConfigError, match=message):
        write_config(config)
