"""The command line."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import fovigraph as fg
from fovigraph.cli import main

pytest.importorskip("matplotlib")

NAMES = ["fixations.png", "fixation-1.png", "fixation-2.png", "receptive-field.png"]


pytestmark = pytest.mark.usefixtures("small_pictures")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a saved model."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    fg.FoviNet(fg.load_config("fovi_tiny", ["fixation.count=2"])).save_pretrained(folder)
    return folder


@pytest.fixture
def _no_pictures(monkeypatch):
    monkeypatch.setattr("fovigraph.cli.look._pictures", lambda glances: iter(()))


@pytest.fixture
def look(photograph, tmp_path, capsys):
    """Looks at the photograph, and returns the numbers written and the lines printed."""

    def look(*words, config="fovi_tiny", out="out", image=photograph):
        words = ["look", image, "--config", str(config), "--out", str(tmp_path / out), *words]
        assert main(words) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return json.loads((tmp_path / out / "look.json").read_text()), printed.out.splitlines()

    return look


@pytest.fixture
def mistake(capsys, tmp_path_factory, monkeypatch):
    """What a command line that is wrong says."""

    monkeypatch.chdir(tmp_path_factory.mktemp("here"))  # where the default outputs are

    def mistake(*words):
        assert main([str(word) for word in words]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        assert line.startswith("fovigraph: ")
        return line

    return mistake


class TestInfo:
    def test_json(self, capsys):
        assert main(["info", "fovi_tiny", "--json", "fixation.count=3"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["config"] == "fovi_tiny"
        assert report["fixations"] == 3
        assert [level["level"] for level in report["levels"]][:3] == ["retina", "conv1", "pool1"]
        retina, conv, pool, *_ = report["levels"]
        assert retina["nodes"] == 964
        assert (conv["nodes"], conv["k"], conv["cells"]) == (230, 49, 14**2)
        assert conv["parameters"] == 14**2 * 3 * 16 + 2 * 16
        assert conv["flops"] == 2 * conv["edges"] * 3 * 16
        assert pool["parameters"] == 0
        assert pool["flops"] == pool["edges"] * 16
        assert report["head"] == {"parameters": 64 * 10 + 10, "flops": 2 * 64 * 10}

    def test_table(self, capsys):
        assert main(["info", "fovi_tiny"]) == 0
        lines = capsys.readouterr().out.splitlines()
        header = next(line for line in lines if line.startswith("level")).split()
        assert header == ["level", "nodes", "rings", "k", "cells", "edges", "parameters", "FLOPs"]
        table = {line.split()[0]: line.split()[1:] for line in lines if line}
        assert table["retina"] == ["964", "26", "0", "0"]
        parameters = sum(p.numel() for p in fg.FoviNet(fg.load_config("fovi_tiny")).parameters())
        assert table["total"][0] == f"{parameters:,}"

    def test_of_a_saved_model(self, saved, capsys):
        assert main(["info", str(saved), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["fixations"] == 2

    def test_k_above_the_nodes_of_a_level_is_said(self, capsys):
        assert main(["info", "fovi_tiny", "retina.side=12"]) == 0
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("fovigraph: k is more than the level below has nodes")
        assert "conv2 16 of 8, pool2 9 of 8, conv3 9 of 1" in line

    def test_random_state_stays_as_it_is(self, capsys):
        before = torch.get_rng_state()
        main(["info", "fovi_tiny"])
        assert torch.equal(before, torch.get_rng_state())


class TestLook:
    def test_writes_pictures_and_numbers_and_says_so(self, look, tmp_path, photograph):
        numbers, lines = look("--fixations", "2", "--seed", "7")
        assert numbers["pictures"] == NAMES
        for name in [*NAMES, "look.json"]:
            assert any(line.startswith(str(tmp_path / "out" / name)) for line in lines)
        for name in NAMES:
            with Image.open(tmp_path / "out" / name) as picture:
                assert picture.width == 200
        assert len(lines) == len(NAMES) + 2
        assert "weights are random" in lines[-1]

        assert numbers["config"] == "fovi_tiny"
        assert numbers["weights"] == "random"
        assert numbers["image"] == photograph
        assert numbers["seed"] == 7
        assert numbers["nodes"]["retina"] == 964
        assert (numbers["image_height_pixels"], numbers["image_width_pixels"]) == (48, 64)

    @pytest.mark.usefixtures("_no_pictures")
    def test_numbers_are_the_networks(self, look, saved, photograph):
        numbers, lines = look("--seed", "3", config=saved)
        net = fg.FoviNet.from_pretrained(saved)
        with torch.no_grad():
            image = fg.read_image(photograph)[None]
            output = net(image, generator=torch.Generator().manual_seed(3))
        assert numbers["weights"] == "loaded"
        assert len(numbers["fixations"]) == 2
        logits = [*output.fixation_logits[0], output.logits[0]]
        for given, expected in zip([*numbers["fixations"], numbers], logits, strict=True):
            probability, index = expected.softmax(-1).topk(5)
            assert [best["class"] for best in given["top"]] == index.tolist()
            given = [best["probability"] for best in given["top"]]
            assert given == pytest.approx(probability.tolist(), abs=1e-5)
        where = [[glance["row"], glance["column"]] for glance in numbers["fixations"]]
        np.testing.assert_allclose(where, output.fixations[0], atol=1e-5)
        size = [[g["height_pixels"], g["width_pixels"]] for g in numbers["fixations"]]
        np.testing.assert_allclose(size, output.fixation_sizes[0])
        assert f"Most likely class: {numbers['top'][0]['class']}" in lines[-1]

    @pytest.mark.usefixtures("_no_pictures")
    def test_same_seed_same_numbers(self, look, tmp_path):
        files = []
        for seed, out in (("1", "a"), ("1", "b"), ("2", "c")):
            torch.rand(3)  # whatever happened before
            look("--fixations", "1", "--seed", seed, out=out)
            files.append((tmp_path / out / "look.json").read_bytes())
        assert files[0] == files[1] != files[2]

    @pytest.mark.usefixtures("_no_pictures")
    def test_overrides_may_stand_anywhere(self, look):
        numbers, _ = look("fixation.count=1", "--seed", "0", "head.num_classes=3")
        assert numbers["overrides"] == ["fixation.count=1", "head.num_classes=3"]
        assert len(numbers["fixations"]) == 1
        assert len(numbers["top"]) == 3

    def test_pictures_show_colours_however_the_network_normalises_them(self, look, monkeypatch):
        seen = []
        pictures = lambda glances: iter(seen.append(glances.samples) or ())  # noqa: E731
        monkeypatch.setattr("fovigraph.cli.look._pictures", pictures)
        look("--fixations", "1")
        look("--fixations", "1", "retina.mean=[0.5,0.5,0.5]", "retina.std=[0.2,0.2,0.2]")
        assert torch.equal(*seen)
        assert 0 <= seen[0].min() < seen[0].max() <= 1

    @pytest.mark.usefixtures("_no_pictures")
    def test_random_state_stays_as_it_is(self, look):
        before = torch.get_rng_state()
        look("--fixations", "1")
        assert torch.equal(before, torch.get_rng_state())


class TestDemo:
    @pytest.mark.usefixtures("_no_pictures")
    def test_looks_at_the_cat(self, tmp_path, capsys):
        pytest.importorskip("skimage")
        words = ["demo", "--config", "fovi_tiny", "--fixations", "1", "--out", str(tmp_path)]
        assert main(words) == 0
        numbers = json.loads((tmp_path / "look.json").read_text())
        assert numbers["image"] == "skimage.data.chelsea()"
        assert (numbers["image_height_pixels"], numbers["image_width_pixels"]) == (300, 451)

    @pytest.mark.parametrize("module", ["skimage", "matplotlib"])
    def test_a_missing_package_is_named_with_its_extra(
        self, module, mistake, monkeypatch, tmp_path
    ):
        monkeypatch.setitem(sys.modules, module, None)
        line = mistake("demo", "--out", tmp_path / "out")
        assert "pip install 'fovigraph[demo]'" in line
        assert not (tmp_path / "out").exists()

    def test_look_needs_another_extra(self, mistake, monkeypatch, photograph):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        assert "pip install 'fovigraph[viz]'" in mistake("look", photograph)


class TestMistakes:
    """Each is one line, status 2, and nothing is written."""

    def test_no_or_unknown_command(self, mistake):
        assert "COMMAND" in mistake()
        line = mistake("lok")
        assert "'lok'" in line
        assert "look" in line

    def test_unknown_option(self, mistake, photograph):
        assert "'--fixation'" in mistake("look", photograph, "--fixation", "2")
        assert "IMAGE" in mistake("look")

    def test_image(self, mistake, tmp_path):
        assert "no such image file: nowhere.png" in mistake("look", "nowhere.png")
        broken = tmp_path / "broken.png"
        broken.write_bytes(b"not an image")
        line = mistake("look", broken, "--out", tmp_path / "out")
        assert f"cannot read {broken}: not an image" in line
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("count", ["0", "-1", "two"])
    def test_number_of_fixations(self, mistake, photograph, count):
        line = mistake("look", photograph, "--fixations", count)
        assert f"argument --fixations: must be a whole number of at least 1, got '{count}'" in line

    def test_seed(self, mistake, photograph):
        assert "argument --seed" in mistake("look", photograph, "--seed", "x")
        assert "argument --seed" in mistake("look", photograph, "--seed", str(2**64))
        line = mistake("look", photograph, "--seed", "9" * 5000)
        assert len(line) < 400

    def test_config(self, mistake, photograph, tmp_path):
        line = mistake("look", photograph, "--config", "fovi_tyni")
        assert "CONFIG must be" in line
        assert "did you mean 'fovi_tiny'?" in line
        assert "CONFIG must hold config.yaml" in mistake("info", tmp_path)
        assert "'nothing.yaml'" in mistake("info", "nothing.yaml")

    def test_override(self, mistake, photograph):
        assert "retina.sid" in mistake("look", photograph, "retina.sid=3")
        assert "'dotted.key=value'" in mistake("info", "fovi_tiny", "sixty-four")
        assert "'near_centre'" in mistake("info", "fovi_tiny", "fixation.policy=near_centre")

    def test_a_network_too_large_for_the_memory(self, mistake, monkeypatch):
        for error in (MemoryError(), RuntimeError("can't allocate memory: you tried …")):

            def make(config, error=error):
                raise error

            monkeypatch.setattr("fovigraph.cli.networks.FoviNet", make)
            assert "does not fit in memory" in mistake("info", "fovi_tiny")

    def test_weights_of_another_architecture(self, mistake, photograph, saved):
        line = mistake("look", photograph, "--config", saved, "head.num_classes=3")
        assert "another architecture" in line

    def test_folder_that_cannot_be_written(self, mistake, photograph, tmp_path, monkeypatch):
        monkeypatch.setattr("fovigraph.cli.look.build", None)  # is checked before any work
        (tmp_path / "file").write_text("")
        line = mistake("look", photograph, "--out", tmp_path / "file")
        assert "argument --out: cannot write to" in line
        assert "it is not a folder" in line
        assert "Not a directory" in mistake(
            "look", photograph, "--out", tmp_path / "file" / "deeper"
        )


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fovigraph {fg.__version__}\n"


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(command in said for command in ("info", "look", "demo", "explore", "plot"))


def test_a_bug_is_not_taken_for_a_mistake(monkeypatch):
    monkeypatch.setattr("fovigraph.cli.info.describe", lambda net: {}["bug"])
    with pytest.raises(KeyError):
        main(["info", "fovi_tiny"])


def test_matplotlib_is_imported_by_pictures_alone_and_pyplot_never():
    program = """
import sys, fovigraph.cli
assert "matplotlib" not in sys.modules
import fovigraph.viz
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
