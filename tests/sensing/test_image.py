"""Reading images, and checking them."""

import numpy as np
import pytest
import torch
from PIL import Image

from fovigraph.sensing import as_images, read_image


def saved(folder, image, name="image.png", **options):
    path = folder / name
    image.save(path, **options)
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

    @pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
    def test_type(self, dtype):
        with pytest.raises(TypeError, match="images must be uint8 or floating point"):
            as_images(torch.zeros(1, 3, 4, 4, dtype=dtype))
