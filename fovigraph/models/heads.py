"""What follows a backbone: the projector and the probe."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fovigraph._checks import fraction, positive_int, positive_ints
from fovigraph.nn import make_norm
from fovigraph.nn.limits import check_weights


class Projector(nn.Sequential):
    """A multi-layer perceptron over feature vectors.

    Every layer is dropout and a linear map; all but the last add a norm and a ReLU, and the last
    has no bias. Without channels it passes features through.

    Args:
        in_features: Length of the input vectors.
        channels: Length of every layer's output.
        norm: Name of the norm (:func:`fovigraph.nn.make_norm`), each vector being one node.
        dropout: Probability of dropping an input of a layer.

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
            in_features = out_features
        super().__init__(*layers)
        self.out_features = in_features

    def forward(self, x: Tensor) -> Tensor:
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
