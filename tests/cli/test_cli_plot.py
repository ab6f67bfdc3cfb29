"""The commands plot and explore."""

from __future__ import annotations

import base64
import json
import re
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

import fovigraph as fg
from fovigraph.cli import KINDS, main
from fovigraph.cli.parser import TAKES

pytest.importorskip("matplotlib")
import fovigraph.cli.plot as plot_module
from fovigraph.cli.plot import DRAW, Subject
from fovigraph.viz import style

WITH_IMAGE = ("samples", "rebuilt", "fixations", "activations")


pytestmark = pytest.mark.usefixtures("small_pictures")


@pytest.fixture
def run(capsys):
    def run(*words):
        assert main([str(word) for word in words]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return run


@pytest.fixture
def mistake(capsys):
    def mistake(*words):
        assert main([str(word) for word in words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("fovigraph: ")
        return line

    return mistake


@pytest.fixture
def asked(monkeypatch):
    """The arguments that the picture asked for."""
    names = set()

    class Args:
        def __init__(self, args):
            self.args = args

        def __getattr__(self, name):
            names.add(name)
            return getattr(self.args, name)

    monkeypatch.setattr(plot_module, "Subject", lambda args, make=Subject: make(Args(args)))
    return names


def tiny(*words):
    return ("plot", *words, "--model", "fovi_tiny")


class TestPlot:
    def test_every_kind_is_drawn(self):
        assert list(DRAW) == list(KINDS) == list(TAKES)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_picture_of_every_kind(self, run, photograph, tmp_path, kind, asked):
        out = tmp_path / "pictures" / f"{kind}.png"
        image = ("--image", photograph) if "image" in TAKES[kind] else ()
        said = run(*tiny(kind, *image, "--out", out))
        assert said.startswith(f"{out}  {KINDS[kind]}")
        assert asked >= set(TAKES[kind])  # no option is taken and then not asked for
        with Image.open(out) as picture:
            assert picture.width >= 120

    def test_options_reach_the_picture(self, run, photograph, tmp_path, monkeypatch):
        seen = {}

        def record(pyramid, level, unit, **options):
            seen.update(options, level=level, unit=unit)
            return style.new_figure(1)

        monkeypatch.setattr("fovigraph.viz.plot_receptive_field", record)
        words = ("--level", "conv2", "--unit", "7", "--space", "v1like", "--binary")
        words += ("--bins", "12")
        words += ("--image", photograph, "--fixation", "0.25", "0.5", "--out", tmp_path / "a.svg")
        run(*tiny("receptive-field", *words))
        assert (seen["level"], seen["unit"]) == (3, 7)
        assert (seen["space"], seen["binary"], seen["bins"]) == ("v1like", True, 12)
        assert seen["fixation"].tolist() == [0.25, 0.5]

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    @pytest.mark.parametrize("kind", [kind for kind in KINDS if "device" in TAKES[kind]])
    def test_a_picture_of_every_kind_that_computes_on_a_gpu(self, run, photograph, tmp_path, kind):
        out = tmp_path / "a.png"
        run(*tiny(kind, "--image", photograph, "--out", out, "--device", "cuda"))
        assert out.stat().st_size > 1000

    def test_random_state_stays_as_it_is(self, run, tmp_path):
        before = torch.get_rng_state()
        run(*tiny("filters", "--out", tmp_path / "a.png"))
        assert torch.equal(before, torch.get_rng_state())

    def test_manifold_to_be_turned(self, run, tmp_path):
        pytest.importorskip("plotly")
        run(*tiny("manifold", "--out", tmp_path / "a.html"))
        assert "point of gaze" in (tmp_path / "a.html").read_text(encoding="utf-8")

    def test_pyramid_as_a_graph(self, run, tmp_path):
        pytest.importorskip("networkx")
        run(*tiny("pyramid", "--out", tmp_path / "a.dot", "backbone.k=[9,9,9,9,9]"))
        assert "retina -> conv1" in (tmp_path / "a.dot").read_text()
        run(*tiny("pyramid", "--out", tmp_path / "a.graphml", "backbone.k=[9,9,9,9,9]"))
        root = ElementTree.parse(tmp_path / "a.graphml").getroot()
        nodes = [each for each in root.iter() if each.tag.endswith("}node")]
        net = fg.FoviNet(fg.load_config("fovi_tiny"))
        assert len(nodes) == sum(map(len, net.pyramid.levels))


def data(page):
    """What an explorer's page holds."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"))[1])


class TestExplore:
    def test_writes_a_page(self, run, photograph, tmp_path):
        out = tmp_path / "new" / "explorer.html"
        words = ("--image", photograph, "--fixations", "2", "--out", out)
        said = run("explore", "fovi_tiny", *words)
        assert said.startswith(str(out)) and "MB" in said
        page = out.read_text(encoding="utf-8")
        assert "What every unit of fovi_tiny sees" in page
        assert '"scores":null' in page  # of random weights

    def test_holds_the_scores_of_a_saved_network(self, run, photograph, tmp_path):
        net = fg.FoviNet(fg.load_config("fovi_tiny")).eval()
        net.save_pretrained(tmp_path / "net")
        run("explore", tmp_path / "net", "--image", photograph, "--out", tmp_path / "a.html")
        held = data(tmp_path / "a.html")
        fixations = [[view["row"], view["column"]] for view in held["views"]]
        with torch.no_grad():
            output = net(fg.read_image(photograph)[None], fixations)
        for name, logits in (
            ("fixations", output.fixation_logits[0]),
            ("together", output.logits[0]),
        ):
            scores = np.frombuffer(base64.b64decode(held["scores"][name]), "<f4")
            np.testing.assert_allclose(scores, logits.softmax(-1).flatten(), rtol=1e-4, atol=1e-6)
        assert len(held["scores"]["classes"]) == net.config.head.num_classes

    def test_the_network_in_the_box_names_the_classes(self, run, photograph, tmp_path):
        out = tmp_path / "a.html"
        run("explore", "fixation.eval_count=2", "--image", photograph, "--out", out)
        held = data(out)
        assert held["scores"]["classes"][3] == "cat"
        output = fg.FoviNet.from_pretrained("fovi_cifar10")(fg.read_image(photograph)[None])
        places = [[view["row"], view["column"]] for view in held["views"]]
        np.testing.assert_allclose(places, output.fixations[0, :2])

    def test_without_an_image_it_is_the_cat(self, run, tmp_path):
        skimage = pytest.importorskip("skimage.data")
        run("explore", "fovi_tiny", "--fixations", "3", "--out", tmp_path / "a.html")
        held = data(tmp_path / "a.html")
        height, width, _ = skimage.chelsea().shape
        assert (held["photograph"]["height"], held["photograph"]["width"]) == (height, width)
        assert len(held["views"]) == 3

    def test_without_scikit_image_there_is_none(self, run, mistake, monkeypatch, tmp_path):
        monkeypatch.setattr("fovigraph.cli.explore.find_spec", lambda name: None)
        run("explore", "fovi_tiny", "--out", tmp_path / "a.html")
        assert data(tmp_path / "a.html")["views"] == []
        line = mistake("explore", "fovi_tiny", "--fixations", "2", "--out", tmp_path / "b.html")
        assert "argument --fixations: needs a photograph, --image IMAGE" in line


class TestMistakes:
    """Each is one line, status 2, and nothing is written."""

    def test_kind(self, mistake):
        assert "did you mean 'sampling'?" in mistake("plot", "smapling")

    def test_level_or_unit(self, mistake, tmp_path):
        out = ("--out", tmp_path / "a.png")
        line = mistake(*tiny("receptive-field", "--level", "conv9", *out))
        assert "level must be one of 'conv1'" in line
        line = mistake(*tiny("receptive-field", "--level", "99", *out))
        assert "level must be from 0 to 8, got 99" in line
        line = mistake(*tiny("receptive-field", "--level", "conv1", "--unit", "999", *out))
        assert "unit must be from 0 to 229 at level 'conv1', got 999" in line
        line = mistake(*tiny("filters", "--level", "pool1", *out))
        assert "level must be one that a convolution leads to, conv1, conv2" in line
        assert "channel must be from 0 to 15" in mistake(
            *tiny("filter-in-field", "--channel", "16", *out)
        )
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("kind", KINDS)
    def test_options_that_would_do_nothing(self, mistake, kind):
        options = {
            "level": ["conv1"],
            "unit": ["0"],
            "channel": ["0"],
            "fixation": ["0.5", "0.5"],
            "space": ["visual"],
            "color": ["eccentricity"],
            "map": ["v1like"],
            "bins": ["9"],
            "binary": [],
            "device": ["cpu"],
            "image": ["nowhere.png"],
            "seed": ["0"],
        }
        assert set(options) >= set(TAKES[kind])
        for option in options.keys() - set(TAKES[kind]):
            line = mistake(*tiny(kind, f"--{option}", *options[option]))
            assert f"argument --{option}: does nothing for plot {kind}" in line

    def test_options_that_need_others(self, mistake, tmp_path):
        for kind in ("receptive-field", "effective-field-sizes"):
            line = mistake(*tiny(kind, "--fixation", "0.5", "0.5"))
            assert "argument --fixation: needs a photograph" in line
        for out in ("a.dot", "a.graphml"):
            line = mistake(*tiny("pyramid", "--level", "1", "--out", tmp_path / out))
            assert "argument --level: does nothing for a ." in line

    @pytest.mark.parametrize("kind", WITH_IMAGE)
    def test_no_image_where_one_is_needed(self, mistake, tmp_path, kind):
        line = mistake(*tiny(kind, "--out", tmp_path / "a.png"))
        assert f"plot {kind} needs a photograph: --image IMAGE" in line

    def test_image(self, mistake, tmp_path):
        out = ("--out", tmp_path / "a.html")
        assert "no such image file" in mistake("explore", "fovi_tiny", "--image", "no.png", *out)
        (tmp_path / "b.png").write_bytes(b"text")
        line = mistake("explore", "fovi_tiny", "--image", tmp_path / "b.png", *out)
        assert "not an image" in line

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_device_that_is_not_there(self, mistake, photograph, tmp_path):
        words = ["--image", photograph, "--device", "cuda", "--out"]
        for command, out in ((tiny("samples"), "a.png"), (("explore", "fovi_tiny"), "a.html")):
            assert "no CUDA device here" in mistake(*command, *words, tmp_path / out)
            assert not (tmp_path / out).exists()

    def test_file_that_cannot_be_written(self, mistake, tmp_path):
        (tmp_path / "file").write_text("")
        (tmp_path / "folder.png").mkdir()
        line = mistake(*tiny("sampling", "--out", tmp_path / "file" / "a.png"))
        assert "argument --out: cannot write to" in line
        assert "it is a folder" in mistake(*tiny("sampling", "--out", tmp_path / "folder.png"))
        line = mistake(*tiny("sampling", "--out", tmp_path / "a.txt"))
        assert "must end in .png, .pdf, .svg, .jpg, got" in line
        assert ".html" in mistake(*tiny("manifold", "--out", tmp_path / "a.txt"))
        assert ".html" in mistake("explore", "fovi_tiny", "--out", tmp_path / "a.png")

    @pytest.mark.parametrize("command", [("plot", "sampling"), ("explore", "fovi_tiny")])
    def test_without_matplotlib_the_extra_is_named(self, mistake, monkeypatch, command):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        assert "pip install 'fovigraph[viz]'" in mistake(*command)

    def test_without_plotly_or_networkx_too(self, mistake, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
        monkeypatch.setitem(sys.modules, "networkx", None)
        for words in (("manifold", "--out", "a.html"), ("pyramid", "--out", "a.graphml")):
            assert "pip install 'fovigraph[viz]'" in mistake(*tiny(*words))
