"""Images: read from a file, and checked before a network looks at them."""

from __future__ import annotations

import math
import os
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

OVERSHOOT = 0.01
"""How far values may lie outside [0, 1] (resizing overshoots a little) before that is an error."""


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read an image file as RGB.

    Upright (EXIF orientation is applied). Transparent images are laid on white. Greyscale, palette
    and CMYK images become RGB; 16-bit greyscale is scaled to 8 bits. Of an animation, the first
    frame.

    Args:
        path: The file, in any format that Pillow reads.

    Returns:
        uint8, ``[3, H, W]``, row 0 at the top.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, is not an image, is truncated or damaged, or holds
            numbers of no known range (floating point, or integers beyond 16 bits).
    """
    return pixels_of(read_rgb(path, str(path)))


def read_rgb(
    file: str | os.PathLike[str] | BinaryIO, name: str, least: int | None = None
) -> Image.Image:
    """Read an image as :func:`read_image` does, to Pillow's RGB.

    Args:
        file: A path or an open binary file.
        name: What errors call it.
        least: A JPEG file may be decoded at reduced size, the shorter side no less than this.

    Raises:
        FileNotFoundError, ValueError: As :func:`read_image`.
    """
    try:
        with Image.open(file) as image:
            if least is not None and least < min(image.size):
                shrunk = least / min(image.size)
                image.draft(None, tuple(math.ceil(side * shrunk) for side in image.size))
            return _as_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no such image file: {name}") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"cannot read {name}: not an image, or of an unknown format") from error
    except Exception as error:  # decoders raise nearly everything: SyntaxError, struct.error, …
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(f"cannot read {name}: {reason}") from error


def pixels_of(image: Image.Image) -> Tensor:
    """Return the pixels of an RGB image, uint8 ``[3, H, W]``."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point greyscale has no defined white; convert it to 16 bits")
    if image.mode.startswith("I"):  # "I;16…", or "I", which holds 16 bits as a rule
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError(f"greyscale must fit in 16 bits, got {grey.min()} to {grey.max()}")
        image = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def as_images(images: Tensor) -> Tensor:
    """Check a batch of images and bring it to floating point in [0, 1].

    Args:
        images: ``[B, 3, H, W]``, or ``[3, H, W]`` for a single one; uint8, or floating point in
            [0, 1]. Floating-point images are returned as they are, without a copy.

    Returns:
        ``[B, 3, H, W]``, floating point.

    Raises:
        TypeError: If ``images`` is not a tensor of uint8 or floating point.
        ValueError: If the shape is another, or values are not finite or outside [0, 1]. (Values
            are not looked at while ``torch.compile`` traces.)
    """
    if not isinstance(images, Tensor):
        raise TypeError(
            f"images must be a torch.Tensor [B, 3, H, W], got {type(images).__name__}; "
            "fovigraph.sensing.read_image reads files, torch.from_numpy converts arrays"
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(f"images must be uint8 or floating point in [0, 1], got {images.dtype}")
    shape = tuple(images.shape)
    if len(shape) not in (3, 4):
        raise ValueError(f"images must have shape [B, 3, H, W] or [3, H, W], got {shape}")
    if shape[-3] != 3:
        last = shape[-1] == 3
        hint = "; channels come first: images.movedim(-1, -3)" if last else ""
        raise ValueError(
            f"images must have 3 channels, [B, 3, H, W] or [3, H, W], got {shape}{hint}"
        )
    if 0 in shape[-2:]:
        raise ValueError(f"images must have at least one row and one column, got {shape}")
    if len(shape) == 3:
        images = images[None]
    if images.dtype == torch.uint8:
        return images / 255
    if images.numel() and not torch.compiler.is_compiling():
        _check_range(images.detach())
    return images


def _check_range(images: Tensor) -> None:
    # One pass and one transfer for the usual case; aminmax passes NaN on.
    low, high = torch.stack(images.aminmax()).tolist()
    if low >= -OVERSHOOT and high <= 1 + OVERSHOOT:
        return
    bad = int((~images.isfinite()).sum())
    if bad:
        raise ValueError(
            f"images must be finite, got {bad} of {images.numel()} values that are NaN or infinite"
        )
    hint = "did you forget to divide by 255?" if low >= -OVERSHOOT else "give them unnormalised"
    raise ValueError(f"images must lie in [0, 1], got {low:g} to {high:g}; {hint}")
