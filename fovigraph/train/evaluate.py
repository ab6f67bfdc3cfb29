"""How accurate and how calibrated a network is, and what that costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from fovigraph._checks import instance, positive_float, positive_int, shown
from fovigraph.models import FoviNet
from fovigraph.models.cost import describe
from fovigraph.models.fovinet import check_fovinet
from fovigraph.sensing import FIXATION_POLICIES, FixationPolicy, policy_of
from fovigraph.train.evaluation import (
    AreaScore,
    ClassSums,
    Evaluation,
    LabelSums,
    MultiLabelEvaluation,
)
from fovigraph.train.scores import need_sklearn

RUNS = 5
"""Number of timed passes, whose median is the network's speed."""


class Labelled(Protocol):
    """Images ``[b, 3, H, W]``, uint8 or in [0, 1], and their classes ``[b]``.

    Of a network with ``head.multi_label``: which classes each has, bool ``[b, C]``.
    """

    @property
    def images(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...


@torch.no_grad()
def evaluate(
    net: FoviNet,
    batches: Iterable[Labelled],
    *,
    fixations: int | None = None,
    classes: Sequence[str] | None = None,
    generator: torch.Generator | None = None,
    areas: Sequence[float] = (),
) -> Evaluation | MultiLabelEvaluation:
    """Evaluate a network on labelled images.

    It is put in evaluation mode, and stays on its device. Fixations are chosen as its configuration
    says and averaged as :class:`~fovigraph.FoviNet` does; as many of them are computed at a time as
    the configuration has.

    Args:
        net: The network.
        batches: The images, on any device; they are moved to the network's.
        fixations: How often to look at an image; ``None``: as often as the network does.
            A policy may have fewer different ones: then there are as many as it has, and ``note``
            says so.
        classes: Their names, in order; ``None``: the network's.
        generator: Source of the policy's random numbers, on the CPU; torch's global state if
            ``None``.
        areas: View areas, as fractions of the image's, in (0, 1], to evaluate with as well.

    Returns:
        The evaluation; of a network with ``head.multi_label``, a :class:`MultiLabelEvaluation`.

    Raises:
        ImportError: If scikit-learn is not installed.
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
    need_sklearn()
    policy, note = policy_for(net, fixations)
    net.eval()
    at_a_time = min(net.fixation_policy.count, policy.count)
    device = next(net.parameters()).device
    several = net.config.head.multi_label
    kind = LabelSums if several else ClassSums
    wanted = [None, *_areas(areas)]
    sums = {area: kind(count, policy.count, net.calibration) for area in wanted}
    # Every area has the same random numbers.
    drawn = {area: generator if area is None else _copy(generator) for area in wanted}
    first: Tensor | None = None
    for batch in batches:
        _check_batch(batch, count, several)
        images = batch.images.to(device)
        if len(images) == 0:
            continue
        for area, each in sums.items():
            logits = fixation_logits(net, images, policy, drawn[area], area)
            if logits.shape[-1] != count:
                raise ValueError(
                    f"net must give logits of the {count} classes of its configuration, "
                    f"got {logits.shape[-1]}"
                )
            if not logits.isfinite().all():
                raise ValueError("net must compute finite logits, got some that are not")
            each.add(logits.cpu(), batch.labels.cpu().long())
        first = images if first is None else first
    if first is None:
        raise ValueError("batches must hold at least 1 image, got none")
    where = policy(first, generator).location[:, :at_a_time]
    speed = _images_per_second(net, first, where)
    cost = describe(net)["total"]
    return (MultiLabelEvaluation if several else Evaluation)(
        fixations=policy.count,
        policy=net.config.fixation.policy,
        note=note,
        images_per_second=speed,
        speed_images=len(first),
        speed_fixations=at_a_time,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        parameters=cost["parameters"],
        flops=cost["flops"],
        by_area=[AreaScore(area, each.by_fixations()) for area, each in sums.items() if area],
        **sums[None].figures(names),
    )


def fixation_logits(
    net: FoviNet,
    images: Tensor,
    policy: FixationPolicy,
    generator: torch.Generator | None,
    area: float | None = None,
) -> Tensor:
    """Return the logits ``[B, F, classes]`` of images at all fixations of a policy.

    They are what the network's calibration takes: of each fixation alone, or, if it is a
    :class:`~fovigraph.models.JointCalibration`, of the first 1, 2, … F together. As many fixations
    are computed at a time as the network's configuration has. Each sees ``area`` of the image, a
    fraction; ``None``: what the policy says.
    """
    where = policy(images, generator, area=area).location
    at_a_time = min(net.fixation_policy.count, policy.count)
    size = {} if area is None else {"area": area}
    outputs = (net(images, some, **size) for some in where.split(at_a_time, dim=1))
    if not net.config.head.joint:
        return torch.cat([output.fixation_logits for output in outputs], dim=1)
    logits = torch.cat([net.head(output.embeddings) for output in outputs], dim=1)
    return net.calibration.of_one(net.aggregation.first(logits))


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
    given = min(count, most)
    config = replace(config, count=given, eval_count=given)
    return policy_of(config).eval(), note if most < count else None


def _images_per_second(net: FoviNet, images: Tensor, where: Tensor) -> float:
    seconds = []
    for _ in range(1 + RUNS):
        start = time.perf_counter()
        net(images, where).logits.cpu()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return len(images) / statistics.median(seconds[1:])


def _copy(generator: torch.Generator | None) -> torch.Generator | None:
    return None if generator is None else torch.Generator().set_state(generator.get_state())


def _areas(areas: Any) -> list[float]:
    if isinstance(areas, str) or not isinstance(areas, Iterable):
        raise TypeError(f"areas must be a list of numbers, got {shown(areas)}")
    return [positive_float(f"areas[{i}]", area, most=1.0) for i, area in enumerate(areas)]


def _names(classes: Any) -> list[str]:
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise TypeError(f"classes must be a list of names, got {shown(classes)}")
    return [str(name) for name in classes]


def _check_batch(batch: Any, count: int, several: bool) -> None:
    images, labels = getattr(batch, "images", None), getattr(batch, "labels", None)
    if not isinstance(images, Tensor) or not isinstance(labels, Tensor):
        raise TypeError(
            f"batches must have tensors .images [b, 3, H, W] and .labels [b], got {shown(batch)}"
        )
    if several:
        if labels.dtype != torch.bool or labels.shape != (len(images), count):
            raise ValueError(
                f"labels must be bool [{len(images)}, {count}], as an image may have several of "
                f"the classes, got {labels.dtype} {list(labels.shape)}"
            )
        return
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
            f"labels must be from 0 to {count - 1}, as the network has {count} classes, "
            f"got {low if low < 0 else high}"
        )
