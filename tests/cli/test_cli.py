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
from fovigraph.cli.errors import UserError

pytest.importorskip("matplotlib")
from fovigraph.viz import style

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
    monkeypatch.setattr("fovigraph.cli.look._pictures", lambda *_: iter(()))


@pytest.fixture
def look(photograph, tmp_path, capsys):
    """Looks at the photograph, and returns the numbers written and the lines printed."""

    def look(*words, config="fovi_tiny", out="out", image=photograph):
        words = ["look", image, "--model", str(config), "--out", str(tmp_path / out), *words]
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
        assert report["model"] == "fovi_tiny"
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

        assert numbers["model"] == "fovi_tiny"
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
            assert [int(best["class"]) for best in given["top"]] == index.tolist()
            given = [best["probability"] for best in given["top"]]
            assert given == pytest.approx(probability.tolist(), abs=1e-5)
        where = [[view["row"], view["column"]] for view in numbers["fixations"]]
        np.testing.assert_allclose(where, output.fixations[0], atol=1e-5)
        size = [[g["height_pixels"], g["width_pixels"]] for g in numbers["fixations"]]
        np.testing.assert_allclose(size, output.fixation_sizes[0])
        best = numbers["top"][0]
        (line,) = (line for line in lines if "Most likely" in line)
        assert f"Most likely: {best['class']} {best['probability']:.1%}" in line

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

    @pytest.mark.usefixtures("_no_pictures")
    def test_without_a_seed_it_looks_where_the_network_does(self, look, photograph):
        numbers, _ = look(config="fovi_cifar10")
        net = fg.FoviNet.from_pretrained("fovi_cifar10")
        with torch.no_grad():
            output = net(fg.read_image(photograph)[None])
        assert numbers["top"][0]["class"] == net.class_names[int(output.logits.argmax())]
        where = [[view["row"], view["column"]] for view in numbers["fixations"]]
        np.testing.assert_allclose(where, output.fixations[0], atol=1e-5)

    @pytest.mark.usefixtures("_no_pictures")
    def test_says_the_top_five_together_and_of_every_fixation(self, look):
        numbers, lines = look(config="fovi_cifar10")
        rows = lines[next(i for i, line in enumerate(lines) if line.startswith("together")) :]
        assert [row.split()[0] for row in rows[::5]] == ["together"] + ["fixation"] * 5
        tops = [numbers["top"], *(look["top"] for look in numbers["fixations"])]
        for row, best in zip(rows, [best for top in tops for best in top], strict=True):
            assert f"{best['class']} " in row and f"{best['probability']:.1%}" in row
            assert row.count("\N{FULL BLOCK}") == round(30 * best["probability"])

    def test_titles_name_the_classes(self, look, monkeypatch):
        titles = []
        record = lambda *_, title, **__: titles.append(title) or style.new_figure(1)  # noqa: E731
        monkeypatch.setattr("fovigraph.viz.plot_view", record)
        numbers, _ = look("--fixations", "1", config="fovi_cifar10")
        best = numbers["fixations"][0]["top"][0]
        assert f"1 of 1: {best['class']} {best['probability']:.1%}" in titles[0]
        look("--fixations", "1")
        assert titles[1] == "Fixation 1 of 1"  # random weights name nothing

    @pytest.mark.usefixtures("_no_pictures")
    def test_several_images_have_folders_of_their_own(self, photograph, tmp_path, capsys):
        again = tmp_path / "noise.jpg"
        Image.open(photograph).save(again)
        words = ["look", "fovi_tiny", photograph, "fixation.count=1", str(again)]
        assert main([*words, "--out", str(tmp_path / "out")]) == 0
        seen = {
            name: json.loads((tmp_path / "out" / name / "look.json").read_text())["image"]
            for name in ("noise", "noise-2")
        }
        assert seen == {"noise": photograph, "noise-2": str(again)}

    @pytest.mark.usefixtures("_no_pictures")
    def test_old_name_of_the_option_still_works(self, photograph, tmp_path, capsys):
        words = ["look", photograph, "--config", "fovi_tiny", "fixation.count=1"]
        assert main([*words, "--out", str(tmp_path)]) == 0
        assert "--config is deprecated: use --model fovi_tiny" in capsys.readouterr().err

    def test_pictures_show_colours_however_the_network_normalises_them(self, look, monkeypatch):
        seen = []
        pictures = lambda views, answer: iter(seen.append(views.samples) or ())  # noqa: E731
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
        words = ["demo", "--model", "fovi_tiny", "--fixations", "1", "--out", str(tmp_path)]
        assert main(words) == 0
        numbers = json.loads((tmp_path / "look.json").read_text())
        assert numbers["image"] == "skimage.data.chelsea()"
        assert (numbers["image_height_pixels"], numbers["image_width_pixels"]) == (300, 451)

    @pytest.mark.usefixtures("_no_pictures")
    def test_names_the_cat_a_cat(self, tmp_path, capsys):
        pytest.importorskip("skimage")
        assert main(["demo", "--out", str(tmp_path)]) == 0
        assert "Most likely: cat " in capsys.readouterr().out

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
        line = mistake("lok")
        assert "got 'lok' (did you mean 'look'?)" in line

    def test_unknown_option(self, mistake, photograph):
        line = mistake("look", photograph, "--fixation", "2")
        assert "unknown option '--fixation' (did you mean '--fixations'?)" in line
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
        line = mistake("look", photograph, "--model", "fovi_tyni")
        assert "MODEL must be" in line
        assert "did you mean 'fovi_tiny'?" in line
        assert "MODEL must hold config.yaml" in mistake("info", tmp_path)
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
        line = mistake("look", photograph, "--model", saved, "head.num_classes=3")
        assert "another architecture" in line

    def test_network_named_twice(self, mistake, photograph):
        assert "named twice" in mistake("look", "fovi_tiny", photograph, "--model", "digits")

    def test_no_image(self, mistake):
        assert "required: IMAGE" in mistake("look", "fovi_tiny")

    def test_too_many_words(self, mistake):
        assert "too many arguments: 'again'" in mistake("demo", "fovi_tiny", "again")

    def test_leaves_no_empty_folders(self, mistake, photograph, tmp_path, monkeypatch):
        def refuse(*_):
            raise UserError("no")

        monkeypatch.setattr("fovigraph.cli.look.build", refuse)
        (tmp_path / "there").mkdir()
        mistake("look", photograph, "--out", tmp_path / "there" / "new" / "deep")
        assert [path.name for path in tmp_path.rglob("*")] == ["there"]

    def test_folder_that_cannot_be_written(self, mistake, photograph, tmp_path, monkeypatch):
        monkeypatch.setattr("fovigraph.cli.look.build", None)  # is checked before any work
        (tmp_path / "file").write_text("")
        line = mistake("look", photograph, "--out", tmp_path / "file")
        assert "argument --out: cannot write to" in line
        assert "it is not a folder" in line
        assert "Not a directory" in mistake(
            "look", photograph, "--out", tmp_path / "file" / "deeper"
        )


def test_nothing_asked_for_is_help(capsys):
    assert main([]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("usage: fovigraph") and printed.err == ""


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["look", "--help"], ["lok"], []])
def test_help_and_mistakes_import_nothing_heavy(words):
    program = """
import sys
from fovigraph.cli import main
from fovigraph.cli.errors import UserError
main(sys.argv[1:])
heavy = {"torch", "numpy", "omegaconf", "yaml", "PIL", "matplotlib", "torch_geometric"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program, *words], check=True, capture_output=True)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fovigraph {fg.__version__}\n"


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(
        command in said for command in ("info", "look", "demo", "explore", "plot", "predict")
    )
    assert all(name in said for name in [*fg.config_names(), *fg.models.pretrained_names()])
    recipes = next(line for line in said.splitlines() if "recipes" in line)
    assert "digits" in recipes and "fovi_tiny" not in recipes


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
