"""The training loop: what it learns, and that nothing can knock it off its course."""

import csv
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch

import fovigraph as fg
from fovigraph.train import load_recipe
from fovigraph.train.checkpoint import CheckpointError, read
from fovigraph.train.images import DataError
from fovigraph.train.interrupt import Interrupted
from fovigraph.train.optim import learning_rate
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


@pytest.fixture(scope="session")
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
    trainer, history = fit(recipe(*FAST), tmp_path)
    assert history[-1]["test_accuracy"] > 0.9
    assert history[-1]["loss"] < history[0]["loss"]
    assert all(0 <= row["waiting"] <= 1 and row["images_per_second"] > 0 for row in history)

    net = fg.FoviNet.from_pretrained(tmp_path)
    images = torch.rand(3, 3, 32, 32)
    where = [[0.5, 0.5], [0.4, 0.6]]
    assert torch.equal(net(images, where).logits, trainer.net.eval()(images, where).logits)
    assert load_recipe(tmp_path / "recipe.yaml").train.epochs == 8
    assert "test accuracy" in (tmp_path / "README.md").read_text()
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert rows[0].startswith("step,epoch,learning_rate,loss,accuracy,images_per_second,waiting")
    assert len(rows) == 1 + 8 * (4 + 1)  # 72 images make 4 batches; one row more for every epoch


def rows(folder):
    """The rows of a run's figures, but for its speed, which is there in every row."""
    with (folder / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    for row in table:
        assert float(row.pop("images_per_second")) >= 0
        assert 0 <= float(row.pop("waiting")) <= 1
    return table


FAST = ["train.epochs=8", "optimizer.learning_rate=0.01"]
VARIED = ["optimizer.momentum=0.8", "augment.flip=0.5", "augment.jitter=0.5"]
VARIED += ["fixation.spread=0.2", "train.log_every=2"]


@pytest.fixture(scope="module")
def uninterrupted(recipe, tmp_path_factory):
    """The folder and the history of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    _, history = fit(recipe(*VARIED), folder)
    return folder, history


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
    [
        ("_step", 1), ("_step", 3), ("_step", 4), ("_step", 7),
        ("_evaluate", 0), ("_evaluate", 1), ("_save", 1), ("_save", 4),
    ],
)  # fmt: skip
@pytest.mark.parametrize("save_every", [1, 3])
def test_a_crashed_run_that_is_resumed_ends_with_the_same_weights(
    recipe, uninterrupted, tmp_path, monkeypatch, method, number, save_every
):
    whole, history = uninterrupted
    overrides = [*VARIED, f"train.save_every={save_every}"]
    with monkeypatch.context() as patch:
        crash_at(patch, method, number)
        with pytest.raises(Crash):
            fit(recipe(*overrides), tmp_path / "crashed")
    saved = (tmp_path / "crashed/checkpoints/last.pt").exists()  # or it begins anew
    _, resumed = fit(recipe(*overrides), tmp_path / "crashed", resume=saved)

    assert_same(weights(whole), weights(tmp_path / "crashed"))
    speed = ("images_per_second", "waiting")
    for a, b in zip(history, resumed, strict=True):
        assert {k: v for k, v in a.items() if k not in speed} == {
            k: v for k, v in b.items() if k not in speed
        }
    assert rows(whole) == rows(tmp_path / "crashed")


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
    net = fg.FoviNet.from_pretrained(tmp_path / "stopped")  # to be looked at and evaluated
    stopped = weights(tmp_path / "stopped")
    assert_same({f"net.{name}": value for name, value in net.state_dict().items()}, stopped)
    fit(recipe(), tmp_path / "stopped", resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    assert rows(tmp_path / "whole") == rows(tmp_path / "stopped")


def test_a_run_stopped_before_its_first_checkpoint_says_how_to_go_on(recipe, tmp_path, monkeypatch):
    crash_at(monkeypatch, "_step", 2)
    with pytest.raises(Crash):
        fit(recipe(), tmp_path)
    again = f"fovigraph train {tmp_path}/recipe.yaml --out {tmp_path}"
    with pytest.raises(FileNotFoundError, match="is a training run that has not written") as error:
        fg.FoviNet.from_pretrained(tmp_path)
    assert str(error.value).endswith(again)
    monkeypatch.undo()
    fit(load_recipe(tmp_path / "recipe.yaml"), tmp_path)


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
    changed = r"fixation\.count was 2, is 3 \(what may change: .*train\.epochs"
    with pytest.raises(CheckpointError, match=changed):
        fit(recipe("fixation.count=3"), tmp_path, resume=True)
    _, history = fit(recipe("train.epochs=1", "data.workers=1"), tmp_path, resume=True)
    assert len(history) == 1  # it was complete


def test_a_finished_run_is_extended(recipe, tmp_path):
    fit(recipe("train.epochs=1"), tmp_path)
    trainer, history = fit(recipe("train.epochs=3"), tmp_path, resume=True)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert load_recipe(tmp_path / "recipe.yaml").train.epochs == 3
    # The cosine is that of three epochs of 4 steps, the first of which is the warm-up.
    rates = [float(row["learning_rate"]) for row in rows(tmp_path)]
    assert rates[5] == learning_rate(trainer.recipe.optimizer, 4, 12, 4) == 1e-3
    assert rates[-1] == learning_rate(trainer.recipe.optimizer, 11, 12, 4)
    with pytest.raises(CheckpointError, match=r"train\.epochs must be at least 3, .* got 2"):
        fit(recipe("train.epochs=2"), tmp_path, resume=True)


def test_activation_checkpointing_changes_no_weights(recipe, tmp_path):
    fit(recipe(), tmp_path / "kept")
    again = recipe("train.activation_checkpointing=true")
    trainer, _ = fit(again, tmp_path / "again")
    assert trainer.net.backbone.activation_checkpointing
    assert_same(weights(tmp_path / "kept"), weights(tmp_path / "again"))
    fit(again, tmp_path / "kept", resume=True)  # it may change when a run goes on


def test_a_run_stops_early_and_goes_on_with_more_patience(recipe, tmp_path):
    still = ["optimizer.learning_rate=1e-30", "backbone.norm=channel", "projector.norm=channel"]
    still += ["train.epochs=5"]
    trainer, history = fit(recipe(*still, "train.patience=2"), tmp_path)
    assert trainer.stopped_early
    assert len(history) == 3
    _, history = fit(recipe(*still, "train.patience=3"), tmp_path, resume=True)
    assert len(history) == 4


def test_a_run_of_a_released_version_goes_on(recipe, tmp_path, monkeypatch):
    fit(recipe(), tmp_path / "whole")
    with monkeypatch.context() as patch:
        crash_at(patch, "_step", 5)
        with pytest.raises(Crash):
            fit(recipe(), tmp_path / "old")
    saved = read(tmp_path / "old/checkpoints/last.pt")
    old = saved["recipe"]
    for section, keys in {
        "data": ["set_classes"],
        "optimizer": ["eps", "layer_decay", "reference_batch", "schedule"],
        "objective": ["probe_layers"],
        "train": [
            "activation_checkpointing",
            "start",
            "freeze",
            "frozen_statistics",
            "ema",
            "patience",
        ],
        "head": ["aggregation", "aggregation_width", "class_names", "temperature", "sharpening"],
        "fixation": ["in_eval", "eval_count"],
    }.items():
        for key in keys:
            del old[section][key]
    old["fixation"]["random_in_eval"] = False
    del saved["progress"]["stale"]
    torch.save(saved, tmp_path / "old/checkpoints/last.pt")
    fit(recipe(), tmp_path / "old", resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "old"))


def test_the_network_is_calibrated_and_has_the_names_of_the_data(recipe, tmp_path):
    trainer, _ = fit(recipe("train.epochs=1", "head.temperature=7"), tmp_path)
    net = fg.FoviNet.from_pretrained(tmp_path)
    assert net.class_names == ["class0", "class1", "class2"]
    assert net.calibration == trainer.net.calibration != fg.models.Calibration()
    assert net.calibration.temperature != 7
    card = (tmp_path / "README.md").read_text()
    assert "| class names | class0, class1, class2 |" in card
    assert "| calibration | calibrated on 24 held-out images with 16 fixations: temp" in card
    again, _ = fit(recipe("train.epochs=1", "head.temperature=7"), tmp_path, resume=True)
    assert again.net.calibration == net.calibration


def test_a_network_learns_the_classes_in_the_order_of_its_recipe(recipe, tmp_path):
    override = "head.class_names=[class2, class0, class1]"
    _, history = fit(recipe(override, *FAST), tmp_path)
    assert history[-1]["test_accuracy"] > 0.9
    red = torch.tensor([220, 60, 60], dtype=torch.uint8)[:, None, None].expand(3, 32, 32)
    [answer] = fg.FoviNet.from_pretrained(tmp_path).predict([red])
    assert answer.name == "class0"


def test_a_trained_network_is_started_from(recipe, tmp_path):
    fit(recipe(*FAST), tmp_path / "first")
    start = [f"train.start={tmp_path / 'first'}", "train.epochs=1", "train.freeze=[backbone]"]
    trainer, history = fit(recipe(*start), tmp_path / "second")
    assert "tensors taken over (backbone, projector, head)" in trainer.notes[1]
    assert history[0]["test_accuracy"] > 0.9
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    kept = [name for name in first if name.startswith("net.backbone.")]
    assert_same({name: first[name] for name in kept}, {name: second[name] for name in kept})
    assert not torch.equal(first["net.head.1.weight"], second["net.head.1.weight"])


def test_the_average_of_weights_is_evaluated_saved_and_taken_up(recipe, tmp_path, monkeypatch):
    averaged = recipe("train.ema=0.9", "train.save_every=1")
    _, history = fit(averaged, tmp_path / "whole")
    _, plain = fit(recipe("train.save_every=1"), tmp_path / "plain")
    with monkeypatch.context() as patch:
        crash_at(patch, "_step", 6)
        with pytest.raises(Crash):
            fit(averaged, tmp_path / "crashed")
    fit(averaged, tmp_path / "crashed", resume=True)
    whole = read(tmp_path / "whole/checkpoints/last.pt")
    assert_same(whole["average"], read(tmp_path / "crashed/checkpoints/last.pt")["average"])
    assert_same(whole["weights"], weights(tmp_path / "plain"))  # training is as without
    saved = fg.FoviNet.from_pretrained(tmp_path / "whole").state_dict()
    assert_same({f"net.{name}": value for name, value in saved.items()}, whole["average"])
    assert history[0]["test_loss"] != plain[0]["test_loss"]


@pytest.fixture(scope="session")
def several(tmp_path_factory):
    """A folder of images, each with bright channels that are its labels, or none."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("several")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 72), ("test", 24)):
        (folder / split).mkdir()
        lines = []
        for index in range(count):
            bright = torch.tensor([index & 1, index & 2, index & 4]) > 0
            noise = torch.randint(-50, 50, (32, 36, 3), generator=generator)
            pixels = (60 + 150 * bright + noise).clamp(0, 255).to(torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / split / f"{index}.png")
            labels = [name for name, is_there in zip("rgb", bright, strict=True) if is_there]
            lines.append(json.dumps({"file_name": f"{index}.png", "labels": labels}))
        (folder / split / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_several_labels_are_learnt_calibrated_and_remembered(recipe, several, tmp_path):
    words = [f"data.source={several}", "objective.name=multi_label", "objective.probes=true"]
    words += [*FAST, "projector.dropout=0", "head.dropout=0"]
    trainer, history = fit(recipe(*words), tmp_path)
    assert trainer.notes[0].startswith("3 classes, of which an image may have several, of ")
    assert history[-1]["test_roc_auc"] > 0.95 and history[-1]["test_average_precision"] > 0.95
    assert history[-1]["test_accuracy"] > 0.85 > history[-1]["loss"]
    assert "test_probe2_accuracy" in history[-1]
    net = fg.FoviNet.from_pretrained(tmp_path)
    assert net.config.head.multi_label and net.class_names == ["b", "g", "r"]
    assert type(net.calibration) is fg.models.MultiLabelCalibration
    assert net.calibration.temperature != 1
    assert net.predict(several / "test/7.png")[0].labels is not None
    assert "| test average precision |" in (tmp_path / "README.md").read_text()
    assert "test_average_precision" in (tmp_path / "metrics.csv").read_text().splitlines()[0]
    best = max(row["test_average_precision"] for row in history)
    assert trainer.progress.best == best


def test_several_labels_in_two_processes_are_scored_as_in_one(several, tmp_path):
    words = ["objective.name=multi_label", "train.accelerator=cpu", "train.epochs=1"]
    words += ["projector.dropout=0", "head.dropout=0", "objective.label_smoothing=0.1"]
    for devices in (1, 2):
        more = [*words, f"train.devices={devices}"]
        line = command(more, several, tmp_path / str(devices))
        subprocess.run(line, check=True, capture_output=True)
    one, two = (rows(tmp_path / name)[-1] for name in "12")
    for name in ("test_roc_auc", "test_average_precision", "test_loss"):
        assert float(one[name]) == pytest.approx(float(two[name]), abs=2e-3)


def test_a_network_of_several_labels_may_become_one_of_one(recipe, tmp_path):
    trainer, _ = fit(recipe("head.multi_label=true", "train.epochs=1"), tmp_path)
    assert not trainer.net.config.head.multi_label
    assert not fg.FoviNet.from_pretrained(tmp_path).config.head.multi_label
    fit(recipe("head.multi_label=true", "train.epochs=2"), tmp_path, resume=True)


def test_several_labels_need_scikit_learn_before_anything_is_read(recipe, several, tmp_path):
    words = [f"data.source={several}", "objective.name=multi_label"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "sklearn", None)
        with pytest.raises(ImportError, match=r"need scikit-learn: pip install 'fovigraph\[train"):
            fit(recipe(*words), tmp_path)


def test_without_a_source_there_is_nothing_to_learn_from(tmp_path):
    with pytest.raises(DataError, match=r"data\.source must say what to learn from"):
        Trainer(load_recipe("fovi_tiny"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten(recipe, tmp_path):
    fit(recipe("train.epochs=1"), tmp_path)
    with pytest.raises(CheckpointError, match="holds a run already"):
        fit(recipe("train.epochs=1"), tmp_path)


def test_a_second_run_in_a_folder_is_refused_while_the_first_is_alive(recipe, tmp_path):
    fit(recipe("train.epochs=1"), tmp_path / "done")
    begun = Trainer(recipe(), tmp_path / "run", quiet=True)
    table = (tmp_path / "run/metrics.csv").read_bytes()
    with pytest.raises(CheckpointError, match=rf"another run is writing .*process {os.getpid()}"):
        Trainer(recipe("train.seed=5"), tmp_path / "run", quiet=True)
    assert (tmp_path / "run/metrics.csv").read_bytes() == table
    assert load_recipe(tmp_path / "run/recipe.yaml").train.seed == 0

    resumed = Trainer(recipe("train.epochs=1"), tmp_path / "done", quiet=True, resume=True)
    with pytest.raises(CheckpointError, match="another run is writing"):
        Trainer(recipe("train.epochs=1"), tmp_path / "done", quiet=True, resume=True)
    for trainer in (begun, resumed):
        trainer.fit()
    fit(recipe(), tmp_path / "run", resume=True)


def test_a_run_that_cannot_begin_leaves_the_folder_to_others(recipe, tmp_path):
    with pytest.raises(DataError) as kept:  # with its traceback, and so the trainer
        Trainer(recipe("head.num_classes=10"), tmp_path, quiet=True)
    fit(recipe("train.epochs=1"), tmp_path)
    assert kept.value


ONE_VALUE = ["train.batch_size=1", "fixation.count=1"]


@pytest.mark.parametrize(
    ("overrides", "norm"),
    [
        (ONE_VALUE, "projector"),
        (["train.batch_size=4", "train.accumulate=4", "fixation.count=1"], "projector"),
        ([*ONE_VALUE, "projector.channels=[]", "backbone.strides=[1, 5]"], "backbone"),
    ],
)
def test_batch_norms_of_one_value_are_refused_before_the_start(recipe, tmp_path, overrides, norm):
    keys = rf"train\.batch_size=\d, train\.accumulate=\d and fixation\.count=1 .*{norm}\.norm"
    with pytest.raises(ValueError, match=keys):
        Trainer(recipe(*overrides), tmp_path, quiet=True)
    fit(recipe(*overrides, f"{norm}.norm=channel", "train.epochs=1"), tmp_path / "other")


def test_one_image_at_a_time_will_do_where_no_batch_norm_gets_one_value(recipe, tmp_path):
    for name, override in (("two", "fixation.count=2"), ("none", "projector.channels=[8]")):
        overrides = [*ONE_VALUE, override, "train.epochs=1"]
        fit(recipe(*overrides), tmp_path / name)


def test_too_few_images_that_can_be_read_are_said(recipe, images, tmp_path):
    shutil.copytree(images, tmp_path / "images")
    broken = sorted((tmp_path / "images/train").rglob("*.png"))[:-1]
    for path in broken:
        path.write_bytes(b"no image")
    overrides = [f"data.source={tmp_path / 'images'}", "fixation.count=1", "train.batch_size=72"]
    with pytest.raises(DataError, match="needs at least 2 images, and only 1 of its batch can"):
        fit(recipe(*overrides), tmp_path / "run")


def test_parts_of_a_batch_with_broken_images_have_enough_of_them(recipe, images, tmp_path):
    shutil.copytree(images, tmp_path / "images")
    for path in sorted((tmp_path / "images/train").rglob("*.png"))[:-3]:
        path.write_bytes(b"no image")
    overrides = [f"data.source={tmp_path / 'images'}", "fixation.count=1", "train.batch_size=72"]
    trainer, _ = fit(recipe(*overrides, "train.accumulate=4", "train.epochs=1"), tmp_path / "run")
    assert len(trainer.skipped) == 69


def test_weights_that_are_not_finite_do_not_replace_those_that_were_saved(
    recipe, tmp_path, monkeypatch
):
    original = Trainer._step

    def step(self, *args):
        figures = original(self, *args)
        if self.progress.step == 5:
            torch.nn.init.constant_(self.net.head[1].bias, torch.nan)
        return figures

    monkeypatch.setattr(Trainer, "_step", step)
    with pytest.raises(TrainingError, match=r"after step 6 .* not finite: net\.head\.1\.bias;"):
        fit(recipe("train.save_every=3"), tmp_path)
    assert weights(tmp_path)["net.head.1.bias"].isfinite().all()
    assert fg.FoviNet.from_pretrained(tmp_path).head[1].bias.isfinite().all()


def test_features_that_are_not_finite_do_not_end_a_run(recipe, tmp_path, monkeypatch, caplog):
    original = Trainer._figures_of

    def figures_of(self, batches):
        for figures, batch in original(self, batches):
            yield figures._replace(features=figures.features * torch.inf), batch

    monkeypatch.setattr(Trainer, "_figures_of", figures_of)
    overrides = ["objective.name=vicreg", "train.epochs=1"]
    with caplog.at_level(logging.WARNING, logger="fovigraph"):
        _, history = fit(recipe(*overrides), tmp_path)
    assert math.isnan(history[0]["knn_accuracy"])
    assert "no kNN accuracy: after step 4 features are not finite" in caplog.text


def test_a_network_that_could_not_be_saved_is_refused_before_the_start(recipe, tmp_path):
    def make(config):
        net = fg.FoviNet(config)
        net.head = fg.models.LinearProbe(net.projector.out_features, 3).append(
            torch.nn.Linear(3, 3)
        )
        return net

    with pytest.raises(ValueError, match=r"net cannot be saved: .*\s.*unexpected: head\.2"):
        Trainer(recipe(), tmp_path, make_net=make)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"recipe": {"train": {}}}, "recipe must be a training recipe, as load_recipe reads it"),
        ({"recipe": fg.load_config("fovi_tiny")}, "recipe must be a training recipe"),
        ({"folder": 3}, "folder must be a path"),
        ({"resume": "no"}, "resume must be True or False, got 'no'"),
        ({"quiet": None}, "quiet must be True or False, got None"),
        ({"make_net": "alexnet"}, "make_net must be a function or None, got 'alexnet'"),
        ({"make_net": lambda config: torch.nn.Linear(2, 2)}, "what make_net returns must be a Fov"),
    ],
)
def test_arguments_of_a_wrong_type_are_named(recipe, tmp_path, wrong, message):
    options = {"recipe": recipe(), "folder": tmp_path, **wrong}
    with pytest.raises(TypeError, match=message):
        Trainer(**options)


def test_the_home_folder_is_understood(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Trainer(recipe(), "~/run").folder == tmp_path / "run"


def spoil_weights(saved):
    saved["weights"]["net.head.1.bias"] = saved["weights"]["net.head.1.bias"].to(torch.int8)


def spoil_shape(saved):
    saved["weights"]["net.head.1.bias"] = torch.zeros(4)


def spoil_values(saved):
    saved["weights"]["net.head.1.bias"][1] = torch.nan


def spoil_optimizer(saved):
    del saved["optimizer"]


def spoil_progress(saved):
    saved["progress"]["steps"] = 3


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_weights, r"'weights' .*net\.head\.1\.bias: dtype torch\.int8"),
        (spoil_shape, r"'weights' .*net\.head\.1\.bias: shape \[4\], needed \[3\]"),
        (spoil_values, r"'weights' .*net\.head\.1\.bias: 1 of 3 values are NaN"),
        (spoil_optimizer, "'optimizer' is not what this run needs"),
        (spoil_progress, "'progress' is not what this run needs"),
    ],
)
def test_a_checkpoint_with_something_wrong_is_refused_by_name(recipe, tmp_path, spoil, message):
    fit(recipe("train.epochs=1"), tmp_path)
    saved = read(tmp_path / "checkpoints/last.pt")
    spoil(saved)
    torch.save(saved, tmp_path / "checkpoints/last.pt")
    with pytest.raises(CheckpointError, match=message):
        fit(recipe("train.epochs=1"), tmp_path, resume=True)


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


def test_fewer_images_than_a_batch_are_one_smaller_batch(recipe, tmp_path):
    smaller = ["train.batch_size=160", "train.accumulate=5", "train.epochs=1"]
    trainer, _ = fit(recipe(*smaller), tmp_path)
    assert trainer.notes[1].startswith("a batch has 70 images, as there are fewer")
    assert trainer.progress.step == 1
    assert load_recipe(tmp_path / "recipe.yaml").train.batch_size == 70
    longer = [*smaller[:2], "train.epochs=2"]
    resumed, _ = fit(recipe(*longer), tmp_path, resume=True)
    assert resumed.progress.step == 2
    with pytest.raises(CheckpointError, match=r"train\.batch_size was 70, is 35"):
        fit(recipe("train.batch_size=35", *longer[1:]), tmp_path, resume=True)


def test_a_smaller_batch_of_one_value_a_channel_is_refused(recipe, images, tmp_path):
    for label, names in enumerate((["0", "1"], ["0"], ["0"])):
        (tmp_path / f"images/class{label}").mkdir(parents=True)
        for name in names:
            source = images / f"train/class{label}/{name}.png"
            shutil.copy(source, tmp_path / f"images/class{label}")
    few = [f"data.source={tmp_path / 'images'}", "data.holdout=0.5", "fixation.count=1"]
    with pytest.raises(ValueError, match=r"train\.batch_size=1, .* one value a channel"):
        fit(recipe(*few), tmp_path / "run")


def test_fewer_images_than_the_parts_of_a_batch(recipe, tmp_path):
    with pytest.raises(DataError, match="at least batch_size = 100 images, got 72"):
        fit(recipe("train.batch_size=100", "train.accumulate=100"), tmp_path)


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


KILLED = """
import os, signal, sys, time
from pathlib import Path
from fovigraph.train import load_recipe
from fovigraph.train.trainer import Trainer

whole, killed, *overrides = sys.argv[1:]
recipe = load_recipe("fovi_tiny", overrides)

def start(folder, resume):
    child = os.fork()  # before anything was computed, so nothing of it is shared
    if child == 0:
        Trainer(recipe, folder, resume=resume, quiet=True).fit()
        os._exit(0)
    return child

def finish(child):
    return os.waitpid(child, 0)[1]

assert finish(start(whole, False)) == 0
table = Path(killed, "metrics.csv")
for resume, rows in ((False, 5), (True, 15)):
    child = start(killed, resume)
    while not table.exists() or len(table.read_text().splitlines()) < rows:
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    assert finish(child) == signal.SIGKILL, "it had ended before"
assert finish(start(killed, True)) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_killed_run_that_is_resumed_ends_with_the_same_weights(images, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    overrides = ["train.epochs=6", "train.save_every=3", "train.accelerator=cpu"]
    where = [f"data.source={images}", "head.num_classes=3"]
    words = [sys.executable, "-c", KILLED, whole, killed, *SMALL, *where, *overrides]
    subprocess.run(words, check=True, timeout=100)
    assert_same(weights(whole), weights(killed))
    assert rows(whole) == rows(killed)
