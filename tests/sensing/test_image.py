"""Reading images, and checking them."""

import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fovigraph.sensing import as_images, read_image
from fovigraph.sensing.image import as_image, check_images


def saved(folder, image, name="image.png", **options):
    path = folder / name
    image.save(path, **options)
    return path


def png(path, bits, colour, row, clear, palette=b""):
    """Write a PNG file of one row of four pixels, with a tRNS chunk."""

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, bits, colour, 0, 0, 0))
        + (chunk(b"PLTE", palette) if palette else b"")
        + chunk(b"tRNS", clear)
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )
    return path


def tiff(path, bits, photometric, content, width):
    """Write a TIFF file of one row of grey."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1}
    tags[279] = len(content)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    start = struct.pack("<I", 8 + len(content))
    path.write_bytes(b"II*\0" + start + content + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


def noise(*shape, high=256, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


class TestReadImage:
    def test_is_rgb_channels_first_row_0_at_the_top(self, tmp_path):
        pixels = noise(5, 7, 3)
        image = read_image(saved(tmp_path, Image.fromarray(pixels)))
        assert image.dtype == torch.uint8
        assert image.is_contiguous()
        assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1))

    def test_takes_a_path_as_a_string(self, tmp_path):
        path = saved(tmp_path, Image.new("RGB", (3, 2)))
        assert read_image(str(path)).shape == (3, 2, 3)

    def test_single_pixel(self, tmp_path):
        path = saved(tmp_path, Image.new("RGB", (1, 1), (1, 2, 3)))
        assert read_image(path).flatten().tolist() == [1, 2, 3]

    def test_greyscale_has_three_equal_channels(self, tmp_path):
        grey = noise(4, 6)
        image = read_image(saved(tmp_path, Image.fromarray(grey)))
        assert torch.equal(image, torch.from_numpy(grey).expand(3, 4, 6))

    def test_black_and_white(self, tmp_path):
        bits = Image.fromarray(np.array([[False, True]]))
        assert read_image(saved(tmp_path, bits)).tolist() == [[[0, 255]]] * 3

    def test_palette_is_looked_up(self, tmp_path):
        image = Image.new("P", (1, 1), 1)
        image.putpalette([0, 0, 0, 10, 20, 30])
        assert read_image(saved(tmp_path, image)).flatten().tolist() == [10, 20, 30]

    def test_16_bit_greyscale_is_scaled_not_clipped(self, tmp_path):
        grey = np.array([[0, 127, 129, 257, 32768, 65279, 65535]], dtype=np.uint16)
        image = read_image(saved(tmp_path, Image.fromarray(grey)))
        assert image[0].tolist() == [[0, 0, 1, 1, 128, 254, 255]]

    def test_16_bit_greyscale_held_as_32_bit_is_scaled_too(self, tmp_path):
        grey = Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.int32))
        assert read_image(saved(tmp_path, grey, "image.tiff"))[0].tolist() == [[0, 128, 255]]

    def test_transparency_is_laid_on_white(self, tmp_path):
        rgba = np.array([[[9, 8, 7, 255], [9, 8, 7, 0], [0, 0, 0, 51]]], dtype=np.uint8)
        image = read_image(saved(tmp_path, Image.fromarray(rgba)))
        assert image[:, 0].T.tolist() == [[9, 8, 7], [255] * 3, [204] * 3]

    def test_transparent_greyscale_and_palette_are_laid_on_white(self, tmp_path):
        grey = Image.fromarray(np.array([[[9, 255], [9, 0]]], dtype=np.uint8))
        palette = Image.new("P", (1, 1), 0)
        palette.putpalette([1, 2, 3])
        assert read_image(saved(tmp_path, grey))[0].tolist() == [[9, 255]]
        assert read_image(saved(tmp_path, palette, "p.png", transparency=0)).unique().tolist() == [
            255
        ]

    def test_cmyk_becomes_rgb(self, tmp_path):
        image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
        red = read_image(saved(tmp_path, image, "image.tiff"))
        assert red[:, 0, 0].tolist() == [255, 0, 0]

    def test_exif_orientation_is_applied(self, tmp_path):
        pixels = noise(2, 3, 3)
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned a quarter clockwise
        image = read_image(saved(tmp_path, Image.fromarray(pixels), exif=exif))
        turned = torch.from_numpy(np.rot90(pixels, -1).copy())
        assert torch.equal(image, turned.permute(2, 0, 1))

    def test_animation_gives_its_first_frame(self, tmp_path):
        frames = [Image.new("L", (2, 2), value) for value in (10, 200)]
        path = saved(tmp_path, frames[0], "image.gif", save_all=True, append_images=frames[1:])
        assert read_image(path).unique().tolist() == [10]

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no such image file: .*none\.png"):
            read_image(tmp_path / "none.png")

    @pytest.mark.parametrize(
        ("bits", "row", "clear", "expected"),
        [
            (1, b"\x50", 0, [255, 255, 255, 255]),
            (1, b"\x50", 1, [0, 255, 0, 255]),
            (2, b"\x1b", 1, [0, 255, 170, 255]),
            (4, b"\x5a\xf0", 5, [255, 170, 255, 0]),
            (8, b"\x05\x0a\x55\xff", 5, [255, 10, 85, 255]),
            (16, struct.pack(">4H", 1000, 1001, 40000, 0), 1000, [255, 4, 156, 0]),
        ],
    )
    def test_a_transparent_grey_is_white_at_any_depth(self, tmp_path, bits, row, clear, expected):
        path = png(tmp_path / "a.png", bits, 0, row, struct.pack(">H", clear))
        assert read_image(path).tolist() == [[expected]] * 3
        with Image.open(path) as image:
            image.load()
        assert as_image(image).tolist() == [[expected]] * 3

    def test_a_transparent_colour_is_white(self, tmp_path):
        row = bytes([1, 2, 3, 1, 2, 4, 9, 9, 9, 0, 0, 0])
        path = png(tmp_path / "a.png", 8, 2, row, struct.pack(">3H", 1, 2, 3))
        assert read_image(path)[:, 0].T.tolist() == [[255] * 3, [1, 2, 4], [9] * 3, [0] * 3]

    def test_a_transparent_colour_of_16_bits_is_refused(self, tmp_path):
        row = struct.pack(">12H", *range(12))
        for clear in (1000, 1):  # the second looks like one of 8 bits
            path = png(tmp_path / "a.png", 16, 2, row, struct.pack(">3H", *[clear] * 3))
            with pytest.raises(ValueError, match=r"a\.png: of 16-bit colours .* alpha channel"):
                read_image(path)

    def test_a_half_transparent_palette_is_laid_on_white(self, tmp_path):
        palette = bytes(range(10, 130, 10))
        path = png(tmp_path / "a.png", 4, 3, b"\x01\x23", bytes([255, 0, 128]), palette)
        assert read_image(path)[0, 0].tolist() == [10, 255, 162, 100]

    def test_greyscale_tiff_that_pillow_misreads_is_refused(self, tmp_path):
        content = struct.pack("<3H", 0, 10000, 65535)
        assert read_image(tiff(tmp_path / "a.tiff", 16, 1, content, 3))[0, 0].tolist() == [
            0, 39, 255,
        ]  # fmt: skip
        with pytest.raises(ValueError, match=r"a\.tiff: 16-bit TIFF whose 0 is white"):
            read_image(tiff(tmp_path / "a.tiff", 16, 0, content, 3))
        with pytest.raises(ValueError, match=r"a\.tiff: 12-bit TIFF"):
            read_image(tiff(tmp_path / "a.tiff", 12, 1, content, 4))

    @pytest.mark.parametrize("path", [3, True, None, b"a.png", ["a.png"], torch.zeros(2)])
    def test_no_path(self, path):
        with pytest.raises(TypeError, match=r"path must be a string or os\.PathLike, got"):
            read_image(path)

    def test_named_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "a.png")
        with pytest.raises(ValueError, match=r"a\.png: not a regular file, but a named pipe"):
            read_image(tmp_path / "a.png")

    def test_socket(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)  # for a socket's path must be short
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("a.png")
            with pytest.raises(ValueError, match=r"a\.png: not a regular file, but a socket"):
                read_image("a.png")

    def test_device(self):
        with pytest.raises(ValueError, match="cannot read /dev/null: not a regular file, but a de"):
            read_image("/dev/null")

    def test_link_to_a_file(self, tmp_path):
        path = saved(tmp_path, Image.new("RGB", (1, 1), (1, 2, 3)))
        (tmp_path / "link").symlink_to(path)
        assert read_image(tmp_path / "link").flatten().tolist() == [1, 2, 3]

    def test_folder(self, tmp_path):
        with pytest.raises(ValueError, match=f"cannot read {tmp_path}: Is a directory"):
            read_image(tmp_path)

    def test_unreadable_file(self, tmp_path, monkeypatch):
        path = saved(tmp_path, Image.new("RGB", (1, 1)))

        def refuse(*_):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Image, "open", refuse)
        with pytest.raises(ValueError, match=r"cannot read .*image\.png: Permission denied"):
            read_image(path)

    @pytest.mark.parametrize("content", [b"", b"hello", bytes(1000)])
    def test_not_an_image(self, tmp_path, content):
        path = tmp_path / "image.jpg"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot read .*image\.jpg: not an image"):
            read_image(path)

    @pytest.mark.parametrize("format", ["png", "jpg", "bmp", "tiff", "gif", "webp", "ppm"])
    @pytest.mark.parametrize("fraction", [0.05, 0.5, 0.9])
    def test_truncated(self, tmp_path, format, fraction):
        path = saved(tmp_path, Image.fromarray(noise(40, 40, 3)), f"image.{format}")
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * fraction)])
        with pytest.raises(ValueError, match=rf"cannot read .*image\.{format}: .+"):
            read_image(path)

    def test_floating_point_greyscale(self, tmp_path):
        path = saved(tmp_path, Image.fromarray(np.ones((2, 2), np.float32)), "image.tiff")
        with pytest.raises(ValueError, match=r"image\.tiff: floating-point greyscale has no"):
            read_image(path)

    def test_greyscale_beyond_16_bits(self, tmp_path):
        path = saved(tmp_path, Image.fromarray(np.full((1, 1), 65536, np.int32)), "image.tiff")
        with pytest.raises(ValueError, match="must fit in 16 bits, got 65536 to 65536"):
            read_image(path)

    def test_too_many_pixels(self, tmp_path, monkeypatch):
        path = saved(tmp_path, Image.new("RGB", (20, 20)))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(ValueError, match=r"image\.png: Image size \(400 pixels\) exceeds"):
            read_image(path)


GREY = noise(6, 9)
SIXTEEN = noise(6, 9, high=65536, dtype=np.uint16)
RGBA = noise(6, 9, 4)


def pictures():
    """Pillow's images of every kind, by the suffix of a file that keeps them, and options."""
    rgba = Image.fromarray(RGBA)
    palette = rgba.convert("RGB").quantize(8)
    yield "1.png", Image.fromarray(GREY > 99), {}
    yield "L.png", Image.fromarray(GREY), {}
    yield "L transparent.png", Image.fromarray(GREY), {"transparency": int(GREY[0, 0])}
    yield "LA.png", rgba.convert("LA"), {}
    yield "P.png", palette, {}
    yield "P transparent.png", palette, {"transparency": 3}
    yield "P half transparent.png", palette, {"transparency": bytes(range(0, 256, 36))}
    yield "P.gif", palette, {"transparency": 3}
    yield "RGB.png", rgba.convert("RGB"), {}
    yield (
        "RGB transparent.png",
        rgba.convert("RGB"),
        {"transparency": tuple(RGBA[0, 0, :3].tolist())},
    )
    yield "RGB.jpg", rgba.convert("RGB"), {}
    yield "RGBA.png", rgba, {}
    yield "RGBA.webp", rgba, {"lossless": True}
    yield "CMYK.tiff", rgba.convert("RGB").convert("CMYK"), {}
    yield "CMYK.jpg", rgba.convert("RGB").convert("CMYK"), {}
    yield "YCbCr.tiff", rgba.convert("RGB").convert("YCbCr"), {}
    yield "I;16.png", Image.fromarray(SIXTEEN), {}
    yield "I;16.tiff", Image.fromarray(SIXTEEN), {}
    yield "I.tiff", Image.fromarray(SIXTEEN.astype(np.int32)), {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for suffix in ("png", "jpg", "tiff", "webp"):
            yield f"turned {orientation}.{suffix}", rgba.convert("RGB"), {"exif": exif}
        yield f"16 bits turned {orientation}.png", Image.fromarray(SIXTEEN), {"exif": exif}
        yield f"1 bit turned {orientation}.png", Image.fromarray(GREY > 99), {"exif": exif}


PICTURES = {name: (image, options) for name, image, options in pictures()}


class TestAsImage:
    @pytest.mark.parametrize("name", PICTURES)
    def test_pillows_image_is_its_file(self, tmp_path, name):
        image, options = PICTURES[name]
        path = saved(tmp_path, image, name, **options)
        of_file = read_image(path)
        assert as_image(path).equal(of_file)
        with Image.open(path) as opened:
            assert as_image(opened).equal(of_file)
        assert as_image(opened).equal(of_file)  # which is closed by now
        with Image.open(path) as opened:
            assert as_image(opened.copy()).equal(of_file)

    def test_pillows_image_stays_as_it_is(self):
        image = Image.fromarray(GREY)
        image.info["transparency"] = int(GREY[0, 0])
        image.getexif()[0x0112] = 6
        before = image.copy()
        assert as_image(image).shape == (3, 9, 6)
        assert image == before and image.info == before.info and image.size == (9, 6)

    def test_big_endian_16_bits_of_pillow(self):
        image = Image.frombytes("I;16B", (9, 6), SIXTEEN.astype(">u2").tobytes())
        assert as_image(image).equal(as_image(Image.fromarray(SIXTEEN)))

    def test_pillows_image_that_cannot_be_read_is_named(self, tmp_path):
        with pytest.raises(ValueError, match="cannot read image: floating-point greyscale has no"):
            as_image(Image.fromarray(np.ones((2, 2), np.float32)))
        with pytest.raises(ValueError, match="cannot read image: there must be at least one pixel"):
            as_image(Image.new("RGB", (0, 5)))
        path = saved(tmp_path, Image.fromarray(noise(40, 40, 3)))
        path.write_bytes(path.read_bytes()[:2000])
        with Image.open(path) as image, pytest.raises(ValueError, match=r"cannot read image: .+"):
            as_image(image)

    def test_arrays_are_the_picture(self):
        pixels = RGBA[..., :3]
        assert as_image(pixels).equal(torch.from_numpy(pixels.copy()).permute(2, 0, 1))
        for kind in (GREY, SIXTEEN, GREY > 99):
            of_pillow = as_image(Image.fromarray(kind))
            assert as_image(kind).equal(of_pillow[:1])
            assert as_image(np.asarray(Image.fromarray(kind))).equal(of_pillow[:1])  # read-only
        assert as_image(np.stack([SIXTEEN] * 3, axis=-1)).equal(as_image(Image.fromarray(SIXTEEN)))

    def test_arrays_may_have_any_strides(self):
        for view in (
            RGBA[..., 2::-1],
            RGBA[::-1, ::-2],
            RGBA.transpose(1, 0, 2),
            np.broadcast_to(GREY[..., None], (6, 9, 3)),
        ):
            image = as_image(view)
            assert image.is_contiguous()
            assert image.equal(torch.from_numpy(view.copy()).permute(2, 0, 1))

    def test_an_image_does_not_share_memory_with_its_array(self):
        pixels = np.zeros((2, 2), np.uint8)
        image = as_image(pixels)
        pixels[:] = 1
        assert not image.any()

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float64])
    def test_tensors_are_returned_as_they_are(self, dtype):
        for channels in (1, 3, 5):
            image = torch.ones(channels, 4, 5, dtype=dtype)
            assert as_image(image) is image

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (200.0, r"image must lie in \[0, 1\], got 0 to 200; did you forget to divide by 255"),
            (-2.0, r"image must lie in \[0, 1\], got -2 to 0; give them unnormalised"),
            (np.nan, "image must be finite, got 1 of 12 values"),
            (np.inf, "image must be finite, got 1 of 12 values"),
        ],
    )
    def test_values_outside_0_to_1_are_refused(self, dtype, value, message):
        pixels = np.zeros((2, 2, 3), dtype)
        pixels[0, 1, 2] = value
        for image in (pixels, torch.from_numpy(pixels).permute(2, 0, 1)):
            with pytest.raises(ValueError, match=message):
                as_image(image)

    @pytest.mark.parametrize("dtype", [">f4", ">f8", ">u2", np.dtype("f4").newbyteorder()])
    def test_the_byte_order_of_other_machines_is_refused(self, dtype):
        with pytest.raises(TypeError, match="image must be in this machine's byte order, got dty"):
            as_image(np.zeros((4, 4, 3), dtype))

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            (3, "image must be a tensor, an array, Pillow's image or a file, got int"),
            (None, "got NoneType"),
            ([[0.5]], "got list"),
            (b"a.png", "got bytes"),
            (np.zeros((2, 2), np.int64), "image must be an array of bool, .* got int64"),
            (np.zeros((2, 2), np.longdouble), "image must be an array of .* got (float128|longd)"),
            (np.zeros((2, 2), complex), "image must be an array of .* got complex128"),
            (np.array([["a"]]), "image must be an array of .* got <U1"),
            (np.array([[None]]), "image must be an array of .* got object"),
            (torch.zeros(3, 2, 2, dtype=torch.int64), "image must be uint8 or floating .*int64"),
            (torch.zeros(3, 2, 2, dtype=torch.bool), "image must be uint8 or floating .*bool"),
            (torch.zeros(3, 2, 2).to_sparse(), "image must be a dense tensor, got one of layout"),
        ],
    )
    def test_other_types_are_refused(self, image, message):
        with pytest.raises(TypeError, match=message):
            as_image(image)

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            (np.zeros(3), r"image must be an array \[H, W, C\] or \[H, W\], got shape \(3,\)"),
            (np.zeros((1, 2, 2, 3)), r"image must be an array .* got shape \(1, 2, 2, 3\)"),
            (np.zeros((0, 2, 3)), r"image must have at least one pixel, got shape \[3, 0, 2\]"),
            (torch.zeros(2, 2), r"image must be a tensor \[C, H, W\], got shape \[2, 2\]"),
            (torch.zeros(1, 3, 2, 2), r"image must be a tensor \[C, H, W\], got shape \[1, 3, 2"),
            (torch.zeros(0, 2, 2), "image must have at least one pixel"),
            (torch.zeros(3, 2, 2, device="meta"), "image must hold values, got .* meta device"),
        ],
    )
    def test_other_shapes_are_refused(self, image, message):
        with pytest.raises(ValueError, match=message):
            as_image(image)

    def test_a_missing_file_is_named(self):
        for path in ("none.png", Path("none.png")):
            with pytest.raises(FileNotFoundError, match=r"no such image file: none\.png"):
                as_image(path)


class TestCheckImages:
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float64])
    def test_keeps_the_type_and_does_not_copy(self, dtype):
        images = torch.ones(2, 3, 4, 5, dtype=dtype)
        assert check_images(images) is images
        assert check_images(images[0]).data_ptr() == images.data_ptr()


class TestAsImages:
    def test_uint8_is_divided_by_255(self):
        images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
        assert as_images(images).flatten().tolist() == pytest.approx([0, 0.2, 1])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_floating_point_is_not_copied(self, dtype):
        images = torch.rand(2, 3, 4, 5).to(dtype)
        assert as_images(images) is images

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
    def test_single_image_becomes_a_batch(self, dtype):
        assert as_images(torch.zeros(3, 4, 5, dtype=dtype)).shape == (1, 3, 4, 5)

    def test_empty_batch(self):
        assert as_images(torch.zeros(0, 3, 4, 5)).shape == (0, 3, 4, 5)

    def test_a_little_overshoot_is_let_through(self):
        images = torch.tensor([-0.005, 0.5, 1.005]).view(1, 3, 1, 1)
        assert as_images(images) is images

    def test_lets_gradients_through(self):
        images = torch.rand(1, 3, 2, 2, requires_grad=True)
        as_images(images).sum().backward()
        assert torch.equal(images.grad, torch.ones_like(images))

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_values_must_be_finite(self, value):
        images = torch.rand(1, 3, 4, 4)
        images[0, 1, 2:, 3] = value
        with pytest.raises(ValueError, match="got 2 of 48 values that are NaN or infinite"):
            as_images(images)

    def test_0_to_255_in_floating_point(self):
        images = torch.full((1, 3, 2, 2), 200.0)
        with pytest.raises(ValueError, match="200 to 200; did you forget to divide by 255"):
            as_images(images)

    def test_normalised_images(self):
        with pytest.raises(ValueError, match=r"in \[0, 1\], got -2 to -2; give them unnormalised"):
            as_images(torch.full((1, 3, 2, 2), -2.0))

    @pytest.mark.parametrize("shape", [(4, 4), (1, 1, 3, 4, 4), ()])
    def test_dimensions(self, shape):
        with pytest.raises(ValueError, match=r"must have shape \[B, 3, H, W\] or \[3, H, W\], got"):
            as_images(torch.zeros(shape))

    @pytest.mark.parametrize("shape", [(2, 1, 4, 4), (4, 8, 8)])
    def test_channels(self, shape):
        with pytest.raises(ValueError, match="must have 3 channels"):
            as_images(torch.zeros(shape))

    def test_channels_last(self):
        with pytest.raises(ValueError, match="channels come first"):
            as_images(torch.zeros(2, 8, 8, 3))

    @pytest.mark.parametrize("shape", [(1, 3, 0, 4), (3, 4, 0)])
    def test_no_pixels(self, shape):
        with pytest.raises(ValueError, match="at least one row and one column"):
            as_images(torch.zeros(shape))

    @pytest.mark.parametrize("images", [np.zeros((1, 3, 4, 4)), [[0.0]], None])
    def test_not_a_tensor(self, images):
        with pytest.raises(TypeError, match=r"images must be a torch\.Tensor"):
            as_images(images)

    def test_values_must_be_there(self):
        with pytest.raises(ValueError, match="images must hold values, got a tensor on the meta"):
            as_images(torch.rand(1, 3, 9, 9, device="meta"))

    def test_a_function_transform_does_not_look_at_values(self):
        images = torch.rand(2, 1, 3, 4, 4)
        assert torch.func.vmap(as_images)(images).equal(images)

    @pytest.mark.parametrize(
        "images",
        [
            torch.zeros(1, 3, 4, 4).to_sparse(),
            torch.nested.nested_tensor([torch.zeros(3, 4, 4)], layout=torch.jagged),
        ],
        ids=["sparse", "nested"],
    )
    def test_layout(self, images):
        with pytest.raises(TypeError, match="images must be a dense tensor, got"):
            as_images(images)

    @pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
    def test_type(self, dtype):
        with pytest.raises(TypeError, match="images must be uint8 or floating point"):
            as_images(torch.zeros(1, 3, 4, 4, dtype=dtype))
