"""The figures of an evaluation, and the sums over images that they follow from."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fovigraph.models import Calibration
from fovigraph.models.predict import THRESHOLD
from fovigraph.train.scores import average_precision, mean, roc_auc

TOP = 5
"""In ``top5``, an image is correct if its class is among so many of the likeliest."""

BINS = 15
"""Number of bins of confidence, in the calibration error."""

MOST_IN_MATRIX = 100
"""Classes up to which the confusion matrix is kept."""


@dataclass
class ConfidenceBin:
    """Answers of about equal confidence.

    Attributes:
        low, high: The bin: confidences above ``low``, up to ``high``.
        images: Number of answers in it: one for each image, or one for each image and class.
        confidence: Their mean confidence, the probability of the likeliest class, or that an image
            has the class; ``None``: none.
        accuracy: The fraction of them that is right, or that has the class; ``None``: none.
    """

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


@dataclass
class ClassScore:
    """One class.

    Attributes:
        name: Its name.
        images: Number of its images.
        accuracy: The fraction of them that is right; ``None``: there are none.
        roc_auc: Area under the ROC curve, against all other images; ``None``: all images, or none,
            are its.
    """

    name: str
    images: int
    accuracy: float | None
    roc_auc: float | None = None

    @property
    def score(self) -> float | None:
        """How well the class is recognised, from 0 to 1."""
        return self.accuracy


@dataclass
class LabelScore(ClassScore):
    """One class of those of which an image may have several.

    Attributes:
        accuracy: The fraction of all images of which it is right whether they have the class, which
            is said to be so from a probability of 0.5 on.
        average_precision: Its average precision; ``None``: no image has the class.
    """

    average_precision: float | None = None

    @property
    def score(self) -> float | None:
        """How well the class is recognised, from 0 to 1."""
        return self.average_precision


@dataclass
class AreaScore:
    """How well a network does that sees so much of an image at every fixation.

    Attributes:
        area: Of the view, as a fraction of the image's.
        by_fixations: The score with only the first 1, 2, … of the fixations.
    """

    area: float
    by_fixations: list[float]


@dataclass(kw_only=True)
class Figures:
    """What every evaluation reports; ``dataclasses.asdict`` makes plain data of it.

    Attributes:
        images: Number of images.
        fixations: How often each was looked at.
        policy: Name of the policy that chose where.
        note: Why there are fewer fixations than were asked for, if so.
        loss: Mean negative logarithm of the true answer's probability.
        roc_auc: Mean area under the ROC curve of each class against all other images, over the
            classes that have both; ``None``: no class has.
        roc_auc_weighted: The same mean, weighted by the number of images of each class.
        calibration_error: Expected calibration error: the mean over answers of the difference of
            accuracy and confidence in their bin (Guo et al. 2017, eq. 3).
        reliability: The bins.
        images_per_second: Of the network alone, without reading images: the median of 5 runs after
            one that does not count, of ``speed_images`` images at once, each with
            ``speed_fixations``.
        speed_images, speed_fixations, device: See there.
        parameters: Number of learnt parameters.
        flops: Useful arithmetic for one fixation.
        by_area: The score by view area and number of fixations, for the areas that were asked for.
    """

    images: int
    fixations: int
    policy: str
    note: str | None
    loss: float
    roc_auc: float | None
    roc_auc_weighted: float | None
    calibration_error: float
    reliability: list[ConfidenceBin]
    images_per_second: float
    speed_images: int
    speed_fixations: int
    device: str
    parameters: int
    flops: int
    by_area: list[AreaScore]


@dataclass(kw_only=True)
class Evaluation(Figures):
    """The evaluation of a network whose images have one class each.

    Attributes:
        top1: Fraction of images of which the likeliest class is the true one.
        top5: … one of the 5 likeliest; ``None`` with 5 classes or fewer.
        top1_by_fixations: ``top1`` with only the first 1, 2, … of the fixations.
        classes: Every class.
        confusion: Number of images by true class (row) and likeliest (column); ``None`` with more
            than 100 classes.
    """

    KEY: ClassVar[str] = "top1"
    SCORE: ClassVar[str] = "top-1"

    top1: float
    top5: float | None
    top1_by_fixations: list[float]
    classes: list[ClassScore]
    confusion: list[list[int]] | None

    @property
    def by_fixations(self) -> list[float]:
        """The score with only the first 1, 2, … of the fixations."""
        return self.top1_by_fixations


@dataclass(kw_only=True)
class MultiLabelEvaluation(Figures):
    """The evaluation of a network whose images may have several classes.

    Attributes:
        average_precision: Mean over the classes that an image has of their average precision
            (mAP).
        average_precision_by_fixations: The same with only the first 1, 2, … of the fixations.
        accuracy: Fraction of all images and classes of which it is right whether the image has the
            class.
        classes: Every class.
    """

    KEY: ClassVar[str] = "average_precision"
    SCORE: ClassVar[str] = "mean average precision"

    average_precision: float
    average_precision_by_fixations: list[float]
    accuracy: float
    classes: list[LabelScore]

    @property
    def by_fixations(self) -> list[float]:
        """The score with only the first 1, 2, … of the fixations."""
        return self.average_precision_by_fixations


class ClassSums:
    """Sums over images that have one class each.

    Args:
        classes: Number of classes C.
        fixations: Number of fixations F of each image.
        calibration: How the fixations' logits are taken together.
    """

    def __init__(self, classes: int, fixations: int, calibration: Calibration):
        zeros = functools.partial(torch.zeros, dtype=torch.float64)
        self.calibration = calibration
        self.right = zeros(fixations)
        self.near, self.loss = zeros(()), zeros(())
        self.by_class = zeros(2, classes)  # images, and those that are right
        self.by_bin = zeros(3, BINS)  # images, their confidence, and those that are right
        self.confusion = zeros(classes, classes) if classes <= MOST_IN_MATRIX else None
        self.scores: list[Tensor] = []
        self.labels: list[Tensor] = []

    def add(self, fixation_logits: Tensor, labels: Tensor) -> None:
        """Count images with logits ``[b, F, C]`` and labels ``[b]``."""
        log_mean = self.calibration.of_first(fixation_logits.double())
        log_p = log_mean[:, -1]
        self.right += (log_mean.argmax(-1) == labels[:, None]).sum(0)
        self.near += (log_p.topk(min(TOP, log_p.shape[1])).indices == labels[:, None]).sum()
        self.loss -= log_p.gather(1, labels[:, None]).sum()
        confidence, predicted = log_p.exp().max(dim=1)
        right = (predicted == labels).double()
        ones = torch.ones_like(right)
        self.by_class[0].index_add_(0, labels, ones)
        self.by_class[1].index_add_(0, labels, right)
        _add_to_bins(self.by_bin, confidence, right)
        if self.confusion is not None:
            self.confusion.index_put_((labels, predicted), ones, accumulate=True)
        self.scores.append(log_p.float())
        self.labels.append(labels)

    def by_fixations(self) -> list[float]:
        """Return the fraction that is right with only the first 1, 2, … fixations."""
        return (self.right / self.by_class[0].sum()).tolist()

    def figures(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the entries of an :class:`Evaluation` that follow."""
        images = int(self.by_class[0].sum())
        by_fixations = self.by_fixations()
        truth = torch.cat(self.labels)[:, None] == torch.arange(len(names))
        areas = roc_auc(torch.cat(self.scores), truth)
        return {
            "images": images,
            "loss": float(self.loss / images),
            "top1": by_fixations[-1],
            "top5": float(self.near / images) if len(names) > TOP else None,
            "top1_by_fixations": by_fixations,
            "roc_auc": mean(areas),
            "roc_auc_weighted": mean(areas, self.by_class[0].tolist()),
            **_reliability(self.by_bin),
            "classes": [
                ClassScore(name, int(n), r / n if n else None, area)
                for name, (n, r), area in zip(names, self.by_class.T.tolist(), areas, strict=True)
            ],
            "confusion": None if self.confusion is None else self.confusion.long().tolist(),
        }


class LabelSums:
    """Sums over images that may have several classes. Arguments as of :class:`ClassSums`."""

    def __init__(self, classes: int, fixations: int, calibration: Calibration):
        self.calibration = calibration
        self.loss = torch.zeros((), dtype=torch.float64)
        self.by_bin = torch.zeros(3, BINS, dtype=torch.float64)
        self.scores: list[Tensor] = []
        self.labels: list[Tensor] = []

    def add(self, fixation_logits: Tensor, labels: Tensor) -> None:
        """Count images with logits ``[b, F, C]`` and labels ``[b, C]``."""
        by_count = self.calibration.of_first(fixation_logits.double())
        logits, truth = by_count[:, -1], labels.double()
        self.loss += torch.nn.functional.binary_cross_entropy_with_logits(
            logits, truth, reduction="sum"
        )
        _add_to_bins(self.by_bin, logits.sigmoid().flatten(), truth.flatten())
        self.scores.append(by_count.float())
        self.labels.append(labels.bool())

    def by_fixations(self) -> list[float]:
        """Return the mean average precision with only the first 1, 2, … fixations."""
        return [mean(each) for each in self._precisions()]  # type: ignore[misc]  # a class has one

    def _precisions(self) -> list[list[float | None]]:
        """Return the average precision of every class, likewise.

        Raises:
            ValueError: If no image has a class.
        """
        by_count, truth = torch.cat(self.scores), torch.cat(self.labels)
        if not truth.any():
            raise ValueError("labels must give a class to at least 1 image, got none")
        return [average_precision(scores, truth) for scores in by_count.unbind(dim=1)]

    def figures(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the entries of a :class:`MultiLabelEvaluation` that follow.

        Raises:
            ValueError: If no image has a class.
        """
        precisions = self._precisions()
        by_count, truth = torch.cat(self.scores), torch.cat(self.labels)
        areas = roc_auc(by_count[:, -1], truth)
        right = ((by_count[:, -1].sigmoid() >= THRESHOLD) == truth).double()
        rows = zip(
            names,
            truth.sum(0).tolist(),
            right.mean(0).tolist(),
            areas,
            precisions[-1],
            strict=True,
        )
        means = [mean(each) for each in precisions]
        return {
            "images": len(truth),
            "loss": float(self.loss / truth.numel()),
            "roc_auc": mean(areas),
            "roc_auc_weighted": mean(areas, truth.sum(0).tolist()),
            "average_precision": means[-1],
            "average_precision_by_fixations": means,
            "accuracy": float(right.mean()),
            **_reliability(self.by_bin),
            "classes": [LabelScore(*row) for row in rows],
        }


def _add_to_bins(by_bin: Tensor, confidence: Tensor, right: Tensor) -> None:
    """Count answers by their confidence, ``[n]``: their number, confidence, and the right ones."""
    index = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    for row, values in zip(by_bin, (torch.ones_like(right), confidence, right), strict=True):
        row.index_add_(0, index, values)


def _reliability(by_bin: Tensor) -> dict[str, Any]:
    answers, confidence, right = by_bin
    return {
        "calibration_error": float((confidence - right).abs().sum() / answers.sum()),
        "reliability": [
            ConfidenceBin(
                i / BINS, (i + 1) / BINS, int(n), c / n if n else None, r / n if n else None
            )
            for i, (n, c, r) in enumerate(by_bin.T.tolist())
        ],
    }
