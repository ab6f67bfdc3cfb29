"""The training loop: what it learns, and that nothing can knock it off its course."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from omegaconf import OmegaConf

import fovigraph as fg
from fovigraph.train import load_recipe
from fovigraph.train.checkpoint import CheckpointError, read
from fovigraph.train.images import DataError
from fovigraph.train.interrupt import Interrupted
from fovigraph.train.trainer import Trainer, TrainingError

SMALL = [
    "retina.side=10",
    "fixation.count=2",
    "backbone.channels=[6, 8]",
    "backbone.strides=[1, 1]",
    "backbone.k=[9, 9]",
    "backbone.pool_after=[0]",
    "projector.channels=[12, 8]",
    "data.size=32",
    "data.workers=0",
    "train.batch_size=16",
    "train.epochs=2",
    "train.log_every=1",
]


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A folder of images of three classes that differ in colour and texture."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 24), ("test", 8)):
        for label, colour in enumerate(((220, 60, 60), (60, 220, 60), (60, 60, 220))):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for index in range(count):
                noise = torch.randint(-50, 50, (32, 36, 3), generator=generator)
                pixels = (torch.tensor(colour) + noise).clamp(0, 255).to(torch.uint8)
                Image.fromarray(pixels.numpy()).save(place / f"{index}.png")
    return folder


@pytest.fixture
def recipe(images):
    def make(*overrides):
        where = [f"data.source={images}", "head.num_classes=3"]
        return load_recipe("fovi_tiny", [*SMALL, *where, *overrides])

    return make


def fit(recipe, folder, **options):
    trainer = Trainer(recipe, folder, quiet=True, **options)
    return trainer, trainer.fit()


def weights(folder):
    return read(folder / "checkpoints" / "last.pt")["weights"]


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_learns_and_leaves_a_model(recipe, tmp_path):
    trainer, history = fit(recipe("train.epochs=8", "optimizer.learning_rate=0.01"), tmp_path)
    assert history[-1]["test_accuracy"] > 0.9
    assert history[-1]["loss"] < history[0]["loss"]
    assert all(0 <= row["waiting"] <= 1 and row["images_per_second"] > 0 for row in history)

    net = fg.FoviNet.from_pretrained(tmp_path)
    images = torch.rand(3, 3, 32, 32)
    where = [[0.5, 0.5], [0.4, 0.6]]
    assert torch.equal(net(images, where).logits, trainer.net.eval()(images, where).logits)
    assert OmegaConf.load(tmp_path / "recipe.yaml").train.epochs == 8
    assert "test accuracy" in (tmp_path / "README.md").read_text()
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert rows[0].startswith("step,epoch,learning_rate,loss,accuracy,images_per_second,waiting")
    assert len(rows) == 1 + 8 * (4 + 1)  # 72 images make 4 batches; one row more for every epoch


class Crash(Exception):
    pass


def crash_at(monkeypatch, method, number):
    """Make a method of trainers fail before its call of that number."""
    original, calls = getattr(Trainer, method), iter(range(number))

    def crashing(self, *args):
        if next(calls, None) is None:
            raise Crash
        return original(self, *args)

    monkeypatch.setattr(Trainer, method, crashing)


@pytest.mark.parametrize(
    ("method", "number"),
    [("_step", 1), ("_step", 3), ("_step", 4), ("_step", 7), ("_evaluate", 0), ("_evaluate", 1)],
)
@pytest.mark.parametrize("save_every", [1, 3])
def test_a_crashed_run_that_is_resumed_ends_with_the_same_weights(
    recipe, tmp_path, monkeypatch, method, number, save_every
):
    overrides = ["optimizer.momentum=0.8", "augment.flip=0.5", "augment.jitter=0.5"]
    overrides += ["fixation.spread=0.2", f"train.save_every={save_every}"]
    _, history = fit(recipe(*overrides), tmp_path / "whole")
    with monkeypatch.context() as patch:
        crash_at(patch, method, number)
        with pytest.raises(Crash):
            fit(recipe(*overrides), tmp_path / "crashed")
    saved = (tmp_path / "crashed/checkpoints/last.pt").exists()  # or it begins anew
    _, resumed = fit(recipe(*overrides), tmp_path / "crashed", resume=saved)

    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "crashed"))
    speed = ("images_per_second", "waiting")
    for a, b in zip(history, resumed, strict=True):
        assert {k: v for k, v in a.items() if k not in speed} == {
            k: v for k, v in b.items() if k not in speed
        }
    tables = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "crashed")]
    steps = [[row.split(",")[0] for row in table.splitlines()] for table in tables]
    assert steps[0] == steps[1]


def test_what_a_signal_stops_is_saved(recipe, tmp_path, monkeypatch):
    fit(recipe(), tmp_path / "whole")
    original, before = Trainer._step, signal.getsignal(signal.SIGINT)

    def step(self, *args):
        figures = original(self, *args)
        if self.progress.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return figures

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(Interrupted, match="stopped after step 5"):
            fit(recipe(), tmp_path / "stopped")
    assert signal.getsignal(signal.SIGINT) is before
    assert read(tmp_path / "stopped/checkpoints/last.pt")["progress"]["step"] == 5
    fit(recipe(), tmp_path / "stopped", resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))


def test_a_signal_during_evaluation_does_not_lose_the_epoch(recipe, tmp_path, monkeypatch):
    fit(recipe(), tmp_path / "whole")
    original = Trainer._evaluate

    def evaluate(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_evaluate", evaluate)
        with pytest.raises(Interrupted, match="stopped after step 4"):
            fit(recipe(), tmp_path / "stopped")
    _, history = fit(recipe(), tmp_path / "stopped", resume=True)
    assert len(history) == 2
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))


def test_parts_of_a_batch_give_the_gradient_of_the_whole(recipe, tmp_path):
    overrides = ["backbone.norm=channel", "projector.norm=channel", "projector.dropout=0"]
    overrides += ["head.dropout=0", "train.epochs=1", "optimizer.name=sgd"]
    fit(recipe(*overrides), tmp_path / "whole")
    fit(recipe(*overrides, "train.accumulate=4"), tmp_path / "parts")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", ["simclr", "vicreg", "barlow_twins"])
def test_self_supervised_runs_have_an_online_probe_and_knn_accuracy(recipe, tmp_path, objective):
    overrides = [f"objective.name={objective}", "objective.probes=true", "train.epochs=6"]
    overrides += ["projector.dropout=0", "optimizer.learning_rate=0.003", "train.batch_size=24"]
    _, history = fit(recipe(*overrides), tmp_path)
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["knn_accuracy"] > 0.6
    assert {"test_probe1_accuracy", "test_probe2_accuracy"} <= history[-1].keys()


def test_probes_and_online_head_do_not_act_on_the_network(recipe, tmp_path):
    for name, probes in (("with", "true"), ("without", "false")):
        fit(recipe(f"objective.probes={probes}", "train.epochs=1"), tmp_path / name)
    with_probes, without = weights(tmp_path / "with"), weights(tmp_path / "without")
    assert len(with_probes) > len(without)
    assert_same({name: with_probes[name] for name in without}, without)


def test_the_tensorboard_gets_the_figures(recipe, tmp_path):
    fit(recipe("train.log=[tensorboard]", "train.epochs=1"), tmp_path)
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_mixed_precision(recipe, tmp_path):
    _, history = fit(recipe("train.precision=bf16-mixed", "train.epochs=1"), tmp_path)
    assert history[0]["loss"] < 10


def test_a_loss_that_is_not_finite_stops_the_run_and_saves_the_batch(recipe, tmp_path):
    with pytest.raises(TrainingError, match=r"loss of step \d is not finite"):
        fit(recipe("optimizer.learning_rate=1e30", "optimizer.warmup=0"), tmp_path)
    saved = torch.load(tmp_path / "not-finite-0.pt", weights_only=True)
    assert saved["batch"]["images"].shape == (16, 3, 32, 32)
    assert saved["views"]["location"].shape == (16, 2, 2)


def test_a_full_disk_leaves_the_last_checkpoint(recipe, tmp_path, monkeypatch):
    written = iter(range(3))

    def full(file):
        if next(written, None) is None:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match=r"No space left on device; .* is complete"):
            fit(recipe("train.save_every=1"), tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["last.pt"]
    assert read(tmp_path / "checkpoints/last.pt")["progress"]["step"] == 3
    fit(recipe("train.save_every=1"), tmp_path, resume=True)


def test_resuming_says_what_changed(recipe, tmp_path):
    fit(recipe("train.epochs=1"), tmp_path)
    with pytest.raises(CheckpointError, match=r"fixation.count was 2, is 3; train.epochs was 1"):
        fit(recipe("fixation.count=3"), tmp_path, resume=True)
    _, history = fit(recipe("train.epochs=1", "data.workers=1"), tmp_path, resume=True)
    assert len(history) == 1  # it was complete


def test_a_run_is_not_overwritten(recipe, tmp_path):
    fit(recipe("train.epochs=1"), tmp_path)
    with pytest.raises(CheckpointError, match="holds a run already"):
        fit(recipe("train.epochs=1"), tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_resuming_from_nothing_or_damage(recipe, tmp_path, content):
    if content is not None:
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints/last.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"no checkpoint|cannot read the checkpoint"):
        fit(recipe(), tmp_path, resume=True)


def test_a_recipe_for_another_task(recipe, tmp_path):
    with pytest.raises(DataError, match=r"head.num_classes must be 3, .* got 10"):
        fit(recipe("head.num_classes=10"), tmp_path)


def test_fewer_images_than_a_batch(recipe, tmp_path):
    with pytest.raises(DataError, match="at least"):
        fit(recipe("train.batch_size=128"), tmp_path)


def test_what_needs_a_gpu_says_so(recipe, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    for override in ("train.accelerator=cuda", "train.precision=16-mixed"):
        with pytest.raises(ValueError, match="needs a CUDA device"):
            fit(recipe(override), tmp_path)


def command(recipe_overrides, images, folder, *more):
    words = ["train", "fovi_tiny", *SMALL, f"data.source={images}", "head.num_classes=3"]
    return [sys.executable, "-m", "fovigraph", *words, *recipe_overrides, "--out", folder, *more]


def losses(folder):
    rows = [row.split(",") for row in (folder / "metrics.csv").read_text().splitlines()]
    return torch.tensor([float(row[rows[0].index("loss")]) for row in rows[1:]])


def test_two_processes_with_half_of_every_batch_learn_as_one(images, tmp_path):
    overrides = ["projector.dropout=0", "head.dropout=0", "augment.flip=0.5", "augment.jitter=0.5"]
    overrides += ["train.accelerator=cpu", "train.epochs=3"]
    for devices in (1, 2):
        words = command([*overrides, f"train.devices={devices}"], images, tmp_path / str(devices))
        subprocess.run(words, check=True, capture_output=True)
    one, two = losses(tmp_path / "1"), losses(tmp_path / "2")
    assert len(one) == len(two) == 3 * (4 + 1)
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)


def test_a_killed_run_that_is_resumed_ends_with_the_same_weights(images, tmp_path):
    overrides = ["train.epochs=30", "train.save_every=3"]
    subprocess.run(command(overrides, images, tmp_path / "whole"), check=True, capture_output=True)
    resume = []
    for steps in (5, 40):
        words = command(overrides, images, tmp_path / "killed", *resume)
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        table = tmp_path / "killed" / "metrics.csv"
        while not table.exists() or len(table.read_text().splitlines()) < steps:
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
        process.wait()
        resume = ["--resume"]
    subprocess.run(
        command(overrides, images, tmp_path / "killed", *resume), check=True, capture_output=True
    )
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
