"""What a network needs of its backbone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fovigraph.geometry import SensorArray
from fovigraph.graph import GraphPyramid


class Backbone(nn.Module):
    """The base class of backbones, which map a retina's samples to features.

    A subclass sets both attributes in its constructor. :func:`fovigraph.optimize` replays whatever
    derives from this as a CUDA graph.

    Attributes:
        pyramid: The :class:`~fovigraph.GraphPyramid` that it is built on.
        num_features: Nodes times channels of its output.

    Example:
        >>> import torch, fovigraph as fg
        >>> class Pooled(fg.models.Backbone):
        ...     def __init__(self, retina):
        ...         super().__init__()
        ...         self.pyramid = fg.GraphPyramid(retina, [fg.Stage("pool", side=4)])
        ...         self.num_features = 3 * len(self.pyramid.levels[-1])
        ...         self.pool = fg.nn.KNNPool("max")
        ...
        ...     def forward(self, x):
        ...         return self.pool(x, self.pyramid.graphs[0])
        >>> retina = fg.SensorArray.matched(16)
        >>> Pooled(retina)(torch.rand(2, len(retina), 3)).shape
        torch.Size([2, 16, 3])
    """

    pyramid: GraphPyramid
    num_features: int

    @classmethod
    def from_config(cls, config: Any, retina: SensorArray) -> Backbone:
        """Build the backbone that a section describes, of the schema it is registered with.

        Args:
            config: The section ``backbone`` of a configuration.
            retina: The lowest level.
        """
        raise NotImplementedError(f"{cls.__name__} must define from_config")

    def forward(self, x: Tensor) -> Tensor:
        """Map samples ``[*, N, C]`` to features ``[*, M, D]`` with ``M · D = num_features``."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")
