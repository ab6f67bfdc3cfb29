"""How accurate and how calibrated a network is, and what that costs."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from fovigraph._checks import instance, positive_int, shown
from fovigraph.models import Calibration, FoviNet
from fovigraph.models.cost import describe
from fovigraph.models.fovinet import check_fovinet
from fovigraph.sensing import FIXATION_POLICIES, FixationPolicy, policy_of

TOP = 5
"""A class among so many of the likeliest is right in ``top5``."""

BINS = 15
"""Of confidence, in the calibration error."""

MOST_IN_MATRIX = 100
"""Classes up to which the confusion matrix is kept."""

RUNS = 5
"""Of which the median is the network's speed."""


class Labelled(Protocol):
    """Images ``[b, 3, H, W]``, uint8 or in [0, 1], and their classes ``[b]``."""

    @property
    def images(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...


@dataclass
class ConfidenceBin:
    """Images of about equal confidence.

    Attributes:
        low, high: The bin: confidences above ``low``, up to ``high``.
        images: Number of images in it.
        confidence: Their mean confidence, the probability of the likeliest class; ``None``: none.
        accuracy: The fraction of them that is right; ``None``: none.
    """

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


@dataclass
class ClassScore:
    """One class: its name, its images, and the fraction of them that is right."""

    name: str
    images: int
    accuracy: float | None


@dataclass
class Evaluation:
    """What came out; ``dataclasses.asdict`` makes plain data of it.

    Attributes:
        images: Number of images.
        fixations: How often each was looked at.
        policy: Name of the policy that chose where.
        note: Why there are fewer fixations than were asked for, if so.
        loss: Mean negative logarithm of the true class's probability.
        top1: Fraction of images of which the likeliest class is the true one.
        top5: … one of the 5 likeliest; ``None`` with 5 classes or fewer.
        top1_by_fixations: ``top1`` with only the first 1, 2, … of the fixations.
        calibration_error: Expected calibration error: the mean over images of the difference of
            accuracy and confidence in their bin (Guo et al. 2017, eq. 3).
        reliability: The bins.
        classes: Every class.
        confusion: Number of images by true class (row) and likeliest (column); ``None`` with more
            than 100 classes.
        images_per_second: Of the network alone, images being there: the median of 5 runs after one
            that does not count, of ``speed_images`` images at once with ``speed_fixations`` each.
        speed_images, speed_fixations, device: See there.
        parameters: Number of learnt parameters.
        flops: Useful arithmetic for one fixation.
    """

    images: int
    fixations: int
    policy: str
    note: str | None
    loss: float
    top1: float
    top5: float | None
    top1_by_fixations: list[float]
    calibration_error: float
    reliability: list[ConfidenceBin]
    classes: list[ClassScore]
    confusion: list[list[int]] | None
    images_per_second: float
    speed_images: int
    speed_fixations: int
    device: str
    parameters: int
    flops: int


@torch.no_grad()
def evaluate(
    net: FoviNet,
    batches: Iterable[Labelled],
    *,
    fixations: int | None = None,
    classes: Sequence[str] | None = None,
    generator: torch.Generator | None = None,
) -> Evaluation:
    """Evaluate a network on labelled images.

    It is put in evaluation mode, and stays on its device. Fixations are chosen as its configuration
    says and averaged as :class:`~fovigraph.FoviNet` does; as many of them are computed at a time as
    the configuration has.

    Args:
        net: The network.
        batches: The images, on any device; they are moved to the network's.
        fixations: How often to look at an image; ``None``: as often as the network does. Where more
            fixations than some number would show nothing else, or are not given, there are that
            many, and ``note`` says so.
        classes: Their names, in order; ``None``: the network's.
        generator: Source of the policy's random numbers, on the CPU; torch's global state if
            ``None``.

    Returns:
        What came out.

    Raises:
        ValueError, TypeError: If there are no images, or labels or class names do not fit the
            network's classes, or an argument is not of the kind said above.

    Example:
        >>> import torch, fovigraph as fg
        >>> from types import SimpleNamespace
        >>> from fovigraph.train.evaluate import evaluate
        >>> net = fg.FoviNet(fg.load_config("fovi_tiny"))
        >>> batch = SimpleNamespace(images=torch.rand(2, 3, 64, 64), labels=torch.tensor([1, 7]))
        >>> len(evaluate(net, [batch], fixations=3).top1_by_fixations)
        3
    """
    check_fovinet("net", net)
    if fixations is not None:
        positive_int("fixations", fixations)
    if isinstance(batches, Tensor) or not isinstance(batches, Iterable):
        raise TypeError(f"batches must be an iterable of batches, got {shown(batches)}")
    if generator is not None:
        instance("generator", generator, torch.Generator, allowed="a torch.Generator or None")
    count: int = net.config.head.num_classes
    names = net.class_names if classes is None else _names(classes)
    if len(names) != count:
        raise ValueError(
            f"classes must be the names of the network's {count} classes, got {len(names)}"
        )
    policy, note = policy_for(net, fixations)
    net.eval()
    at_a_time = min(net.fixation_policy.count, policy.count)
    device = next(net.parameters()).device
    counts = _Counts(count, policy.count, net.calibration)
    first: Tensor | None = None
    for batch in batches:
        _check_batch(batch, count)
        images = batch.images.to(device)
        if len(images) == 0:
            continue
        logits = fixation_logits(net, images, policy, generator)
        if logits.shape[-1] != count:
            raise ValueError(
                f"net must give logits of the {count} classes of its configuration, "
                f"got {logits.shape[-1]}"
            )
        if not logits.isfinite().all():
            raise ValueError("net must compute finite logits, got some that are not")
        counts.add(logits.cpu(), batch.labels.cpu().long())
        first = images if first is None else first
    if first is None:
        raise ValueError("batches must hold at least 1 image, got none")
    where = policy(first, generator).location[:, :at_a_time]
    speed = _images_per_second(net, first, where)
    cost = describe(net)["total"]
    return Evaluation(
        fixations=policy.count,
        policy=net.config.fixation.policy,
        note=note,
        images_per_second=speed,
        speed_images=len(first),
        speed_fixations=at_a_time,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        parameters=cost["parameters"],
        flops=cost["flops"],
        **counts.figures(names),
    )


def fixation_logits(
    net: FoviNet, images: Tensor, policy: FixationPolicy, generator: torch.Generator | None
) -> Tensor:
    """Return the logits ``[B, F, classes]`` of images at all fixations of a policy.

    As many fixations are computed at a time as the network's configuration has.
    """
    where = policy(images, generator).location
    at_a_time = min(net.fixation_policy.count, policy.count)
    return torch.cat(
        [net(images, some).fixation_logits for some in where.split(at_a_time, dim=1)], dim=1
    )


def policy_for(net: FoviNet, count: int | None) -> tuple[FixationPolicy, str | None]:
    """Return the network's policy for ``count`` fixations, or for fewer and why.

    ``None``: for as many as its configuration says.
    """
    config, note = net.config.fixation, None
    count = count or config.eval_count or config.count
    most = count
    if config.fixations is not None:
        most = len(config.fixations)
        note = f"The configuration gives {most} places to look at, and no more."
        config = replace(config, fixations=config.fixations[:count])
    elif not FIXATION_POLICIES[config.policy].random or config.in_eval == "center":
        most = 1
        note = "In evaluation the network looks at the image's centre alone: once is enough."
    looks = min(count, most)
    config = replace(config, count=looks, eval_count=looks)
    return policy_of(config).eval(), note if most < count else None


def _images_per_second(net: FoviNet, images: Tensor, where: Tensor) -> float:
    seconds = []
    for _ in range(1 + RUNS):
        start = time.perf_counter()
        net(images, where).logits.cpu()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return len(images) / statistics.median(seconds[1:])


def _names(classes: Any) -> list[str]:
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise TypeError(f"classes must be a list of names, got {shown(classes)}")
    return [str(name) for name in classes]


def _check_batch(batch: Any, count: int) -> None:
    images, labels = getattr(batch, "images", None), getattr(batch, "labels", None)
    if not isinstance(images, Tensor) or not isinstance(labels, Tensor):
        raise TypeError(
            f"batches must have tensors .images [b, 3, H, W] and .labels [b], got {shown(batch)}"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be whole numbers, got {labels.dtype}")
    if images.ndim == 0 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"labels must be one for each of the images {list(images.shape)}, "
            f"got shape {list(labels.shape)}"
        )
    if not len(labels):
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= count:
        raise ValueError(
            f"labels must be from 0 to {count - 1}, as the network tells {count} classes, "
            f"got {low if low < 0 else high}"
        )


class _Counts:
    """Sums over images, from which all figures follow.

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
        index = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
        for row, values in zip(self.by_bin, (ones, confidence, right), strict=True):
            row.index_add_(0, index, values)
        if self.confusion is not None:
            self.confusion.index_put_((labels, predicted), ones, accumulate=True)

    def figures(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the entries of an :class:`Evaluation` that follow."""
        images = int(self.by_class[0].sum())
        by_fixations = (self.right / images).tolist()
        _, confidence, right = self.by_bin
        return {
            "images": images,
            "loss": float(self.loss / images),
            "top1": by_fixations[-1],
            "top5": float(self.near / images) if len(names) > TOP else None,
            "top1_by_fixations": by_fixations,
            "calibration_error": float((confidence - right).abs().sum() / images),
            "reliability": [
                ConfidenceBin(
                    i / BINS, (i + 1) / BINS, int(n), c / n if n else None, r / n if n else None
                )
                for i, (n, c, r) in enumerate(self.by_bin.T.tolist())
            ],
            "classes": [
                ClassScore(name, int(n), r / n if n else None)
                for name, (n, r) in zip(names, self.by_class.T.tolist(), strict=True)
            ],
            "confusion": None if self.confusion is None else self.confusion.long().tolist(),
        }
