"""Folders as upstream writes them: every form is read, and what is wrong with a folder is said."""

import json
import os
import pickle

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

import fovigraph as fg
from fovigraph.interop.checkpoint import CONFIGS, INDEX, read_config, read_weights

CONFIG, WEIGHTS = "resolved_config.yaml", "final_weights.pth"


class RunsCode:
    """What a hostile pickle holds: something that is called on loading."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def shards(folder, weights, suffix=".pth", count=3):
    """Spread weights over files, with an index."""
    (folder / WEIGHTS).unlink()
    names = sorted(weights)
    where = {}
    for i in range(count):
        part = {name: weights[name] for name in names[i::count]}
        file = f"state_dict-{i}{suffix}"
        (save_file if suffix == ".safetensors" else torch.save)(part, folder / file)
        where |= dict.fromkeys(part, file)
    (folder / INDEX).write_text(json.dumps({"weight_map": where}))
    return where


class TestConfigurations:
    @pytest.mark.parametrize("name", CONFIGS)
    def test_may_be_in_any_of_upstreams_places(self, copy, tiny, name):
        (copy / CONFIG).unlink()
        path = copy / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            json.dumps(tiny.config) if path.suffix == ".json" else OmegaConf.to_yaml(tiny.config)
        )
        content, found = read_config(copy)
        assert found == path
        assert OmegaConf.to_container(content) == tiny.config

    def test_the_resolved_one_comes_first(self, copy):
        (copy / "config.yaml").write_text("model: {}")
        assert read_config(copy)[1] == copy / CONFIG

    def test_missing(self, copy):
        (copy / CONFIG).unlink()
        with pytest.raises(FileNotFoundError, match="no configuration: none of resolved_config"):
            fg.from_upstream(copy)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("model: [a\nb: }", "line 2: not valid YAML"),
            ("- a\n- b", "must hold sections"),
            ("", "no section 'model'"),
            ("model: {}", "no section 'saccades'"),
            ("defaults: [default]\nlogging: {}", "its 'defaults' name the parts"),
            ("retina: {side: 32}", "a configuration of fovigraph.*from_pretrained"),
            ("a: ${", "resolved_config.yaml: "),
        ],
    )
    def test_unreadable_or_of_something_else(self, copy, text, message):
        (copy / CONFIG).write_text(text)
        with pytest.raises(fg.ConfigError, match=message):
            fg.from_upstream(copy)

    def test_not_text(self, copy):
        (copy / CONFIG).write_bytes(b"\xff\xfe\x00\x81")
        with pytest.raises(fg.ConfigError, match="cannot be read"):
            fg.from_upstream(copy)

    @pytest.mark.parametrize("text", ["[1]", "{", '"a"'])
    def test_bad_json(self, copy, text):
        (copy / CONFIG).unlink()
        (copy / "params.json").write_text(text)
        with pytest.raises(
            fg.ConfigError, match=r"params.json: (cannot be read|must hold sections)"
        ):
            fg.from_upstream(copy)

    def test_that_describe_no_network(self, configured):
        with pytest.raises(fg.ConfigError, match="no such network can be built here: spread"):
            fg.from_upstream(configured(saccades__nearcenter_dist=0.7))

    def test_of_a_backbone_that_is_unknown(self, configured):
        with pytest.raises(fg.ConfigError, match="got 'fovi_swin': fovigraph reads no other"):
            fg.from_upstream(configured(model__arch="fovi_swin"))


class TestWeights:
    @pytest.mark.parametrize(
        ("file", "wrap"),
        [
            ("state_dict.pth", lambda weights: {"state_dict": weights}),
            ("final_weights.pth", lambda weights: {"epoch": 3, "state_dict": weights}),
            ("model.pth", lambda weights: {"model": weights, "optimizer": {"state": {}}}),
            ("state_dict.pth", lambda weights: weights),
        ],
    )
    def test_may_be_in_any_of_upstreams_files(self, copy, tiny, file, wrap):
        (copy / WEIGHTS).unlink()
        torch.save(wrap(tiny.weights), copy / file)
        weights, _, path = read_weights(copy)
        assert path == copy / file
        assert weights.keys() == tiny.weights.keys()
        assert all(torch.equal(weights[name], tiny.weights[name]) for name in weights)

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_may_be_in_several(self, copy, tiny, suffix):
        shards(copy, tiny.weights, suffix)
        weights, _, path = read_weights(copy)
        assert path == copy / INDEX
        assert all(torch.equal(weights[name], tiny.weights[name]) for name in tiny.weights)

    def test_missing(self, copy):
        (copy / WEIGHTS).unlink()
        with pytest.raises(FileNotFoundError, match=r"no weights: none of state_dict.index.json"):
            fg.from_upstream(copy)

    def test_half_downloaded(self, copy, tiny):
        shards(copy, tiny.weights)
        (copy / "state_dict-1.pth").unlink()
        with pytest.raises(FileNotFoundError, match=r"lacks 1 of the 3 files .*: state_dict-1.pth"):
            fg.from_upstream(copy)

    def test_a_file_without_what_the_index_promises(self, copy, tiny):
        where = shards(copy, tiny.weights)
        name = next(name for name in where if where[name] == "state_dict-2.pth")
        part = torch.load(copy / "state_dict-2.pth")
        del part[name]
        torch.save(part, copy / "state_dict-2.pth")
        with pytest.raises(ValueError, match=f"state_dict-2.pth lacks {name}"):
            fg.from_upstream(copy)

    @pytest.mark.parametrize("file", ["../final_weights.pth", "a/b.pth", "..", "", "a\\b.pth"])
    def test_an_index_names_no_files_elsewhere(self, copy, file):
        (copy / INDEX).write_text(json.dumps({"weight_map": {"a": file}}))
        with pytest.raises(ValueError, match="weight_map must name files beside it"):
            fg.from_upstream(copy)

    @pytest.mark.parametrize("text", ['{"weight_map"', "{}", '{"weight_map": 3}', "[]"])
    def test_a_damaged_index(self, copy, text):
        (copy / INDEX).write_text(text)
        with pytest.raises(ValueError, match=r"state_dict.index.json cannot be read"):
            fg.from_upstream(copy)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda whole: whole[: len(whole) // 2],
            lambda whole: b"",
            lambda whole: bytes(5000),
            lambda whole: b"hello world",
            lambda whole: whole[:300] + bytes(reversed(whole[300:900])) + whole[900:],
        ],
        ids=["cut", "empty", "zeros", "text", "scrambled"],
    )
    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_damaged(self, copy, tiny, spoil, suffix):
        shards(copy, tiny.weights, suffix, count=1)
        path = copy / f"state_dict-0{suffix}"
        path.write_bytes(spoil(path.read_bytes()))
        with pytest.raises(ValueError, match=r"state_dict-0\.\w+ is damaged"):
            fg.from_upstream(copy)

    def test_a_placeholder_of_git_lfs(self, copy):
        text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
        (copy / WEIGHTS).write_text(text)
        with pytest.raises(ValueError, match=r"placeholder of git-lfs.*git lfs pull"):
            fg.from_upstream(copy)

    @pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": {"a": 3}}, {"epoch": 1}])
    def test_that_are_none(self, copy, content):
        torch.save(content, copy / WEIGHTS)
        with pytest.raises(ValueError, match="must hold named tensors"):
            fg.from_upstream(copy)

    def test_a_pickle_that_runs_code_is_refused_and_not_run(self, copy, tmp_path):
        marker = tmp_path / "was-run"
        torch.save({"state_dict": {"a": RunsCode(marker)}}, copy / WEIGHTS)
        with pytest.raises(ValueError, match=r"mkdir\. Loading that could run code") as error:
            fg.from_upstream(copy)
        assert "torch.save({'state_dict': model.state_dict()}" in str(error.value)
        (copy / WEIGHTS).write_bytes(pickle.dumps(RunsCode(marker)))
        with pytest.raises(ValueError, match="nothing in it was run"):
            fg.from_upstream(copy)
        assert not marker.exists()


class TestPaths:
    def test_a_file_is_not_a_folder(self, copy):
        with pytest.raises(FileNotFoundError, match=r"must be a folder .* got the file"):
            fg.from_upstream(copy / WEIGHTS)

    def test_an_address_is_not_followed(self):
        with pytest.raises(FileNotFoundError, match="download its files to a folder first"):
            fg.from_upstream("wandb://someone/project/run")

    def test_what_can_be_no_id(self, tmp_path):
        for path in (tmp_path / "none", "a/b/c", "no where"):
            with pytest.raises(FileNotFoundError, match="it cannot be an id on the Hub"):
                fg.from_upstream(path)
