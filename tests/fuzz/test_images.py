"""Damaged image files: the same pixels whichever way they are read, or an error."""

import functools
import io

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from trials import OUTCOMES, trials

import fovigraph as fg

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
MODES = ("RGB", "L", "RGBA", "LA", "P", "1", "CMYK", "I;16", "F")


@functools.cache
def encoded(mode, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 13, 4), dtype=np.uint8)
    image = Image.fromarray(pixels[..., :3]).convert("L" if mode in ("I;16", "F") else mode)
    image = image.convert(mode) if mode == "F" else image
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image
    stream = io.BytesIO()
    try:
        image.save(stream, kind)
    except (OSError, ValueError, KeyError):  # a format that does not have the mode
        return None
    return stream.getvalue()


@trials("images")
@given(data=st.data())
def test_pixels_or_an_error(data, tmp_path_factory):
    mode, kind = data.draw(st.sampled_from(MODES)), data.draw(st.sampled_from(FORMATS))
    content = encoded(mode, kind)
    if content is None:
        return
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(0, 4), label="bytes changed")):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.sampled_from([len(damaged), len(damaged) // 2, 3]))]
    path = tmp_path_factory.mktemp("images") / f"image.{kind.lower()}"
    path.write_bytes(damaged)
    try:
        image = fg.read_image(path)
    except ValueError as error:
        assert "image." in str(error), error
        OUTCOMES["images refused"] += 1
        return
    OUTCOMES["images read"] += 1
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3
    with Image.open(path) as opened:
        assert torch.equal(fg.data.as_image(opened), image)
