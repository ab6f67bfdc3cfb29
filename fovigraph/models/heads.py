"""What follows a backbone: the projector and the probe, and the sections that describe them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from fovigraph._checks import (
    finite_float,
    flag,
    fraction,
    instance,
    one_of,
    positive_float,
    positive_int,
    positive_ints,
    shown,
    whole_number,
)
from fovigraph._schema import Section
from fovigraph.models.aggregation import AGGREGATIONS
from fovigraph.nn import make_norm
from fovigraph.nn.limits import MOST_CHANNELS, check_weights


@dataclass(frozen=True)
class ProjectorConfig(Section):
    """The MLP after the backbone.

    Attributes:
        channels: Output channels of every layer; none: no projector.
        norm: The normalisation after every layer.
        dropout: Probability that an activation is dropped in training.
        last_relu: Whether a ReLU follows the last layer, too.
    """

    SECTION = "projector"

    channels: Sequence[int] = (1024, 1024)
    norm: str = "batch"
    dropout: float = 0.5
    last_relu: bool = False

    def check(self) -> None:
        positive_ints("projector.channels", self.channels, MOST_CHANNELS)
        fraction("projector.dropout", self.dropout)


@dataclass(frozen=True)
class HeadConfig(Section):
    """The linear probe, and how the fixations' logits are put together.

    Attributes:
        num_classes: Number of classes; 0: no probe, for embeddings alone.
        class_names: Their names, in order; ``None``: their numbers, from 0.
        multi_label: Whether an image may have several classes, or none: each then has a
            probability of its own, the sigmoid of its logit.
        dropout: Probability that an embedding's entry is dropped in training, or an input of the
            aggregation's.
        aggregation: How the fixations give the image's logits: ``"mean"``, of logits while
            training and of probabilities in evaluation; ``"mean_logits"``, always of logits; or
            learnt, ``"rnn"``, ``"gru"``, ``"lstm"`` over the fixations in their order, or
            ``"attention"`` among them, or of each to itself (``"attention_alone"``, for upstream's
            checkpoints; :mod:`fovigraph.models.aggregation`).
        aggregation_width: Entries of a learnt aggregation's state.
        temperature: What logits are divided by in evaluation, so that probabilities are calibrated.
        sharpening: With F fixations, their joint log-probabilities are multiplied by
            F^sharpening in evaluation: the more fixations agree, the higher the confidence.
    """

    SECTION = "head"

    num_classes: int = 1000
    class_names: Sequence[str] | None = None
    multi_label: bool = False
    dropout: float = 0.5
    aggregation: str = "mean"
    aggregation_width: int = 128
    temperature: float = 1.0
    sharpening: float = 0.0

    def check(self) -> None:
        whole_number("head.num_classes", self.num_classes, 0, MOST_CHANNELS)
        if self.class_names is not None:
            check_class_names("head.class_names", self.class_names, self.num_classes)
        fraction("head.dropout", self.dropout)
        one_of("head.aggregation", self.aggregation, AGGREGATIONS)
        positive_int("head.aggregation_width", self.aggregation_width, MOST_CHANNELS)
        positive_float("head.temperature", self.temperature)
        finite_float("head.sharpening", self.sharpening)

    @property
    def joint(self) -> bool:
        """Whether the fixations' logits give those of the image, and not their probabilities."""
        return self.aggregation != "mean"


def check_class_names(argument: str, names: Sequence[str], count: int) -> None:
    """Refuse names that are not one for each of ``count`` classes, distinct and not empty."""
    if len(names) != count:
        raise ValueError(f"{argument} must be {count} names, one for each class, got {len(names)}")
    if any(not name.strip() for name in names):
        raise ValueError(f"{argument} must not be empty, got {list(names)}")
    if len(set(names)) < count:
        twice = next(name for name in names if list(names).count(name) > 1)
        raise ValueError(f"{argument} must be distinct, got {twice!r} more than once")


def checked_names(class_names: Any, count: int | None = None) -> list[str]:
    """Return the argument ``class_names`` as a list.

    Args:
        class_names: The names.
        count: Number of classes; ``None``: as many as there are names.

    Raises:
        ValueError, TypeError: If they are not one distinct name for each class.
    """
    if isinstance(class_names, str) or not isinstance(class_names, Sequence):
        raise TypeError(f"class_names must be a list of names, got {shown(class_names)}")
    for i, name in enumerate(class_names):
        instance(f"class_names[{i}]", name, str, allowed="a string")
    check_class_names("class_names", class_names, len(class_names) if count is None else count)
    return list(class_names)


def classes_asked_for(num_classes: Any, class_names: Any) -> dict[str, Any]:
    """Return the entries of the section ``head`` that two arguments ask for.

    Args:
        num_classes: Number of classes; ``None``: as many as there are names.
        class_names: Their names; ``None``: their numbers.

    Returns:
        ``num_classes`` and ``class_names``; nothing if both arguments are ``None``.

    Raises:
        ValueError, TypeError: If ``num_classes`` is not a whole number from 0, or there is not one
            distinct name for each class.
    """
    if num_classes is not None:
        num_classes = whole_number("num_classes", num_classes)
    if class_names is not None:
        class_names = checked_names(class_names, num_classes)
        num_classes = len(class_names)
    if num_classes is None:
        return {}
    return {"num_classes": num_classes, "class_names": class_names}


class Projector(nn.Sequential):
    """A multi-layer perceptron over feature vectors.

    Every layer is dropout and a linear map; all but the last add a norm and a ReLU, and the last
    has no bias. Without channels it passes features through.

    Args:
        in_features: Length of the input vectors.
        channels: Length of every layer's output.
        norm: Name of the norm (:func:`fovigraph.nn.make_norm`), each vector being one node.
        dropout: Probability of dropping an input of a layer.
        last_relu: Whether a ReLU follows the last layer, too.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """

    def __init__(
        self,
        in_features: int,
        channels: Sequence[int],
        *,
        norm: str = "batch",
        dropout: float = 0.0,
        last_relu: bool = False,
    ):
        in_features = positive_int("in_features", in_features)
        channels = positive_ints("channels", channels)
        fraction("dropout", dropout)
        for inputs, outputs in zip((in_features, *channels), channels, strict=False):
            check_weights(in_features=inputs, channels=outputs)
        layers: list[nn.Module] = []
        for index, out_features in enumerate(channels):
            last = index == len(channels) - 1
            layers += [nn.Dropout(dropout), nn.Linear(in_features, out_features, bias=not last)]
            if not last:
                layers += [make_norm(norm, out_features, num_nodes=1), nn.ReLU()]
            elif flag("last_relu", last_relu):
                layers.append(nn.ReLU())
            in_features = out_features
        super().__init__(*layers)
        self.out_features = in_features

    def forward(self, x: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch D"]:
        """Map ``[*, in_features]`` to ``[*, out_features]``."""
        return super().forward(x.unsqueeze(-2)).squeeze(-2)


class LinearProbe(nn.Sequential):
    """Dropout and a linear map to class logits.

    Args:
        in_features: Length of the embeddings.
        num_classes: Number of classes.
        dropout: Probability of dropping an input.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """

    def __init__(self, in_features: int, num_classes: int, dropout: float = 0.0):
        in_features = positive_int("in_features", in_features)
        num_classes = positive_int("num_classes", num_classes)
        check_weights(in_features=in_features, num_classes=num_classes)
        fraction("dropout", dropout)
        super().__init__(nn.Dropout(dropout), nn.Linear(in_features, num_classes))


class NoHead(nn.Module):
    """The head of a network for embeddings alone: logits of no classes.

    Example:
        >>> import torch
        >>> from fovigraph.models import NoHead
        >>> NoHead()(torch.rand(2, 4, 16)).shape
        torch.Size([2, 4, 0])
    """

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch 0"]:
        """Map embeddings ``[*, D]`` to logits ``[*, 0]``."""
        return x[..., :0]


def make_head(in_features: int, num_classes: int, dropout: float) -> LinearProbe | NoHead:
    """Return a probe of so many classes, or, for none, what stands in its place."""
    if num_classes == 0:
        return NoHead()
    return LinearProbe(in_features, num_classes, dropout)
