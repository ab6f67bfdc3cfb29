"""The command predict."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import fovigraph as fg
from fovigraph.cli import main

MODEL = "fovi_cifar10"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of three pictures of two sizes, one of them in a folder inside."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    (folder / "inside").mkdir()
    (folder / "notes.txt").write_text("no image")
    for name, size in (("a.png", (40, 30)), ("b.png", (32, 32)), ("inside/c.jpg", (40, 30))):
        pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def expected(pictures):
    files = [str(pictures / name) for name in ("a.png", "b.png", "inside/c.jpg")]
    return files, fg.FoviNet.from_pretrained(MODEL).predict(files)


@pytest.fixture
def predict(capsys):
    def predict(*words, status=0):
        assert main(["predict", MODEL, *map(str, words)]) == status
        return capsys.readouterr()

    return predict


def test_json_lines_of_a_folder(predict, pictures, expected):
    lines = [json.loads(line) for line in predict(pictures, "--json").out.splitlines()]
    assert [line["file"] for line in lines] == expected[0]
    for line, told in zip(lines, expected[1], strict=True):
        assert list(line) == ["file", "class", "probability", "top"]
        assert line["class"] == told.name
        assert line["probability"] == pytest.approx(told.probability, abs=1e-5)
        assert [name for name, _ in line["top"]] == [name for name, _ in told.top]
        shares = [probability for _, probability in line["top"]]
        assert shares == pytest.approx([share for _, share in told.top], abs=1e-5)


def test_csv(predict, pictures, expected):
    rows = list(csv.DictReader(io.StringIO(predict(pictures, "--csv", "--top", "2").out)))
    assert list(rows[0]) == ["file", "class", "probability", "class_2", "probability_2"]
    assert [(row["file"], row["class"], row["class_2"]) for row in rows] == [
        (file, told.top[0][0], told.top[1][0]) for file, told in zip(*expected, strict=True)
    ]


def test_table(predict, pictures, expected):
    for line, file, told in zip(predict(pictures).out.splitlines(), *expected, strict=True):
        assert line.split() == [file, *" ".join(f"{n} {p:.1%}," for n, p in told.top)[:-1].split()]


def test_batches_do_not_matter(predict, pictures):
    one = predict(pictures, "--json", "--batch-size", "1").out
    assert one == predict(pictures, "--batch-size", "2", "--json").out


def test_paths_from_standard_input(predict, expected, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(expected[0][1:]) + "\n"))
    said = predict(expected[0][0], "-", "--json").out
    assert [json.loads(line)["file"] for line in said.splitlines()] == expected[0]


def test_broken_files_are_named_and_the_others_done(predict, expected, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    printed = predict(expected[0][0], broken, "gone.png", expected[0][1], "--json", status=1)
    assert [json.loads(line)["file"] for line in printed.out.splitlines()] == expected[0][:2]
    first, second = printed.err.splitlines()
    assert str(broken) in first and "gone.png" in second


def test_random_weights_are_said_to_be(pictures, capsys):
    words = ["predict", "fovi_tiny", str(pictures / "a.png"), "fixation.count=1", "--top", "1"]
    assert main(words) == 0
    assert "the weights are random" in capsys.readouterr().err


class TestMistakes:
    @pytest.fixture
    def mistake(self, predict):
        def mistake(*words):
            printed = predict(*words, status=2)
            assert printed.out == ""
            (line,) = printed.err.splitlines()
            return line

        return mistake

    def test_folder_without_images(self, mistake, tmp_path):
        assert f"no images in the folder {str(tmp_path)!r}" in mistake(tmp_path)

    def test_address(self, mistake, monkeypatch):
        assert "download it first" in mistake("https://example.org/cat.jpg")
        monkeypatch.setattr("sys.stdin", io.StringIO("https://example.org/cat.jpg\n"))
        assert "download it first" in mistake("-")

    def test_nothing_on_standard_input(self, mistake, monkeypatch):
        monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
        assert "names no files" in mistake("-")

    def test_two_forms(self, mistake, pictures):
        assert "not allowed with" in mistake(pictures, "--csv", "--json")

    def test_no_image(self, mistake):
        assert "required: IMAGE" in mistake()

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
    def test_full_disk(self, pictures):
        words = [sys.executable, "-m", "fovigraph", "predict", MODEL, str(pictures / "a.png")]
        with open("/dev/full", "w") as full:
            done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2
        assert "fovigraph: cannot write to standard output: No space left" in done.stderr


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    names = ["head.num_classes=3", "head.class_names=[cat, dog, tree]", "head.multi_label=true"]
    net = fg.FoviNet(fg.load_config("fovi_tiny", names)).eval()
    with torch.no_grad():
        net.head[-1].weight.zero_()
        net.head[-1].bias.copy_(torch.tensor([0.5, 3.0, -2.0]))
    net.save_pretrained(folder)
    return str(folder)


class TestSeveralLabels:
    def test_json_has_labels(self, several, pictures, capsys):
        assert main(["predict", several, str(pictures / "a.png"), "--json"]) == 0
        line = json.loads(capsys.readouterr().out)
        assert line["labels"] == ["dog", "cat"] and line["class"] == "dog"
        assert line["probability"] == pytest.approx(torch.tensor(3.0).sigmoid().item(), abs=1e-5)
        assert [name for name, _ in line["top"]] == ["dog", "cat", "tree"]

    def test_csv_and_table(self, several, pictures, capsys):
        assert main(["predict", several, str(pictures / "a.png"), "--csv", "--top", "1"]) == 0
        [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
        assert list(row) == ["file", "class", "probability", "labels"]
        assert row["labels"] == "dog;cat"
        assert main(["predict", several, str(pictures / "a.png")]) == 0
        assert "  [dog, cat] dog 95.3%, cat 62.2%, tree 11.9%" in capsys.readouterr().out

    def test_look_and_explore(self, several, pictures, tmp_path, capsys):
        pytest.importorskip("matplotlib")
        words = ["--fixations", "1", "--out"]
        image = str(pictures / "a.png")
        assert main(["look", several, image, *words, str(tmp_path / "look")]) == 0
        said = capsys.readouterr().out
        assert "Classes with a probability of at least 50%: dog, cat." in said
        report = json.loads((tmp_path / "look" / "look.json").read_text())
        assert report["labels"] == ["dog", "cat"]
        assert report["top"][0]["probability"] == pytest.approx(0.95257, abs=1e-4)
        page = str(tmp_path / "a.html")
        assert main(["explore", several, "--image", image, *words, page]) == 0
