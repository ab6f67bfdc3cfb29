"""Evaluation: accuracy, calibration, speed and cost."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, replace
from typing import NamedTuple

import pytest
import torch
from sklearn.metrics import roc_auc_score

import fovigraph as fg
from fovigraph.models import Calibration, MultiLabelCalibration
from fovigraph.models.cost import describe
from fovigraph.sensing import fixation_policy
from fovigraph.train import evaluate as module
from fovigraph.train.evaluate import evaluate
from fovigraph.train.evaluation import ClassSums, LabelSums

CLASSES = 7


class Batch(NamedTuple):
    images: torch.Tensor
    labels: torch.Tensor


def network(*overrides, classes=CLASSES):
    """An untrained network that tells classes by chance, but is sure of them."""
    settings = ["retina.side=16", f"head.num_classes={classes}", "fixation.count=2", *overrides]
    net = fg.FoviNet(fg.load_config("fovi_tiny", settings)).eval()
    with torch.no_grad():
        typical = net(torch.rand(8, 3, 24, 24)).embeddings.mean((0, 1))
        net.head[-1].weight *= 100
        net.head[-1].bias.copy_(-net.head[-1].weight @ typical)
    return net


@pytest.fixture
def net():
    return network()


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(30, 3, 6, 6, generator=generator)
    return (torch.nn.functional.interpolate(coarse, size=24) * 255).to(torch.uint8)


@pytest.fixture(scope="module")
def labels():
    return torch.randint(CLASSES, (30,), generator=torch.Generator().manual_seed(4))


def batches(images, labels, size=8):
    return [Batch(*pair) for pair in zip(images.split(size), labels.split(size), strict=True)]


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def test_is_what_the_network_computes(net, images, labels):
    result = evaluate(net, batches(images, labels), fixations=5, generator=seeded())
    where = fixation_policy("near_center", 5).eval()(images, seeded()).location
    with torch.no_grad():
        by_count = [net(images, where[:, : n + 1]).logits for n in range(5)]
    right = [(logits.argmax(1) == labels).float().mean().item() for logits in by_count]
    assert result.top1_by_fixations == pytest.approx(right)
    assert len(set(right)) > 1
    assert result.top1 == pytest.approx(right[-1])
    top5 = by_count[-1].topk(5).indices == labels[:, None]
    assert result.top5 == pytest.approx(top5.any(1).float().mean().item())
    loss = torch.nn.functional.nll_loss(by_count[-1], labels)
    assert result.loss == pytest.approx(loss.item(), rel=1e-5)
    assert (result.images, result.fixations, result.note) == (30, 5, None)
    confusion = torch.zeros(CLASSES, CLASSES, dtype=torch.int64)
    for label, told in zip(labels, by_count[-1].argmax(1), strict=True):
        confusion[label, told] += 1
    assert result.confusion == confusion.tolist()
    for i, score in enumerate(result.classes):
        assert (score.name, score.images) == (str(i), int((labels == i).sum()))
        assert score.accuracy == pytest.approx(confusion[i, i].item() / score.images)


@pytest.mark.parametrize("several", [False, True])
def test_view_areas_are_evaluated_beside(images, labels, several):
    net = network(f"head.multi_label={several}", "fixation.in_eval=random")
    truth = torch.rand(30, CLASSES, generator=seeded()) < 0.4 if several else labels
    alone = evaluate(net, batches(images, truth), fixations=3, generator=seeded())
    result = evaluate(
        net, batches(images, truth), fixations=3, generator=seeded(), areas=[0.25, 1.0]
    )
    assert result.by_fixations == alone.by_fixations
    assert [each.area for each in result.by_area] == [0.25, 1.0]
    assert result.by_area[1].by_fixations == pytest.approx(alone.by_fixations)
    config = replace(net.config, fixation=replace(net.config.fixation, eval_area=0.25))
    narrow = fg.FoviNet(config)
    narrow.load_state_dict(net.state_dict())
    expected = evaluate(narrow, batches(images, truth), fixations=3, generator=seeded())
    assert result.by_area[0].by_fixations == pytest.approx(expected.by_fixations)
    assert expected.by_fixations != alone.by_fixations


def test_weighted_roc_auc_is_scikit_learns(net, images, labels):
    result = evaluate(net, batches(images, labels), fixations=2)
    with torch.no_grad():
        chances = net(images, 2).probabilities
    expected = roc_auc_score(labels, chances, multi_class="ovr", average="weighted")
    assert result.roc_auc_weighted == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["mean_logits", "gru", "attention"])
@pytest.mark.parametrize("several", [False, True])
def test_fixations_are_put_together_as_the_network_does(images, labels, name, several):
    net = network(f"head.aggregation={name}", f"head.multi_label={several}", "head.sharpening=0.7")
    truth = torch.rand(30, CLASSES, generator=seeded()) < 0.4 if several else labels
    result = evaluate(net, batches(images, truth), fixations=5, generator=seeded())
    where = fixation_policy("near_center", 5).eval()(images, seeded()).location
    with torch.no_grad():
        by_count = [net(images, where[:, : n + 1]).logits for n in range(5)]
    if several:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(by_count[-1], truth.float())
        right = ((by_count[-1] >= 0) == truth).float().mean()
        assert result.accuracy == pytest.approx(right.item())
    else:
        right = [(logits.argmax(1) == labels).float().mean().item() for logits in by_count]
        assert result.top1_by_fixations == pytest.approx(right)
        loss = torch.nn.functional.cross_entropy(by_count[-1], labels)
    assert result.loss == pytest.approx(loss.item(), rel=1e-4)


def test_size_of_batches_makes_no_difference(net, images, labels):
    some, all_at_once = (
        asdict(evaluate(net, batches(images, labels, size), fixations=3, generator=seeded()))
        for size in (7, 30)
    )
    for key in ("top1_by_fixations", "confusion", "classes"):
        assert some[key] == all_at_once[key]
    assert some["loss"] == pytest.approx(all_at_once["loss"], rel=1e-5)


def test_memory_is_that_of_the_configurations_fixations(net, images, labels, monkeypatch):
    seen = []
    forward = net.forward
    monkeypatch.setattr(net, "forward", lambda x, where: seen.append(where) or forward(x, where))
    evaluate(net, batches(images[:4], labels[:4]), fixations=5)
    assert [where.shape[1] for where in seen] == [2, 2, 1] + [2] * (1 + module.RUNS)


def test_is_plain_data(net, images, labels):
    result = evaluate(net, batches(images, labels), fixations=2)
    assert json.loads(json.dumps(asdict(result), allow_nan=False)) == asdict(result)


def test_speed_and_cost(net, images, labels):
    result = evaluate(net, batches(images, labels), fixations=3)
    assert result.images_per_second > 0
    assert (result.speed_images, result.speed_fixations, result.device) == (8, 2, "cpu")
    assert describe(net)["total"] == {"parameters": result.parameters, "flops": result.flops}


def test_network_in_training_is_evaluated(net, images, labels):
    expected = evaluate(net, batches(images, labels), fixations=2, generator=seeded())
    result = evaluate(net.train(), batches(images, labels), fixations=2, generator=seeded())
    assert result.top1_by_fixations == expected.top1_by_fixations
    assert result.loss == expected.loss
    assert not net.training


def test_random_state_stays_as_it_is(net, images, labels):
    before = torch.get_rng_state()
    evaluate(net, batches(images, labels), fixations=2, generator=seeded())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("overrides", [[], ["fixation.eval_count=3"]])
def test_it_looks_as_often_as_the_network_unless_told(images, labels, overrides):
    net = network(*overrides)
    result = evaluate(net, batches(images, labels))
    out = net(images)
    assert result.fixations == out.fixations.shape[1]
    assert result.top1 == pytest.approx((out.logits.argmax(1) == labels).float().mean().item())
    assert result.note is None


@pytest.mark.parametrize("overrides", [["fixation.policy=center"], ["fixation.in_eval=center"]])
def test_one_place_is_looked_at_once(images, labels, overrides):
    result = evaluate(network(*overrides), batches(images, labels))
    assert result.fixations == len(result.top1_by_fixations) == 1
    assert "centre alone" in result.note


def test_given_places_are_all_there_are(images, labels):
    places = [[0.2, 0.2], [0.5, 0.5], [0.8, 0.3]]
    net = network("fixation.policy=explicit", "fixation.count=3", f"fixation.fixations={places}")
    result = evaluate(net, batches(images, labels), fixations=20)
    assert result.fixations == 3
    assert "gives 3 places" in result.note
    right = (net(images).logits.argmax(1) == labels).float().mean().item()
    assert result.top1 == pytest.approx(right)
    fewer = evaluate(net, batches(images, labels), fixations=2)
    assert fewer.top1_by_fixations == result.top1_by_fixations[:2]
    assert fewer.note is None


def test_top5_of_five_classes_is_not_told(images):
    few = batches(images, torch.arange(30) % 5)
    assert evaluate(network(classes=5), few, fixations=1).top5 is None


def test_a_class_without_images_has_no_accuracy(net, images):
    result = evaluate(net, batches(images, torch.zeros(30).long()), fixations=1)
    assert [score.accuracy for score in result.classes[1:]] == [None] * (CLASSES - 1)


def test_names_of_classes(images):
    net = network(classes=2)
    result = evaluate(net, batches(images, torch.arange(30) % 2), classes=["cat", "dog"])
    assert [(score.name, score.images) for score in result.classes] == [("cat", 15), ("dog", 15)]


def test_names_of_classes_are_the_networks_if_none_are_given(images):
    config = fg.load_config("fovi_tiny", ["head.num_classes=2", "head.class_names=[cat,dog]"])
    result = evaluate(fg.FoviNet(config), batches(images, torch.arange(30) % 2))
    assert [score.name for score in result.classes] == ["cat", "dog"]


def test_calibration_error_is_that_of_torchmetrics():
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    logits, labels = 2 * torch.randn(500, 1, 4), torch.randint(4, (500,))
    counts = ClassSums(4, 1, Calibration())
    counts.add(logits[:300], labels[:300])
    counts.add(logits[300:], labels[300:])
    found = counts.figures("abcd")
    expected = metrics.multiclass_calibration_error(logits[:, 0], labels, 4, n_bins=15)
    assert found["calibration_error"] == pytest.approx(expected.item(), rel=1e-5)
    assert sum(part.images for part in found["reliability"]) == 500
    for part in found["reliability"]:
        assert part.images == 0 or part.low < part.confidence <= part.high


def test_sure_and_right_is_calibrated():
    counts = ClassSums(3, 1, Calibration())
    counts.add(torch.tensor([[[99.0, 0.0, 0.0]], [[0.0, 0.0, 99.0]]]), torch.tensor([0, 2]))
    found = counts.figures("abc")
    assert found["calibration_error"] == 0
    assert found["reliability"][-1].images == 2
    assert found["reliability"][0].confidence is None


def test_many_classes_have_no_matrix():
    counts = ClassSums(101, 1, Calibration())
    counts.add(torch.randn(3, 1, 101), torch.tensor([0, 50, 100]))
    assert counts.figures([""] * 101)["confusion"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fixations": 0}, "fixations must be at least 1, got 0"),
        ({"areas": [0.5, 2.0]}, r"areas\[1\] must be"),
        ({"classes": ["cat"]}, "classes must be the names of the network's 7 classes, got 1"),
        ({"batches": []}, "batches must hold at least 1 image"),
        ({"labels": 7}, "labels must be from 0 to 6, .* got 7"),
        ({"labels": -1}, "labels must be from 0 to 6, .* got -1"),
        ({"weight": math.nan}, "net must compute finite logits"),
    ],
)
def test_bad_input(net, images, labels, options, message):
    if "labels" in options:
        labels = labels.clone()
        labels[20] = options.pop("labels")
    net.head[-1].weight.data[0, 0] *= options.pop("weight", 1)
    given = {"batches": batches(images, labels), **options}
    with pytest.raises(ValueError, match=message):
        evaluate(net, **given)


IMAGE, LABEL = torch.zeros(1, 3, 24, 24), torch.zeros(1, dtype=torch.int64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"net": torch.nn.Linear(2, 2)}, "net must be a FoviNet, got Linear"),
        ({"net": None}, "net must be a FoviNet, got None"),
        ({"batches": 3}, "batches must be an iterable of batches, got 3"),
        ({"batches": IMAGE}, r"batches must be an iterable of batches, got a torch\.Tensor"),
        ({"batches": [(IMAGE, LABEL)]}, r"batches must have tensors \.images .* and \.labels"),
        ({"batches": [Batch(IMAGE, [0])]}, r"batches must have tensors \.images .* and \.labels"),
        (
            {"batches": [Batch(IMAGE, LABEL.float())]},
            r"labels must be whole numbers, got torch\.fl",
        ),
        ({"fixations": "many"}, "fixations must be a whole number"),
        ({"classes": "abcdefg"}, "classes must be a list of names, got 'abcdefg'"),
        ({"areas": 0.5}, "areas must be a list of numbers, got 0.5"),
        ({"classes": 7}, "classes must be a list of names, got 7"),
        ({"generator": 3}, r"generator must be a torch\.Generator or None, got 3"),
    ],
)
def test_arguments_of_a_wrong_type_are_named(net, options, message):
    with pytest.raises(TypeError, match=message):
        evaluate(**{"net": net, "batches": [Batch(IMAGE, LABEL)], **options})


def test_labels_and_logits_must_be_as_many_as_needed(net):
    with pytest.raises(ValueError, match=r"labels must be one for each .*, got shape \[2\]"):
        evaluate(net, [Batch(IMAGE, LABEL.expand(2))])
    net.head = fg.models.LinearProbe(net.projector.out_features, 3)
    with pytest.raises(ValueError, match="logits of the 7 classes of its configuration, got 3"):
        evaluate(net, [Batch(IMAGE, LABEL)])


def test_roc_auc_is_each_class_against_all_others(net, images, labels):
    metrics = pytest.importorskip("sklearn.metrics")
    result = evaluate(net, batches(images, labels))
    shares = net(images).probabilities.detach().numpy()
    for index, score in enumerate(result.classes):
        wanted = metrics.roc_auc_score(labels.numpy() == index, shares[:, index])
        assert score.roc_auc == pytest.approx(wanted)
    assert result.roc_auc == pytest.approx(
        metrics.roc_auc_score(
            labels.numpy(), shares / shares.sum(1, keepdims=True), multi_class="ovr"
        )
    )


def test_roc_auc_of_one_class_is_not_told(net, images):
    result = evaluate(net, batches(images, torch.zeros(30).long()))
    assert result.roc_auc is None and result.classes[0].roc_auc is None


def test_without_scikit_learn_it_is_said_at_once(net, images, labels, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"scikit-learn: pip install 'fovigraph\[train\]'"):
        evaluate(net, batches(images, labels))


class TestSeveralLabels:
    @pytest.fixture
    def several(self):
        return torch.rand(30, CLASSES, generator=torch.Generator().manual_seed(4)) < 0.4

    @pytest.fixture
    def net(self):
        return network("head.multi_label=true", "head.sharpening=0.3")

    def test_scores_are_scikit_learns(self, net, images, several):
        metrics = pytest.importorskip("sklearn.metrics")
        result = evaluate(net, batches(images, several), fixations=3)
        out = net(images, fixation_policy("near_center", count=3).eval()(images).location)
        shares, truth = out.probabilities.detach().numpy(), several.numpy()
        assert result.roc_auc == pytest.approx(metrics.roc_auc_score(truth, shares))
        wanted = metrics.average_precision_score(truth, shares)
        assert result.average_precision == pytest.approx(wanted)
        assert result.accuracy == pytest.approx(((shares >= 0.5) == truth).mean())
        assert result.loss == pytest.approx(metrics.log_loss(truth.ravel(), shares.ravel()), 1e-3)
        assert len(result.average_precision_by_fixations) == 3
        assert result.by_fixations[-1] == result.average_precision
        assert [score.images for score in result.classes] == truth.sum(0).tolist()

    def test_calibration_error_is_over_pairs_of_image_and_class(self):
        logits, labels = 2 * torch.randn(90, 1, 4), torch.rand(90, 4) < 0.5
        sums = LabelSums(4, 1, MultiLabelCalibration())
        sums.add(logits[:50], labels[:50])
        sums.add(logits[50:], labels[50:])
        shares = logits[:, 0].sigmoid()
        expected = sum(
            (shares[inside].sum() - labels[inside].sum()).abs()
            for i in range(15)
            if (inside := (shares > i / 15) & (shares <= (i + 1) / 15)).any()
        )
        found = sums.figures("abcd")
        assert found["calibration_error"] == pytest.approx(expected.item() / 360, rel=1e-4)
        assert sum(part.images for part in found["reliability"]) == 360

    def test_a_class_without_images_has_no_score(self, net, images, several):
        several = several.clone()
        several[:, 2] = False
        result = evaluate(net, batches(images, several))
        assert result.classes[2].average_precision is result.classes[2].roc_auc is None
        assert result.classes[2].accuracy is not None and result.average_precision > 0

    def test_is_plain_data(self, net, images, several):
        result = evaluate(net, batches(images, several))
        assert json.loads(json.dumps(asdict(result), allow_nan=False)) == asdict(result)

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda x: x.long(),
            lambda x: x[:, :3],
            lambda x: x[:, 0],
        ],
    )
    def test_labels_of_the_wrong_form(self, net, images, several, wrong):
        with pytest.raises(ValueError, match=r"labels must be bool \[8, 7\], as an image may have"):
            evaluate(net, batches(images, wrong(several)))

    def test_no_label_at_all(self, net, images, several):
        with pytest.raises(ValueError, match="labels must give a class to at least 1 image"):
            evaluate(net, batches(images, several & False))
