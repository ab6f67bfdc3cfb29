"""Predictions: images of any kind and size in, named classes and their probabilities out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fovigraph._checks import positive_int
from fovigraph.models.evaluating import evaluating
from fovigraph.sensing.image import as_image

if TYPE_CHECKING:
    from fovigraph.models.fovinet import FoviNet, FoviOutput


THRESHOLD = 0.5
"""Probability from which on an image has a class, by a network of which it may have several."""


@dataclass(frozen=True)
class Prediction:
    """What a network says of one image.

    Attributes:
        name: Name of the likeliest class.
        probability: Its probability.
        top: The likeliest classes and their probabilities, the likeliest first.
        probabilities: Of all classes, ``[classes]``.
        fixations: Where the network looked, (row, column) in [0, 1], ``[F, 2]``.
        fixation_sizes: Size (height, width) of each view in pixels, ``[F, 2]``.
        fixation_probabilities: What each fixation alone says, ``[F, classes]``.
        labels: Of a network with ``head.multi_label``: names of the classes with a probability of
            at least 0.5, the likeliest first; there may be none. Of another network ``None``.
    """

    name: str
    probability: float
    top: list[tuple[str, float]]
    probabilities: Tensor
    fixations: Tensor
    fixation_sizes: Tensor
    fixation_probabilities: Tensor
    labels: list[str] | None = None

    def __repr__(self) -> str:
        rest = "".join(f", {name} {share:.1%}" for name, share in self.top[1:3])
        return f"Prediction({self.name} {self.probability:.1%}{rest})"


def top_classes(probabilities: Tensor, names: Sequence[str], top: int) -> list[tuple[str, float]]:
    """Return the likeliest classes of ``[classes]`` and their probabilities."""
    values, index = probabilities.topk(min(top, len(names)))
    pairs = zip(index.tolist(), values.tolist(), strict=True)
    return [(names[i], probability) for i, probability in pairs]


@torch.no_grad()
def predictions(
    net: FoviNet,
    images: Any,
    *,
    fixations: Tensor | Sequence[Any] | None = None,
    top: int = 5,
    batch_size: int = 32,
) -> Iterator[Prediction]:
    """Yield the prediction of every image, in their order; see :meth:`FoviNet.predict`.

    ``images`` may be an iterator too, of which no more are taken than a batch needs.
    """
    top, batch_size = positive_int("top", top), positive_int("batch_size", batch_size)
    device, names = next(net.parameters()).device, net.class_names
    if not names:
        raise ValueError("net must have classes to predict, got num_classes=0")
    with evaluating(net):
        for batch in _batches(_listed(images), batch_size):
            out = net(batch.to(device), fixations)
            yield from _told(out, names, top, net.config.head.multi_label)


def _listed(images: Any) -> Iterator[Tensor]:
    """Yield images ``[3, H, W]`` one after the other, each read when it is its turn."""
    if isinstance(images, Tensor) and images.dim() == 4:
        yield from images
    elif isinstance(images, Sequence | Iterator) and not isinstance(images, str):
        for image in images:
            yield as_image(image)
    else:
        yield as_image(images)


def _batches(images: Iterator[Tensor], most: int) -> Iterator[Tensor]:
    """Yield consecutive images of one size and type together, up to ``most`` at a time."""
    waiting: list[Tensor] = []
    for image in images:
        like = not waiting or (image.shape, image.dtype) == (waiting[0].shape, waiting[0].dtype)
        if not like or len(waiting) == most:
            yield torch.stack(waiting)
            waiting = []
        waiting.append(image)
    if waiting:
        yield torch.stack(waiting)


def _told(
    out: FoviOutput, names: Sequence[str], top: int, multi_label: bool
) -> Iterator[Prediction]:
    out = out.cpu()
    every = out.probabilities, out.fixations, out.fixation_sizes, out.fixation_probabilities
    for probabilities, where, sizes, alone in zip(*every, strict=True):
        best = top_classes(probabilities, names, top)
        labels = labels_of(probabilities, names) if multi_label else None
        yield Prediction(*best[0], best, probabilities, where, sizes, alone, labels)


def labels_of(probabilities: Tensor, names: Sequence[str]) -> list[str]:
    """Return the classes whose probability in ``[classes]`` is at least :data:`THRESHOLD`."""
    return [
        name for name, share in top_classes(probabilities, names, len(names)) if share >= THRESHOLD
    ]
