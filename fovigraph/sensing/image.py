"""Images: from a file, Pillow, an array or a tensor, all read and checked by the same rules."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Float, Num
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from fovigraph._checks import regular_file, shown
from fovigraph._tensors import has_values

OVERSHOOT = 0.01
"""How far values may lie outside [0, 1] (resizing overshoots a little) before that is an error."""

DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)

ARRAYS = ("bool", "uint8", "uint16", "float16", "float32", "float64")


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
        TypeError: If ``path`` is no path.
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no regular file (but a folder, a named pipe, a device), cannot be
            read, is not an image, is truncated or damaged, or holds numbers of no known range
            (floating point, or integers beyond 16 bits).
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a string or os.PathLike, got {shown(path)}")
    return pixels_of(read_rgb(path, str(path)))


def as_image(image: Tensor | np.ndarray | Image.Image | str | os.PathLike[str]) -> Tensor:
    """Return an image as a tensor ``[C, H, W]``, whatever it comes as.

    A file and Pillow's image of it give the same pixels; so does Pillow's image as an array, except
    that an array has no orientation, palette or transparency, and keeps its number of channels.

    Args:
        image: Such a tensor, uint8 or floating point in [0, 1], returned as it is; an array
            ``[H, W, C]`` or ``[H, W]`` of these types or of 16 bits or 1 bit, which become uint8;
            Pillow's image, which becomes RGB as :func:`fovigraph.read_image` says; or a file, which
            that function reads.

    Returns:
        uint8, or floating point in [0, 1].

    Raises:
        TypeError: If it is of another kind, or holds numbers of another type.
        ValueError: If it has another shape, values that are not finite or outside [0, 1], or cannot
            be read.
        FileNotFoundError: If there is no such file.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        with _readable("image"):
            return pixels_of(_as_rgb(image))
    if isinstance(image, np.ndarray):
        image = _channels_first(image)
    if not isinstance(image, Tensor):
        raise TypeError(
            "image must be a tensor, an array, Pillow's image or a file, "
            f"got {type(image).__name__}"
        )
    _check_kind("image", image)
    if image.ndim != 3:
        raise ValueError(f"image must be a tensor [C, H, W], got shape {list(image.shape)}")
    if 0 in image.shape:
        raise ValueError(f"image must have at least one pixel, got shape {list(image.shape)}")
    _check_range("image", image)
    return image


def as_images(images: Num[Tensor, "*batch C H W"]) -> Float[Tensor, "B C H W"]:
    """Check a batch of images and bring it to floating point in [0, 1].

    Args:
        images: ``[B, 3, H, W]``, or ``[3, H, W]`` for a single one; uint8, or floating point in
            [0, 1]. Floating-point images are returned as they are, without a copy.

    Returns:
        ``[B, 3, H, W]``, floating point.

    Raises:
        TypeError: If ``images`` is not a tensor of uint8 or floating point.
        ValueError: If the shape is another, or values are not finite or outside [0, 1]. (Values
            are not looked at while ``torch.compile`` traces or ``torch.func`` transforms.)
    """
    images = check_images(images)
    return images / 255 if images.dtype == torch.uint8 else images


def check_images(images: Num[Tensor, "*batch C H W"], channels: int = 3) -> Num[Tensor, "B C H W"]:
    """Check a batch of images as :func:`as_images` does, and return it in its own type, uncopied.

    Args:
        images: ``[B, C, H, W]``, or ``[C, H, W]`` for a single one.
        channels: Number of channels C that they must have.

    Returns:
        ``[B, C, H, W]``, uint8 or floating point.
    """
    batch, one = f"[B, {channels}, H, W]", f"[{channels}, H, W]"
    if not isinstance(images, Tensor):
        raise TypeError(
            f"images must be a torch.Tensor {batch}, got {type(images).__name__}; "
            "fovigraph.data.as_image takes files, arrays and Pillow's images"
        )
    _check_kind("images", images)
    shape = tuple(images.shape)
    if len(shape) not in (3, 4):
        raise ValueError(f"images must have shape {batch} or {one}, got {shape}")
    if shape[-3] != channels:
        last = shape[-1] == channels
        hint = "; channels come first: images.movedim(-1, -3)" if last else ""
        raise ValueError(
            f"images must have {channels} channel{'s' * (channels > 1)}, {batch} or {one}, "
            f"got {shape}{hint}"
        )
    if 0 in shape[-2:]:
        raise ValueError(f"images must have at least one row and one column, got {shape}")
    _check_range("images", images)
    return images[None] if len(shape) == 3 else images


def native(array: np.ndarray, name: str) -> np.ndarray:
    """Return an array as :func:`torch.from_numpy` takes it, whatever its strides; always a copy.

    Raises:
        TypeError: If its bytes are in the order of another kind of machine.
    """
    if not array.dtype.isnative:
        raise TypeError(
            f"{name} must be in this machine's byte order, got dtype {array.dtype.str}; "
            "array.astype(array.dtype.newbyteorder('=')) has it"
        )
    return np.array(array, order="C")


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
    with _readable(name):
        if isinstance(file, str | os.PathLike):
            regular_file(file)
        with Image.open(file) as image:
            if least is not None and least < min(image.size):
                shrunk = least / min(image.size)
                image.draft(None, tuple(math.ceil(side * shrunk) for side in image.size))
            return _as_rgb(image)


def pixels_of(image: Image.Image) -> Tensor:
    """Return the pixels of an RGB image, uint8 ``[3, H, W]``."""
    return _channels_first(np.asarray(image))


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises on an image into an error that says which and why."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no such image file: {name}") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"cannot read {name}: not an image, or of an unknown format") from error
    except Exception as error:  # decoders raise nearly everything: SyntaxError, struct.error, …
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(f"cannot read {name}: {reason}") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    """Return an image upright, on white where it is transparent, in RGB; perhaps the same object.

    The image that is given is decoded, but not changed.
    """
    if 0 in image.size:
        raise ValueError(f"there must be at least one pixel, got {image.width} × {image.height}")
    if image.mode == "F":
        raise ValueError("floating-point greyscale has no defined white; convert it to 16 bits")
    clear = _transparent_value(image)  # before decoding, after which Pillow forgets the bit depth
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # "I;16…", or "I", which holds 16 bits as a rule
        tags = getattr(image, "tag_v2", {})
        if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
            raise ValueError("16-bit TIFF whose 0 is white comes out inverted; make 0 its black")
        if tags.get(TiffImagePlugin.BITSPERSAMPLE) == (12,):
            raise ValueError("12-bit TIFF comes out dark; convert it to 16 bits")
        image = Image.fromarray(_eight_bits(np.asarray(image), clear))
    elif image.has_transparency_data:
        if clear is not None and clear != image.info["transparency"]:
            image = image.copy()
            image.info["transparency"] = clear
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == "RGB" else image.convert("RGB")


def _transparent_value(image: Image.Image) -> Any:
    """Return the grey, colour or palette entry that is transparent (PNG's tRNS), if there is one.

    In the numbers that Pillow decodes, which are 8-bit ones where the file's have fewer bits.
    """
    clear = image.info.get("transparency")
    tile = next(iter(getattr(image, "tile", [])), None)
    coding = tile[3] if tile is not None and isinstance(tile[3], str) else ""
    if image.mode == "L" and isinstance(clear, int):
        step = {"L;2": 85, "L;4": 17}.get(coding, 1)
        return clear * (_step_between_greys(image, clear) if tile is None else step)
    if isinstance(clear, tuple) and (coding == "RGB;16B" or max(clear) > 255):
        raise ValueError(
            "of 16-bit colours Pillow keeps 8 bits, too few to find the transparent one (tRNS); "
            "give the image an alpha channel"
        )
    return clear


def _step_between_greys(image: Image.Image, clear: int) -> int:
    """Guess how many greys of 8 bits one of the file's is, of an image that is decoded already.

    It had 2 or 4 bits if all its greys are those of that many, and ``clear`` is only then one.
    """
    greys = {grey for grey, count in enumerate(image.histogram()) if count}
    for step in (85, 17):
        if clear not in greys and clear * step <= 255 and all(grey % step == 0 for grey in greys):
            return step
    return 1


def _eight_bits(grey: np.ndarray, clear: Any = None) -> np.ndarray:
    """Scale 16-bit values to 8 bits; those that are ``clear`` become white."""
    if grey.dtype != np.uint16 and (grey.min() < 0 or grey.max() > 65535):
        raise ValueError(f"greyscale must fit in 16 bits, got {grey.min()} to {grey.max()}")
    scaled = ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if isinstance(clear, int):
        scaled[grey == clear] = 255
    return scaled


def _channels_first(array: np.ndarray) -> Tensor:
    """Return an array ``[H, W, C]`` or ``[H, W]`` of an image as a tensor ``[C, H, W]``."""
    if array.ndim not in (2, 3):
        raise ValueError(f"image must be an array [H, W, C] or [H, W], got shape {array.shape}")
    array = native(np.moveaxis(np.atleast_3d(array), -1, 0), "image")
    if array.dtype.name not in ARRAYS:
        raise TypeError(f"image must be an array of {', '.join(ARRAYS)}, got {array.dtype}")
    if array.dtype == np.uint16:
        array = _eight_bits(array)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    return torch.from_numpy(array)


def _check_kind(name: str, images: Tensor) -> None:
    if images.dtype not in DTYPES:
        raise TypeError(f"{name} must be uint8 or floating point in [0, 1], got {images.dtype}")
    if images.layout != torch.strided or images.is_nested:
        kind = "a nested one" if images.is_nested else f"one of layout {images.layout}"
        raise TypeError(f"{name} must be a dense tensor, got {kind}")


def _check_range(name: str, images: Tensor) -> None:
    if images.dtype == torch.uint8 or not images.numel() or not has_values(images):
        return
    if images.device.type == "meta":
        raise ValueError(f"{name} must hold values, got a tensor on the meta device")
    # One pass and one transfer for the usual case; aminmax passes NaN on.
    low, high = torch.stack(images.detach().aminmax()).tolist()
    if low >= -OVERSHOOT and high <= 1 + OVERSHOOT:
        return
    bad = int((~images.isfinite()).sum())
    if bad:
        raise ValueError(
            f"{name} must be finite, got {bad} of {images.numel()} values that are NaN or infinite"
        )
    hint = "did you forget to divide by 255?" if low >= -OVERSHOOT else "give them unnormalised"
    raise ValueError(f"{name} must lie in [0, 1], got {low:g} to {high:g}; {hint}")
