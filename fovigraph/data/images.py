"""Images, from wherever they come, as a PyG dataset of what is seen of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch_geometric.data import Data, Dataset, HeteroData

from fovigraph.data.foveate import Foveate
from fovigraph.sensing import read_image


class FoveatedDataset(Dataset):
    """What a retina sees of every image of a dataset, for PyG's ``DataLoader``.

    Args:
        images: Anything with a length and an index: of images, or of pairs (image, label), as
            torchvision's datasets are; every image of a kind that :func:`as_image` takes.
        foveate: The transform; its data gets the label as ``y``, ``[1]``.

    Example:
        >>> import torch, fovigraph as fg
        >>> from torch_geometric.loader import DataLoader
        >>> foveate = fg.data.Foveate(fg.Retina(fg.SensorArray.matched(16)))
        >>> images = [(torch.rand(3, 32, 32), label) for label in range(6)]
        >>> batch = next(iter(DataLoader(fg.data.FoveatedDataset(images, foveate), batch_size=4)))
        >>> fg.data.static_batch(batch).shape, batch.y
        (torch.Size([4, 230, 3]), tensor([0, 1, 2, 3]))
    """

    def __init__(self, images: Sequence[Any], foveate: Foveate):
        super().__init__()
        self.images, self.foveate = images, foveate

    def len(self) -> int:
        return len(self.images)

    def get(self, idx: int) -> HeteroData:
        item = self.images[idx]
        image, *label = item if isinstance(item, tuple | list) else (item,)
        data = Data(image=as_image(image))
        if label:
            data.y = torch.as_tensor(label[0])[None]
        return self.foveate(data)


def as_image(image: Tensor | np.ndarray | Image.Image | str | os.PathLike[str]) -> Tensor:
    """Return an image as a tensor ``[C, H, W]``.

    Args:
        image: Such a tensor, returned as it is; an array ``[H, W, C]`` or ``[H, W]``; Pillow's
            image, made RGB; or a file (:func:`fovigraph.read_image`).

    Raises:
        TypeError, ValueError: If it is of another kind or shape.
    """
    if isinstance(image, Tensor):
        return image
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        image = np.array(image.convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise TypeError(
            "image must be a tensor, an array, Pillow's image or a file, "
            f"got {type(image).__name__}"
        )
    if image.ndim not in (2, 3):
        raise ValueError(f"image must be an array [H, W, C] or [H, W], got shape {image.shape}")
    return torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1).contiguous()
