"""Folders converted to ours and back: nothing is lost, and nothing half-written is left."""

import errno
import resource
import shutil

import pytest
import torch
from omegaconf import OmegaConf

import fovigraph as fg
from fovigraph.config import update_config
from fovigraph.interop import convert, read_config


@pytest.fixture(scope="module")
def ours(tiny, tmp_path_factory):
    return convert(tiny.folder, tmp_path_factory.mktemp("converted") / "deep" / "net")


def test_ours_is_loaded_by_from_pretrained(ours, tiny):
    assert {path.name for path in ours.iterdir()} == {
        "config.yaml",
        "model.safetensors",
        "README.md",
        "upstream.yaml",
    }
    net, direct = fg.FoviNet.from_pretrained(ours), fg.from_upstream(tiny.folder)
    assert net.config == direct.config
    images = torch.rand(1, 3, 40, 40)
    assert torch.equal(net(images, [[0.4, 0.6]]).logits, direct(images, [[0.4, 0.6]]).logits)


def test_the_model_card_says_what_it_is(ours):
    card = (ours / "README.md").read_text()
    for text in ("964 samples over 16°", "legacy geometry", "from_pretrained", "| classes | 10 |"):
        assert text in card


def test_there_and_back_is_bitwise_equal(ours, tiny, tmp_path):
    back = convert(ours, tmp_path / "back", to_upstream=True)
    assert {path.name for path in back.iterdir()} == {"resolved_config.yaml", "state_dict.pth"}
    weights = torch.load(back / "state_dict.pth")["state_dict"]
    assert list(weights) == list(tiny.weights)
    for name, tensor in tiny.weights.items():
        assert weights[name].dtype == tensor.dtype
        assert torch.equal(weights[name], tensor)
        assert weights[name].is_contiguous()
    config = OmegaConf.to_container(OmegaConf.load(back / "resolved_config.yaml"))
    assert config == tiny.config


@pytest.mark.parametrize("norm", ["batch", "channel", "node", "layer", "group", "none"])
@pytest.mark.parametrize("dropped", [0, 1])
def test_networks_of_our_own_go_there_and_back(tmp_path, norm, dropped):
    overrides = [
        "retina.side=24",
        "backbone.channels=[4,12,19,19,12]",
        "backbone.k=[49,9,4,4,4]",
        f"backbone.norm={norm}",
        "projector.channels=[16,12]",
        f"projector.norm={'batch' if norm == 'batch' else 'none'}",
        "head.num_classes=5",
        "fixation.in_eval=random",  # as upstream, which has no fixed places
    ]
    net = fg.FoviNet(fg.load_config("fovi_alexnet", overrides))
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape) * 9)
    net.save_pretrained(tmp_path / "net")
    theirs = convert(tmp_path / "net", tmp_path / "theirs", to_upstream=True)
    if not dropped:  # upstream counts the parts of a layer: without dropout they have other names
        content = OmegaConf.load(theirs / "resolved_config.yaml")
        content.model.dropout_all = 0
        OmegaConf.save(content, theirs / "resolved_config.yaml")
        saved = torch.load(theirs / "state_dict.pth")["state_dict"]
        saved["network.projector.layers.fc_block_7.0.weight"] = saved.pop(
            "network.projector.layers.fc_block_7.1.weight"
        )
        torch.save({"state_dict": saved}, theirs / "state_dict.pth")
    again = fg.from_upstream(theirs)
    assert again.config == net.config
    for name, tensor in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_a_changed_network_gets_a_configuration_of_its_own(ours, tmp_path):
    net = fg.FoviNet.from_pretrained(ours)
    config = update_config(net.config, {"fixation.count": 7})
    fg.FoviNet(config).save_pretrained(tmp_path / "changed")
    (tmp_path / "changed" / "upstream.yaml").write_text((ours / "upstream.yaml").read_text())
    back = convert(tmp_path / "changed", tmp_path / "back", to_upstream=True)
    theirs = OmegaConf.load(back / "resolved_config.yaml")
    assert theirs.saccades.n_fixations == 7
    assert read_config(theirs) == config


def test_a_damaged_upstream_configuration_is_replaced(ours, tiny, tmp_path, caplog):
    shutil.copytree(ours, tmp_path / "net")
    (tmp_path / "net" / "upstream.yaml").write_text("a: [")
    back = convert(tmp_path / "net", tmp_path / "back", to_upstream=True)
    assert "upstream.yaml is not used" in caplog.text
    assert read_config(OmegaConf.load(back / "resolved_config.yaml")) == read_config(tiny.config)


class TestNothingHalfWritten:
    def test_where_there_is_something_already(self, tiny, tmp_path):
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "mine.txt").write_text("keep me")
        for name in ("full", "full/mine.txt"):
            with pytest.raises(FileExistsError, match="must not exist or be an empty folder"):
                convert(tiny.folder, tmp_path / name)
        assert (tmp_path / "full" / "mine.txt").read_text() == "keep me"

    def test_an_empty_folder_is_filled(self, tiny, tmp_path):
        (tmp_path / "empty").mkdir()
        convert(tiny.folder, tmp_path / "empty")
        assert (tmp_path / "empty" / "model.safetensors").is_file()

    def test_when_the_source_is_bad(self, copy, tmp_path_factory):
        target = tmp_path_factory.mktemp("target")
        (copy / "final_weights.pth").write_bytes(b"")
        with pytest.raises(ValueError, match="is damaged"):
            convert(copy, target / "a" / "b" / "net")
        assert not list(target.iterdir())

    @pytest.mark.parametrize("to_upstream", [False, True])
    def test_when_the_disk_is_full(self, ours, tiny, tmp_path, to_upstream):
        source = ours if to_upstream else tiny.folder
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
        try:
            with pytest.raises(OSError, match="cannot write to") as error:
                convert(source, tmp_path / "new" / "net", to_upstream=to_upstream)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not isinstance(error.value, FileExistsError)
        assert not list(tmp_path.iterdir())

    def test_when_interrupted(self, tiny, tmp_path, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr("fovigraph.interop.conversion.model_card", interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert(tiny.folder, tmp_path / "net")
        assert not list(tmp_path.iterdir())

    def test_where_no_folder_can_be_made(self, tiny, tmp_path):
        (tmp_path / "file").write_text("keep me")
        with pytest.raises(OSError, match=r"cannot write to .*file: Not a directory$"):
            convert(tiny.folder, tmp_path / "file" / "net")
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_the_reason_is_given(self, tiny, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("fovigraph.models.fovinet.save_pretrained", full)
        with pytest.raises(OSError, match="No space left on device"):
            convert(tiny.folder, tmp_path / "net")
        assert not list(tmp_path.iterdir())


class TestBadSources:
    def test_ours_given_as_upstreams(self, ours, tmp_path):
        with pytest.raises(fg.ConfigError, match="from_pretrained loads this folder"):
            convert(ours, tmp_path / "net")

    def test_upstreams_given_as_ours(self, tiny, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"lacks config.yaml and model.safetensors"):
            convert(tiny.folder, tmp_path / "net", to_upstream=True)

    def test_damaged_safetensors(self, ours, tmp_path):
        shutil.copytree(ours, tmp_path / "net")
        weights = tmp_path / "net" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(ValueError, match="cannot read weights"):
            convert(tmp_path / "net", tmp_path / "back", to_upstream=True)
        assert not (tmp_path / "back").exists()

    def test_what_upstream_cannot_have(self, tmp_path):
        config = fg.load_config("fovi_tiny", ["backbone.conv=depthwise_separable"])
        fg.FoviNet(config).save_pretrained(tmp_path / "net")
        with pytest.raises(fg.ConfigError, match=r"backbone.conv must be 'full'"):
            convert(tmp_path / "net", tmp_path / "back", to_upstream=True)
        assert not (tmp_path / "back").exists()
