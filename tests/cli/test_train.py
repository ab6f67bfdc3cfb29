"""The command `fovigraph train`."""

import re
import shutil

import numpy as np
import pytest

from fovigraph import FoviNet
from fovigraph.cli import main

QUICK = [
    "retina.side=8",
    "backbone.channels=[4]",
    "backbone.strides=[1]",
    "backbone.k=[9]",
    "backbone.pool_after=[]",
    "data.size=32",
    "data.workers=0",
    "train.epochs=1",
    "train.batch_size=512",
]


@pytest.fixture
def run(capsys):
    """Run the command line; return status, output and errors."""

    def run(*words):
        status = main(["train", *words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch):
    monkeypatch.setattr("fovigraph.train.scenes.COUNTS", {"train": 1024, "test": 64})


def test_digits_from_nothing(run, tmp_path):
    status, out, _ = run("digits", *QUICK, "--out", str(tmp_path / "my run"))
    assert status == 0
    assert re.search(r"epoch +loss +accuracy +images per second +waiting +test loss", out)
    assert f"fovigraph eval '{tmp_path / 'my run'}' digits" in out
    words = ["--limit=64", "--fixations=2", "--out", str(tmp_path / "page")]
    assert main(["eval", str(tmp_path / "my run"), "digits", *words]) == 0


def test_what_is_named_by_default(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("digits", *QUICK)[0] == 0
    assert (tmp_path / "runs/digits/model.safetensors").is_file()
    status, _, err = run("digits", *QUICK)
    assert (status, err) == (
        2,
        "fovigraph: runs/digits holds a run already: resume it, or choose another folder\n",
    )
    assert run("digits", *QUICK, "--resume")[0] == 0


def test_broken_images_are_named_or_refused(run, tmp_path):
    from PIL import Image

    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for index in range(20):
            Image.new("RGB", (32, 32), (index * 9, 50, 90)).save(
                tmp_path / "images" / label / f"{index}.png"
            )
    (tmp_path / "images/dog/3.png").write_bytes(b"no image")
    source = f"data.source={tmp_path / 'images'}"
    words = [*QUICK, "head.num_classes=2", "train.batch_size=8", source]
    status, out, _ = run("digits", *words, "--out", str(tmp_path / "a"))
    assert status == 0
    assert re.search(r"1 broken image was left out: .*dog/3\.png", out)
    status, _, err = run("digits", *words, "--strict", "--out", str(tmp_path / "b"))
    assert status == 2
    assert "dog/3.png" in err


@pytest.fixture
def photos(tmp_path):
    """A folder of textured pictures of two classes that differ in colour."""
    from PIL import Image

    random = np.random.default_rng(0)
    for name, colour in (("cat", (200, 90, 60)), ("dog", (60, 90, 200))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(10):
            waves = 40 * np.sin(np.arange(40) * random.uniform(0.2, 1))[:, None, None]
            noise = random.integers(-20, 20, (40, 40, 3))
            pixels = (np.array(colour) + waves + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    return f"data.source={tmp_path / 'photos'}"


ONE_FOLDER = [*QUICK, "data.holdout=0.1"]


def test_ones_own_folder_says_what_its_classes_are(run, photos, tmp_path):
    status, out, _ = run("fovi_tiny", *ONE_FOLDER, photos, "--out", str(tmp_path / "run"))
    assert status == 0
    source = photos.partition("=")[2]
    first, second = out.splitlines()[:2]
    assert first == f"2 classes of {source}: cat, dog (the configuration had 10)"
    assert second.startswith("a batch has 18 images, as there are fewer to learn from")
    assert "Probabilities: calibrated on 2 held-out images with 16 fixations" in out
    assert FoviNet.from_pretrained(tmp_path / "run").class_names == ["cat", "dog"]


def test_a_number_of_classes_that_contradicts_the_data(run, photos, tmp_path):
    words = ["fovi_tiny", *ONE_FOLDER, photos, "head.num_classes=7"]
    status, _, err = run(*words, "--out", str(tmp_path / "run"))
    assert status == 2
    assert re.fullmatch(r"fovigraph: head.num_classes must be 2, .* got 7\n", err)


def test_a_trained_folder_is_started_from_and_extended(run, photos, tmp_path):
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    assert run("digits", *QUICK, "--out", first)[0] == 0
    words = [first, "data.source=" + photos.partition("=")[2], f"train.start={first}"]
    words += ["train.batch_size=9", "train.epochs=1", "data.workers=0", "data.size=32"]
    status, out, _ = run(*words, "--out", second)
    assert status == 0
    assert "(the configuration had 10)" in out
    assert re.search(
        r"started from .*first: \d+ tensors taken over \(backbone\); random: head", out
    )
    status, out, _ = run(second, "--resume", "train.epochs=2")
    assert status == 0
    assert re.search(r"^ +2  ", out, re.MULTILINE)
    status, _, err = run(second, "--resume", "train.epochs=3", "train.batch_size=6")
    assert status == 2
    assert "train.batch_size was 9, is 6 (what may change: " in err


@pytest.mark.parametrize("by", ["the run's folder", "the same command", "a recipe's file"])
def test_a_run_goes_on_when_the_network_it_started_from_is_gone(run, photos, tmp_path, by):
    first, second = tmp_path / "first", tmp_path / "second"
    assert run("digits", *QUICK, "backbone.channels=[6]", "--out", str(first))[0] == 0
    recipe = first
    if by == "a recipe's file":
        recipe = tmp_path / "mine.yaml"
        recipe.write_text("data: {size: 32}")
    words = [str(recipe), photos, f"train.start={first}", "data.workers=0", "train.epochs=1"]
    words += ["--out", str(second)]
    assert run(*words)[0] == 0
    shutil.rmtree(first)
    if by == "the run's folder":
        words = [str(second)]
    status, out, err = run(*words, "--resume", "train.epochs=2")
    assert status == 0, err
    assert re.search(r"^ +2  ", out, re.MULTILINE)
    assert "started from" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fovi_tiny"], "data.source must say what to learn from"),
        (["fovi_tiny", "data.source=nofolder"], "no file or folder 'nofolder'"),
        (["digits", "train.start=nofolder"], "train.start must hold config.yaml and model"),
        (["digits", "head.class_names=[a, a]"], "head.class_names must be distinct"),
        (["digits", "head.class_names=[a, '']"], "head.class_names must not be empty"),
    ],
)
def test_what_cannot_be_is_said_at_once_and_leaves_nothing(run, tmp_path, words, message):
    folder = tmp_path / "run"
    status, _, err = run(*words, "--out", str(folder))
    assert status == 2
    assert re.fullmatch(rf"fovigraph: .*{message}.*\n", err)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["digit"], "RECIPE must be one of .*did you mean 'digits'"),
        (["digits", "train.epoch=2"], "train.epoch is not a key .did you mean train.epochs"),
        (["digits", "data.source=nowhere/at/all"], "nowhere/at/all"),
        (["digits", "head.num_classes=7"], "head.num_classes must be 10, .*got 7"),
        (["digits", "train.batch_size=2000", "train.accumulate=2000"], "at least batch_size = 2"),
        (["digits", "--resume"], "there is no checkpoint .*last.pt to resume from"),
        (["digits", "train.log=[wandb]"], "wandb"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, words, message):
    status, _, err = run(*words, "data.workers=0", "--out", str(tmp_path / "run"))
    assert status == 2
    said = err.rpartition("\r")[2]  # after a progress bar
    assert re.fullmatch(rf"fovigraph: .*{message}.*\n", said)


def test_a_folder_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = run("digits", *QUICK, "--out", str(tmp_path / "file"))
    assert status == 2
    assert "argument --out" in err
