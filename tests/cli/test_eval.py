"""``fovigraph eval``: how well a network tells classes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import fovigraph as fg
from fovigraph.cli import main
from fovigraph.config import to_yaml
from fovigraph.train import load_recipe
from fovigraph.train.report import percent

SETTINGS = ["retina.side=16", "fixation.count=2"]


def save_network(folder, *overrides):
    torch.manual_seed(1)
    config = fg.load_config("fovi_tiny", [*SETTINGS, *overrides])
    fg.FoviNet(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a network that tells two classes."""
    return save_network(tmp_path_factory.mktemp("model"), "head.num_classes=2")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of two classes: 9 pictures to learn from, 5 to test on and one that is broken."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "pets"
    for split, name, count in (
        ("train", "cat", 4),
        ("train", "dog", 5),
        ("test", "cat", 2),
        ("test", "dog", 3),
    ):
        (folder / split / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    (folder / "test" / "cat" / "broken.png").write_bytes(b"not an image")
    return folder


@pytest.fixture
def evaluation(model, pictures, tmp_path, capsys):
    """Evaluates, and returns the numbers written and what was printed."""

    def evaluation(*words, model=model, data=pictures):
        out = tmp_path / "out"
        words = ["eval", str(model), str(data), "--out", str(out), *words, "data.workers=0"]
        assert main(words) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return json.loads((out / "evaluation.json").read_text()), printed.out

    return evaluation


@pytest.fixture
def mistake(tmp_path, capsys):
    def mistake(*words):
        words = ["eval", *map(str, words), "--out", str(tmp_path / "out"), "data.workers=0"]
        assert main(words) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        assert line.startswith("fovigraph: ")
        assert not (tmp_path / "out" / "evaluation.json").exists()
        return line

    return mistake


def test_writes_numbers_and_a_page_and_prints_a_table(evaluation, tmp_path, model, pictures):
    numbers, printed = evaluation("--fixations", "3")
    assert (numbers["network"], numbers["data"]) == (str(model), str(pictures))
    assert (numbers["images"], numbers["fixations"], numbers["skipped"]) == (5, 3, 1)
    assert [(c["name"], c["images"]) for c in numbers["classes"]] == [("cat", 2), ("dog", 3)]
    assert len(numbers["top1_by_fixations"]) == 3
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert f"{model} on {pictures}" in page
    assert f"top-1 {100 * numbers['top1']:.1f} %" in " ".join(printed.split())
    assert "1 broken images were left out" in printed
    for name in ("evaluation.html", "evaluation.json"):
        assert str(tmp_path / "out" / name) in printed


def test_json(evaluation):
    numbers, printed = evaluation("--json", "--fixations", "1")
    assert json.loads(printed) == numbers


def test_looks_at_the_same_places_unless_they_are_to_be_drawn(evaluation, tmp_path):
    def losses(*words):
        runs = [evaluation("--fixations", "3", "--seed", seed, *words)[0] for seed in "45"]
        page = " ".join((tmp_path / "out" / "evaluation.html").read_text().split())
        return {run["loss"] for run in runs}, page

    fixed, page = losses()
    assert len(fixed) == 1
    drawn, other = losses("fixation.in_eval=random")
    assert len(drawn) == 2
    row = '<th scope="row">places looked at</th><td>{}</td>'
    assert row.format("fixed") in page and row.format("drawn at random") in other


def test_same_seed_same_numbers(evaluation):
    words = ("--fixations", "3", "--seed", "4", "fixation.in_eval=random")
    first, again = (evaluation(*words, "--batch-size", size)[0] for size in "25")
    for key in ("top1_by_fixations", "confusion"):
        assert first[key] == again[key]
    assert first["loss"] == pytest.approx(again["loss"], rel=1e-5)


class TestNames:
    """Data are matched to the network's classes by their names."""

    NAMES = "head.class_names=[dog,bird,cat]"

    @pytest.fixture
    def named(self, tmp_path):
        """The folder of a network that says dog whatever it sees."""
        config = fg.load_config("fovi_tiny", [*SETTINGS, "head.num_classes=3", self.NAMES])
        net = fg.FoviNet(config)
        (bias,) = (p for name, p in net.head.named_parameters() if name.endswith("bias"))
        with torch.no_grad():
            bias[0] = 1000
        net.save_pretrained(tmp_path / "named")
        return tmp_path / "named"

    def test_whatever_the_order(self, evaluation, named, pictures, tmp_path):
        numbers, printed = evaluation(model=named)
        images = {each["name"]: each["images"] for each in numbers["classes"]}
        assert images == {"dog": 3, "bird": 0, "cat": 2}
        assert "of dog" in printed and "of bird" not in printed
        assert numbers["top1"] == 3 / 5  # it says dog whatever it sees
        assert numbers["confusion"] == [[3, 0, 0], [0, 0, 0], [2, 0, 0]]
        page = (tmp_path / "out" / "evaluation.html").read_text()
        assert "dog" in page and "bird" in page

    def test_classes_that_the_network_does_not_know(self, mistake, pictures, tmp_path):
        model = save_network(tmp_path / "n", "head.num_classes=2", "head.class_names=[cat,wolf]")
        line = mistake(model, pictures)
        assert "has classes that" in line and "'dog'" in line
        assert "'cat', 'wolf'" in line and "--classes by-index" in line

    def test_by_index(self, evaluation, pictures, tmp_path):
        model = save_network(tmp_path / "n", "head.num_classes=2", "head.class_names=[wolf,cat]")
        numbers, _ = evaluation("--classes", "by-index", model=model)
        assert [(c["name"], c["images"]) for c in numbers["classes"]] == [("wolf", 2), ("cat", 3)]

    def test_by_index_needs_as_many(self, mistake, named, pictures):
        assert "has 3 classes" in mistake(named, pictures, "--classes", "by-index")


class TestRepeats:
    RANDOM = ("fixation.in_eval=random", "fixation.policy=near_center")

    def test_random_fixations_are_repeated(self, evaluation, tmp_path):
        numbers, printed = evaluation("--fixations", "1", *self.RANDOM)
        assert len(numbers["top1_of_repeats"]) == 3
        assert numbers["top1"] == numbers["top1_of_repeats"][0]
        mean = sum(numbers["top1_of_repeats"]) / 3
        assert f"top-1 {100 * mean:.1f} % ± " in printed
        assert "over 3" in (tmp_path / "out" / "evaluation.html").read_text()

    def test_number(self, evaluation):
        numbers, _ = evaluation("--fixations", "1", "--repeats", "2", *self.RANDOM)
        assert len(numbers["top1_of_repeats"]) == 2

    def test_fixed_fixations_do_not_vary(self, evaluation):
        first, _ = evaluation("--fixations", "2", "--seed", "1")
        again, _ = evaluation("--fixations", "2", "--seed", "2")
        assert first["loss"] == again["loss"] and first["top1_of_repeats"] is None

    def test_fixed_fixations_are_not_repeated(self, mistake, model, pictures):
        line = mistake(model, pictures, "--repeats", "2")
        assert "argument --repeats" in line and "fixation.in_eval=random" in line


def test_a_configuration_has_random_weights(pictures, tmp_path, capsys):
    words = ["eval", "fovi_tiny", pictures, "--out", tmp_path, "--fixations", "1"]
    words += ["data.workers=0", "head.num_classes=2", *SETTINGS]
    assert main([str(word) for word in words]) == 0
    assert "the weights are random" in capsys.readouterr().err
    assert json.loads((tmp_path / "evaluation.json").read_text())["weights"] == "random"


def test_split(evaluation):
    assert evaluation("--split", "train", "--fixations", "1")[0]["images"] == 9
    assert evaluation("--split", "test", "--fixations", "1")[0]["images"] == 5


def test_limit(evaluation):
    limited = ["--split", "train", "--fixations", "1", "--batch-size", "4", "--limit"]
    assert evaluation(*limited, "6")[0]["images"] == 6
    assert evaluation(*limited, "99")[0]["images"] == 9


def test_settings_can_be_changed(evaluation):
    numbers, printed = evaluation("fixation.policy=center")
    assert (numbers["policy"], numbers["fixations"]) == ("center", 1)
    assert numbers["overrides"] == ["fixation.policy=center", "data.workers=0"]
    assert numbers["note"] in printed


def test_recipe_beside_the_network_says_what_the_data_are_like(evaluation, pictures, tmp_path):
    model = save_network(tmp_path / "run", "head.num_classes=2")
    data = [
        f"data.source={pictures}",
        "data.size=40",
        "data.train_split=test",
        "data.test_split=train",
    ]
    (model / "recipe.yaml").write_text(to_yaml(load_recipe(model / "config.yaml", data)))
    numbers, _ = evaluation("--fixations", "1", model=model)
    assert (numbers["size"], numbers["images"]) == (40, 9)
    numbers, _ = evaluation("--fixations", "1", "--size", "24", model=model)
    assert numbers["size"] == 24
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(pictures)
    numbers, _ = evaluation("--fixations", "1", model=model, data=elsewhere)
    assert (numbers["size"], numbers["images"]) == (40, 5)


def test_digits(evaluation, tmp_path):
    pytest.importorskip("sklearn")
    model = save_network(tmp_path / "run")
    numbers, _ = evaluation("--limit", "20", "--fixations", "2", model=model, data="digits")
    assert (numbers["images"], numbers["size"], len(numbers["classes"])) == (20, 64, 10)
    assert numbers["top5"] is not None


def test_random_state_stays_as_it_is(evaluation):
    before = torch.get_rng_state()
    evaluation("--fixations", "1")
    assert torch.equal(before, torch.get_rng_state())


class TestMistakes:
    def test_no_such_model(self, mistake, tmp_path, pictures):
        line = mistake(tmp_path / "gone", pictures)
        assert "MODEL must be one of" in line and "gone" in line

    def test_folder_without_a_model(self, mistake, pictures):
        assert "lacks config.yaml and model.safetensors" in mistake(pictures, pictures)

    def test_no_such_data(self, mistake, model, tmp_path):
        assert "gone" in mistake(model, tmp_path / "gone")

    def test_no_such_split(self, mistake, model, pictures):
        assert "there is no split 'tset'" in mistake(model, pictures, "--split", "tset")

    def test_network_for_another_task(self, mistake, pictures, tmp_path):
        line = mistake(save_network(tmp_path / "ten"), pictures)
        assert "has 10 classes, and" in line

    def test_strict(self, mistake, model, pictures):
        assert "broken.png" in mistake(model, pictures, "data.strict=true")

    def test_no_image_can_be_read(self, mistake, model, tmp_path):
        for split in ("train", "test"):
            for name in ("cat", "dog"):
                (tmp_path / split / name).mkdir(parents=True)
                (tmp_path / split / name / "broken.png").write_bytes(b"not an image")
        assert "none of the images can be read; the first: " in mistake(model, tmp_path)

    def test_weights_of_another_architecture(self, mistake, model, pictures):
        line = mistake(model, pictures, "backbone.k=[9,9,9,9,9]")
        assert "of another architecture" in line

    def test_misspelt_setting(self, mistake, model, pictures):
        assert "did you mean data.size?" in mistake(model, pictures, "data.sizee=3")

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
    def test_no_gpu(self, mistake, model, pictures):
        assert "no CUDA device" in mistake(model, pictures, "--device", "cuda")

    @pytest.mark.parametrize("option", ["--fixations", "--limit", "--size", "--batch-size"])
    def test_numbers(self, mistake, model, pictures, option):
        assert f"argument {option}: must be a whole" in mistake(model, pictures, option, "0")

    def test_out_is_a_file(self, model, pictures, tmp_path, capsys):
        (tmp_path / "file").write_text("")
        words = ["eval", model, pictures, "--out", tmp_path / "file"]
        assert main([str(word) for word in words]) == 2
        assert "it is not a folder" in capsys.readouterr().err


class TestSeveralLabels:
    NAMES = "head.class_names=[tree,dog,cat]"

    @pytest.fixture
    def named(self, tmp_path):
        return save_network(
            tmp_path / "net", "head.num_classes=3", self.NAMES, "head.multi_label=true"
        )

    @pytest.fixture
    def tagged(self, tmp_path):
        random, folder = np.random.default_rng(0), tmp_path / "tagged"
        folder.mkdir()
        rows = ["file_name,labels"]
        for i, labels in enumerate(["cat", "cat;dog", "", "dog"]):
            pixels = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
            rows.append(f"{i}.png,{labels}")
        (folder / "metadata.csv").write_text("\n".join(rows))
        return folder

    def test_all_images_of_other_data_matched_by_name(self, evaluation, named, tagged, tmp_path):
        numbers, printed = evaluation(model=named, data=tagged)
        assert numbers["images"] == 4 and numbers["split"] == "all images"
        images = {each["name"]: each["images"] for each in numbers["classes"]}
        assert images == {"tree": 0, "dog": 2, "cat": 2}
        assert numbers["classes"][0]["average_precision"] is None
        assert f"mean average precision {percent(numbers['average_precision'])}" in " ".join(
            printed.split()
        )
        assert "average precision" in (tmp_path / "out" / "evaluation.html").read_text()

    def test_repeats_are_of_the_average_precision(self, evaluation, named, tagged):
        words = ("fixation.in_eval=random", "--repeats", "2")
        numbers, printed = evaluation(*words, model=named, data=tagged)
        assert len(numbers["average_precision_of_repeats"]) == 2
        assert "mean average precision" in printed and "over 2 with other fixations" in printed

    def test_labels_that_the_network_does_not_know(self, mistake, named, tagged):
        (tagged / "metadata.csv").write_text("file_name,labels\n0.png,fox;dog\n")
        assert "'fox'" in mistake(named, tagged)

    def test_data_of_one_label_each(self, mistake, named, pictures):
        assert "expected one of the files metadata.csv" in mistake(named, pictures)


def test_of_the_data_it_learned_from_those_held_out(evaluation, pictures, tmp_path):
    model = save_network(tmp_path / "run", "head.num_classes=2")
    data = pictures / "train"
    settings = [f"data.source={data}", "data.holdout=0.3"]
    (model / "recipe.yaml").write_text(to_yaml(load_recipe(model / "config.yaml", settings)))
    numbers, _ = evaluation(model=model, data=data)
    assert (numbers["images"], numbers["split"]) == (3, "the images held out of training")
    (model / "recipe.yaml").unlink()
    numbers, _ = evaluation(model=model, data=data)
    assert (numbers["images"], numbers["split"]) == (9, "all images")
