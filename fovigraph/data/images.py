"""Images, from wherever they come, as a PyG dataset of what is seen of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data, Dataset, HeteroData
from torch_geometric.transforms import BaseTransform

from fovigraph._checks import instance, shown
from fovigraph.sensing.image import as_image


class FoveatedDataset(Dataset):
    """What a retina sees of every image of a dataset, for PyG's ``DataLoader``.

    Args:
        images: Anything with a length and an index: of images, or of pairs (image, label), as
            torchvision's datasets are; every image of a kind that :func:`as_image` takes.
        foveate: The transform, a :class:`Foveate` or one that contains it; its data gets the label
            as ``y``, ``[1]``.

    Raises:
        TypeError: If an argument is not of the kind said above; of images and labels, when they
            are asked for.

    Example:
        >>> import torch, fovigraph as fg
        >>> from torch_geometric.loader import DataLoader
        >>> foveate = fg.data.Foveate(fg.Retina(fg.SensorArray.matched(16)))
        >>> images = [(torch.rand(3, 32, 32), label) for label in range(6)]
        >>> batch = next(iter(DataLoader(fg.data.FoveatedDataset(images, foveate), batch_size=4)))
        >>> fg.data.static_batch(batch).shape, batch.y
        (torch.Size([4, 230, 3]), tensor([0, 1, 2, 3]))
    """

    def __init__(self, images: Sequence[Any], foveate: BaseTransform):
        super().__init__()
        if isinstance(images, str | bytes) or not (
            hasattr(images, "__len__") and hasattr(images, "__getitem__")
        ):
            raise TypeError(f"images must have a length and an index, got {shown(images)}")
        self.images = images
        self.foveate = instance("foveate", foveate, BaseTransform, allowed="a Foveate")

    def len(self) -> int:
        return len(self.images)

    def get(self, idx: int) -> HeteroData:
        item = self.images[idx]
        image, *label = item if isinstance(item, tuple | list) and item else (item,)
        data = Data(image=as_image(image))
        if label:
            data.y = _label(label[0])[None]
        return self.foveate(data)


def _label(value: Any) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"label must be a number or numbers, got {shown(value)}") from error
