"""A transform from an image to the graph of what is seen of it."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch_geometric.data import Data, HeteroData
from torch_geometric.transforms import BaseTransform

from fovigraph._checks import instance, one_of, shown
from fovigraph.graph import GraphPyramid
from fovigraph.sensing import FixationPolicy, Retina
from fovigraph.sensing.fixation import as_floats, batch_of_fixations
from fovigraph.sensing.image import as_image

EDGES = ("all", "none")


class Foveate(BaseTransform):
    """Turns an image into what a retina sees of it, on the graphs of a pyramid.

    The result is the pyramid's :class:`~torch_geometric.data.HeteroData`, with the samples as the
    features ``x`` of the node type ``"retina"``: ``[N, C]`` of one view, ``[N, F, C]`` of F. It
    also carries ``fixations``, ``[1, F, 2]`` ((row, column) as fractions of the image's height and
    width). Edges and coordinates are shared by all results, not copied.

    Args:
        retina: What samples images; its array is the pyramid's lowest level.
        pyramid: The graphs; ``None``: the retina's nodes alone.
        policy: Where to look when no fixations are given; ``None``: at the centre, once.
        edges: ``"all"``; or ``"none"``, when the user of the data holds the pyramid, so that
            batches need not repeat its edges.
        lateral, up: Neighbours of these relations, as in ``pyramid.to_hetero_data``.

    Raises:
        TypeError: If an argument is not of the kind said above.
        ValueError: If the retina's array is not the pyramid's lowest level.

    Example:
        >>> import torch, fovigraph as fg
        >>> retina = fg.SensorArray.matched(32)
        >>> pyramid = fg.GraphPyramid(retina, [fg.Step("conv", k=49, stride=2)])
        >>> foveate = fg.data.Foveate(fg.Retina(retina), pyramid)
        >>> foveate(torch.rand(3, 96, 128), fixations=[0.4, 0.6])["retina"].x.shape
        torch.Size([964, 3])
    """

    def __init__(
        self,
        retina: Retina,
        pyramid: GraphPyramid | None = None,
        policy: FixationPolicy | None = None,
        *,
        edges: str = "all",
        lateral: int | None = None,
        up: int | None = None,
    ):
        instance("retina", retina, Retina)
        if policy is not None and not isinstance(policy, FixationPolicy):
            raise TypeError(f"policy must be a FixationPolicy or None, got {shown(policy)}")
        if pyramid is None:
            pyramid = GraphPyramid(retina.array, [])
        instance("pyramid", pyramid, GraphPyramid, allowed="a GraphPyramid or None")
        if pyramid.levels[0] != retina.array:
            raise ValueError(
                f"retina must sample the pyramid's lowest level, {pyramid.levels[0]}, "
                f"got {retina.array}"
            )
        self.retina, self.pyramid, self.policy = retina, pyramid, policy
        self.edges = one_of("edges", edges, EDGES)
        self._template = pyramid.to_hetero_data(lateral, up)
        if edges == "none":
            for edge_type in self._template.edge_types:
                del self._template[edge_type]

    def __call__(
        self,
        image: Tensor | np.ndarray | Image.Image | str | os.PathLike[str] | Data,
        fixations: Tensor | Sequence[Any] | None = None,
    ) -> HeteroData:
        """Look at an image.

        Args:
            image: ``[C, H, W]``, float in [0, 1] or uint8, or whatever else :func:`as_image` takes;
                or PyG data with such an ``image``, and perhaps ``fixations``, whose other
                attributes (``y``, …) are kept.
            fixations: Where to look, ``[2]`` or ``[F, 2]``; ``None`` leaves it to the policy.

        Raises:
            ValueError, TypeError: If there is no image, or image or fixations are of another kind.
            FileNotFoundError: If the image is a file that is not there.
        """
        return self.forward(image, fixations)

    def forward(self, data: Any, fixations: Tensor | Sequence[Any] | None = None) -> HeteroData:
        kept = data.to_dict() if isinstance(data, Data) else {"image": data}
        image = as_image(kept.pop("image", None))
        given = kept.pop("fixations", None)
        places, size = self._look(image, given if fixations is None else fixations)
        samples = self.retina(image[None], places, size)[0]
        out = copy.copy(self._template)
        for name, value in kept.items():
            out[name] = value
        out["retina"].x = samples[0] if len(samples) == 1 else samples.transpose(0, 1).contiguous()
        out.fixations = places
        return out

    def _look(self, image: Tensor, fixations: Any) -> tuple[Tensor, Tensor | None]:
        """Return where to look, ``[1, F, 2]``, and the sizes of the views if the policy says."""
        if fixations is not None:
            fixations = as_floats("fixations", fixations)
            fixations = batch_of_fixations(
                fixations[None] if fixations.dim() == 1 else fixations, 1
            )
        if self.policy is None:
            return torch.full((1, 1, 2), 0.5) if fixations is None else fixations, None
        where = self.policy(image[None], fixations=fixations)
        return where.location, None if self.retina.fixation_size is not None else where.size

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.retina}, {self.pyramid}, edges={self.edges!r})"


def static_batch(data: HeteroData, level: str = "retina", name: str = "x") -> Tensor:
    """Return a level's features from a batch of data as layers take them.

    Args:
        data: What PyG's ``DataLoader`` gives; or a single graph, which is a batch of one.
        level: The level's name.
        name: Of the attribute.

    Returns:
        ``[B, N, C]``; ``[B, F, N, C]`` of several views an image.

    Raises:
        TypeError: If an argument is not of the kind said above.
        ValueError: If there is no such level, it has no such features, or the graphs of the batch
            are of different sizes.
    """
    instance("data", data, HeteroData, allowed="a HeteroData or a batch of them")
    instance("name", name, str, allowed="a string")
    store = data[one_of("level", level, data.node_types)]
    if name not in store:
        having = [other for other in data.node_types if name in data[other]]
        raise ValueError(
            f"level must be one with features {name!r} ({having or 'none has any'}), got {level!r}"
        )
    sizes = store.ptr.diff().tolist() if "ptr" in store else [store.num_nodes]
    if len(set(sizes)) > 1:
        raise ValueError(f"data must be graphs of one size, got {sizes} nodes")
    values = store[name].unflatten(0, (len(sizes), sizes[0]))
    return values.transpose(1, 2) if values.dim() == 4 else values
