"""The command `fovigraph train`."""

import re

import pytest

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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["digit"], "CONFIG must be the path of a YAML file or one of .*did you mean 'digits'"),
        (["digits", "train.epoch=2"], "train.epoch is not a key .did you mean train.epochs"),
        (["digits", "data.source=nowhere/at/all"], "nowhere/at/all"),
        (["digits", "head.num_classes=7"], "head.num_classes must be 10, .*got 7"),
        (["digits", "train.batch_size=5000"], "there must be at least batch_size = 5000 images"),
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
