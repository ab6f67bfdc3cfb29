"""Arguments of a wrong type are refused by name; a configuration evaluates nothing."""

import os
from contextlib import suppress
from copy import deepcopy

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import fovigraph as fg
from fovigraph.interop import convert, from_upstream, read_config, use_neighbours, write_config

WRONG = [None, True, 3, 1.5, b"x", [], ["x"], {"x": 1}, slice(1), np.zeros(2), torch.zeros(2)]


@pytest.fixture
def spied(monkeypatch):
    """The calls of a resolver that nobody may call, beside a secret in the environment."""
    calls = []
    monkeypatch.setenv("SECRET", "hunter2")
    OmegaConf.register_resolver("spy", lambda *args: calls.append(args) or 3)
    yield calls
    OmegaConf.clear_resolver("spy")


def refused(call):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said and len(said) < 600 and "hunter2" not in said
    return said


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_wrong_types_are_named(wrong, tiny, tmp_path):
    out = tmp_path / "out"
    assert "path_or_hub_id" in refused(lambda: from_upstream(wrong))
    assert "path_or_hub_id" in refused(lambda: fg.from_upstream(wrong))
    assert "source" in refused(lambda: convert(wrong, out))
    assert "destination" in refused(lambda: convert(tiny.folder, wrong))
    assert "source" in refused(lambda: read_config({}, wrong))
    assert "net" in refused(lambda: use_neighbours(wrong, {}))
    if wrong is not None:
        assert "revision" in refused(lambda: from_upstream(tiny.folder, revision=wrong))
        assert "cache_dir" in refused(lambda: from_upstream(tiny.folder, cache_dir=wrong))
        assert "neighbours" in refused(lambda: from_upstream(tiny.folder, neighbours=wrong))
        assert "revision" in refused(lambda: convert(tiny.folder, out, revision=wrong))
    if wrong is not True:
        assert "strict" in refused(lambda: from_upstream(tiny.folder, strict=wrong))
        assert "to_upstream" in refused(lambda: convert(tiny.folder, out, to_upstream=wrong))
    assert "cls" in refused(lambda: from_upstream(tiny.folder, cls=wrong))
    if not isinstance(wrong, dict):
        assert "content" in refused(lambda: read_config(wrong))
        assert "config" in refused(lambda: write_config(wrong))
    assert not out.exists()


def test_lists_of_neighbours_are_named_tensors(tiny):
    net = fg.from_upstream(tiny.folder)
    for lists, name in (
        (None, "lists"),
        (3, "lists"),
        ([], "lists"),
        ({3: torch.zeros(1)}, "names of lists"),
        ({"a": [1]}, "lists['a']"),
    ):
        assert name in refused(lambda lists=lists: use_neighbours(net, lists))
    usual = net.pyramid
    lists = {
        key: value.float() if key.endswith("neighbours") else value
        for key, value in tiny.neighbours.items()
    }
    assert "neighbours must be whole numbers" in refused(lambda: use_neighbours(net, lists))
    assert net.pyramid is usual


def test_a_named_pipe_is_no_file_of_lists(tiny, tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    net = fg.from_upstream(tiny.folder)
    with pytest.raises(FileNotFoundError, match="no such file"):
        use_neighbours(net, tmp_path / "pipe.pth")


@pytest.mark.parametrize(
    "value",
    ["${oc.env:SECRET}", "${spy:1}", "${other.a}", "x${spy:1}", r"\${spy:1}", "${${spy:1}}"],
)
def test_no_resolver_is_called(value, spied, tiny, caplog):
    content = deepcopy(tiny.config)
    content["other"] = {"a": "${oc.env:SECRET}"}
    read_config(content)  # nobody asks for it
    for key in ("fov", "sampler", "sample_cortex"):
        changed = {**content, "saccades": {**content["saccades"], key: value}}
        for given in (changed, OmegaConf.create(changed)):
            said = refused(lambda given=given: read_config(given))
            assert f"saccades.{key} cannot be resolved" in said
    assert spied == [] and "hunter2" not in caplog.text


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 10**400, 0, -1, {}, [{}], "9" * 5000]
)
@pytest.mark.parametrize(
    "key",
    [
        "model.arch",
        "model.mlp",
        "model.k_mult",
        "model.out_grid_size",
        "saccades.fov",
        "saccades.fixation_size_min_frac",
        "saccades.fixation_size_max_frac",
        "saccades.cmf_a",
        "training.resolution",
        "data.num_classes",
    ],
)
def test_nothing_but_a_config_error_escapes(key, value, tiny):
    content = deepcopy(tiny.config)
    section, name = key.split(".")
    content[section][name] = value
    for rescaled in (0, 1):
        content["saccades"]["rescale_fov"] = rescaled
        with suppress(fg.ConfigError):
            read_config(content)


@pytest.mark.parametrize("kind", ["bool", "int8", "complex64", "nan"])
def test_weights_of_another_kind(kind, tiny, copy):
    weights = dict(tiny.weights)
    name = next(key for key in weights if key.endswith("probe.weight"))
    weights[name] = (
        weights[name] * float("nan") if kind == "nan" else weights[name].to(getattr(torch, kind))
    )
    torch.save({"state_dict": weights}, copy / "final_weights.pth")
    with pytest.raises(ValueError, match=rf"{name}: .*({kind}|NaN)"):
        fg.from_upstream(copy)
