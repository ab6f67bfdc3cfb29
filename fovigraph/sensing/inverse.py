"""The inverse retina: from node features back to the pixels of an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fovigraph import ops
from fovigraph._checks import instance, positive_int, shown
from fovigraph.geometry.fixed import FixedTensors, isolated
from fovigraph.graph.kernel_map import row_ptr
from fovigraph.graph.search import k_nearest
from fovigraph.sensing.fixation import as_fixations, as_floats
from fovigraph.sensing.retina import Retina, height_and_width


class InverseRetina(FixedTensors):
    """Lays features of a retina's nodes out on the pixels of an image, where the nodes fell.

    Every pixel within the field of view is the mean of the k nearest nodes in the visual field,
    weighted by the inverse square of their distance; outside it is zero. So pixels where the eye
    looked are sharp, and those of the periphery are a blur of a few nodes. Differentiable with
    respect to the features, of any number of channels.

    Args:
        retina: Whose nodes they are.
        image_size: Height and width of the image in pixels.
        fixation: Where the eye looked, (row, column) as fractions of the image's height and width.
        fixation_size: Size of the view in pixels, as in :meth:`Retina.forward`.
        k: Nodes that a pixel is interpolated from; 1: the nearest node's features.

    Attributes:
        inside: Which pixels lie in the field of view, bool, ``[H, W]``.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import torch, fovigraph as fg
        >>> retina = fg.Retina(fg.SensorArray.matched(64))
        >>> samples = retina(torch.rand(2, 3, 96, 96), [[0.5, 0.5]])[:, 0]
        >>> fg.sensing.InverseRetina(retina, (96, 96))(samples).shape
        torch.Size([2, 3, 96, 96])
    """

    inside: Tensor
    src: Tensor
    ptr: Tensor
    weight: Tensor

    @isolated
    def __init__(
        self,
        retina: Retina,
        image_size: Sequence[int],
        fixation: Sequence[float] | Tensor = (0.5, 0.5),
        fixation_size: float | Sequence[float] | None = None,
        k: int = 3,
    ):
        super().__init__()
        instance("retina", retina, Retina)
        height, width = height_and_width(image_size)
        where = as_floats("fixation", fixation)
        if where.shape != (2,):
            raise ValueError(f"fixation must be (row, column), got {shown(fixation)}")
        where = as_fixations(where[None]).double().cpu()[0]
        self.image_size, self.num_nodes = (height, width), len(retina.array)
        if positive_int("k", k) > self.num_nodes:
            raise ValueError(f"k must be at most {self.num_nodes}, the retina's nodes, got {k}")
        size = retina._view_size(fixation_size, self.image_size, where).double()
        rows, columns = torch.arange(height).double() + 0.5, torch.arange(width).double() + 0.5
        y = (where[0] * height - rows) / (size[0] / 2)
        x = (columns - where[1] * width) / (size[1] / 2)
        places = torch.cartesian_prod(y, x).flip(-1)  # of all pixels, in radii of the field of view
        inside = places.norm(dim=1) <= 1
        index, distance = k_nearest(retina.array.cartesian, places[inside], k)
        weight = distance.clamp(min=1e-9) ** -2
        pixel = inside.nonzero().expand(-1, k).flatten()
        self.fix(
            inside=inside.view(height, width),
            src=index.flatten(),
            ptr=row_ptr(pixel, height * width),
            weight=(weight / weight.sum(1, keepdim=True)).flatten().float(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Lay out features.

        Args:
            x: ``[*, N, C]``, floating point.

        Returns:
            ``[*, C, H, W]``.

        Raises:
            TypeError: If ``x`` is no tensor of floating point.
            ValueError: If ``x`` has another number of nodes than the retina.
        """
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(f"x must be a floating-point tensor, got {shown(x)}")
        if x.dim() < 2 or x.shape[-2] != self.num_nodes:
            raise ValueError(
                f"x must be [..., {self.num_nodes} nodes, channels], got shape {list(x.shape)}"
            )
        pixels = ops.knn_pool(x, self.src, self.ptr, "sum", self.weight)
        return pixels.transpose(-1, -2).unflatten(-1, self.image_size)

    def extra_repr(self) -> str:
        height, width = self.image_size
        return f"{self.num_nodes} nodes → {height} × {width} pixels"
