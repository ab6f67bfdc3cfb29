"""The retina: where nodes fall in an image, and what they see."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import fovigraph as fg
from fovigraph.geometry import SensorArray
from fovigraph.graph import knn_graph
from fovigraph.sensing import Retina, as_images, retina

GOLDEN = Path(__file__).parents[1] / "data" / "retina.npz"
SAMPLINGS = ("bilinear", "gaussian", "knn_mean", "nearest")
CENTER = [[0.5, 0.5]]


@pytest.fixture(scope="module")
def array():
    return SensorArray(7, fov=16.0, cmf_a=0.5)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        names = ("array", "image", "fixation", "size", "pixel", "nearest", "bilinear")
        return {name: torch.from_numpy(arrays[name]) for name in names}


@pytest.fixture(scope="module")
def golden_array(golden):
    fov, cmf_a, rings = golden["array"].tolist()
    return SensorArray(int(rings), fov=fov, cmf_a=cmf_a)


def picture(batch=2, channels=3, height=20, width=28, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, channels, height, width, generator=generator).to(dtype)


def places(batch=2, count=3):
    return torch.rand(batch, count, 2, generator=torch.Generator().manual_seed(1))


def pixel(image, row, column):
    """An image's pixel, or black outside of it."""
    inside = 0 <= row < image.shape[1] and 0 <= column < image.shape[2]
    return image[:, row, column] if inside else torch.zeros_like(image[:, 0, 0])


def look(image, row, column, sampling):
    """The definition of a sample, for one point: pixel (i, j) is centred on (i + ½, j + ½)."""
    if sampling == "nearest":
        return pixel(image, math.floor(row), math.floor(column))
    i, j = math.floor(row - 0.5), math.floor(column - 0.5)
    p, q = row - 0.5 - i, column - 0.5 - j
    return (
        (1 - p) * (1 - q) * pixel(image, i, j)
        + (1 - p) * q * pixel(image, i, j + 1)
        + p * (1 - q) * pixel(image, i + 1, j)
        + p * q * pixel(image, i + 1, j + 1)
    )


def by_definition(array, images, fixations, size, sampling):
    """Samples one point after the other, in double precision."""
    height, width = images.shape[2:]
    out = torch.empty(*fixations.shape[:2], len(array), images.shape[1], dtype=torch.float64)
    for b, image in enumerate(images.double()):
        for f, (at_row, at_column) in enumerate(fixations[b].tolist()):
            for n, (x, y) in enumerate(array.cartesian.tolist()):
                row, column = at_row * height - y * size[0] / 2, at_column * width + x * size[1] / 2
                out[b, f, n] = look(image, row, column, sampling)
    return out


class TestGolden:
    """What the peer samples: benchmarks/make_golden.py says what the arrays are."""

    def test_pixels(self, golden, golden_array):
        pixels = Retina(golden_array).pixels(golden["fixation"], (40, 56), golden["size"])
        torch.testing.assert_close(pixels.float(), golden["pixel"], rtol=0, atol=2e-5)

    def test_nearest(self, golden, golden_array):
        retina = Retina(golden_array, "nearest")
        samples = retina(golden["image"][None], golden["fixation"], golden["size"])
        border = (golden["pixel"] - golden["pixel"].round()).abs().amin(-1) < 1e-4
        assert border.float().mean() < 0.1
        assert torch.equal(samples[0][~border], golden["nearest"].movedim(1, -1)[~border])

    def test_bilinear(self, golden, golden_array):
        # Both are off by as much as 4.6e-6 from double precision, as grid_sample is in single.
        view = golden["fixation"].float(), golden["size"].float()
        samples = Retina(golden_array)(golden["image"][None], *view)
        torch.testing.assert_close(samples[0], golden["bilinear"].movedim(1, -1), rtol=0, atol=1e-6)


class TestSamples:
    @pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
    def test_are_as_defined(self, array, sampling):
        images, fixations = picture(), places()
        samples = Retina(array, sampling)(images, fixations, (17.3, 31.1))
        expected = by_definition(array, images, fixations, (17.3, 31.1), sampling)
        torch.testing.assert_close(samples.double(), expected, rtol=0, atol=4e-6)

    @pytest.mark.parametrize(("height", "width"), [(20, 28), (21, 27), (64, 64)])
    def test_on_a_border_between_pixels_are_grid_samples(self, array, height, width):
        images, fixations = picture(height=height, width=width), torch.tensor(CENTER * 2)[:, None]
        retina = Retina(array, "nearest")
        pixels = retina.pixels(fixations, (height, width))
        assert (pixels == pixels.round()).any()
        grid = 2 * pixels.flip(-1) / torch.tensor([width, height]) - 1
        expected = F.grid_sample(images, grid, mode="nearest", align_corners=False)
        assert torch.equal(retina(images, fixations), expected.movedim(1, -1))

    @pytest.mark.parametrize("sampling", SAMPLINGS)
    def test_are_nodes_by_channels_of_every_fixation(self, array, sampling):
        samples = Retina(array, sampling)(picture(channels=5), places())
        assert samples.shape == (2, 3, len(array), 5)
        assert samples.is_contiguous()

    @pytest.mark.parametrize("sampling", SAMPLINGS)
    def test_fixations_are_independent(self, array, sampling):
        retina, images, fixations = Retina(array, sampling), picture(), places()
        sizes = torch.rand(2, 3, 2) * 20 + 5
        together = retina(images, fixations, sizes)
        for b in range(2):
            for f in range(3):
                alone = retina(images[b : b + 1], fixations[b : b + 1, f : f + 1], sizes[b, f])
                torch.testing.assert_close(together[b, f], alone[0, 0])

    @pytest.mark.parametrize("sampling", SAMPLINGS)
    def test_same_fixations_in_every_image(self, array, sampling):
        retina, images, fixations = Retina(array, sampling), picture(), places()[0]
        assert torch.equal(
            retina(images, fixations), retina(images, fixations.expand(2, -1, -1).contiguous())
        )

    @pytest.mark.parametrize("sampling", SAMPLINGS)
    def test_of_an_even_image_are_even(self, array, sampling):
        samples = Retina(array, sampling, fixation_size=8)(torch.full((1, 3, 20, 20), 0.3), CENTER)
        torch.testing.assert_close(samples, torch.full_like(samples, 0.3))

    @pytest.mark.parametrize("sampling", SAMPLINGS)
    def test_outside_the_image_are_black(self, array, sampling):
        samples = Retina(array, sampling)(torch.ones(1, 1, 20, 20), [[-0.6, 0.5], [0.5, 1.8]])
        assert (samples == 0).all()

    @pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
    def test_up_in_the_visual_field_is_towards_the_first_row(self, array, sampling):
        rows = torch.arange(64.0).view(1, 1, 64, 1).expand(1, 2, 64, 64).clone()
        rows[:, 1] = rows[:, 0].mT
        row, column = Retina(array, sampling, fixation_size=32)(rows, CENTER)[0, 0].unbind(-1)
        x, y = array.cartesian.float().unbind(-1)
        torch.testing.assert_close(row, 31.5 - 16 * y, rtol=0, atol=0.51)
        torch.testing.assert_close(column, 31.5 + 16 * x, rtol=0, atol=0.51)

    @pytest.mark.parametrize("sampling", SAMPLINGS)
    def test_one_pixel_image(self, array, sampling):
        samples = Retina(array, sampling, fixation_size=0.5)(torch.ones(1, 3, 1, 1), CENTER)
        assert (samples[0, 0, 0] > 0.5).all()

    @pytest.mark.parametrize("sampling", SAMPLINGS)
    def test_array_of_one_node(self, sampling):
        retina = Retina(SensorArray(1), sampling, fixation_size=2)
        samples = retina(torch.full((1, 3, 9, 9), 0.5), CENTER)
        torch.testing.assert_close(samples, torch.full((1, 1, 1, 3), 0.5))

    @pytest.mark.parametrize("sampling", SAMPLINGS)
    def test_no_images(self, array, sampling):
        assert Retina(array, sampling)(picture(batch=0), CENTER).shape == (0, 1, len(array), 3)

    @settings(max_examples=30, deadline=None)
    @given(
        row=st.floats(-0.5, 1.5),
        column=st.floats(-0.5, 1.5),
        height=st.floats(1, 100),
        width=st.floats(1, 100),
        sampling=st.sampled_from(["bilinear", "nearest"]),
    )
    def test_of_any_view_lie_within_the_images_range(self, row, column, height, width, sampling):
        retina = Retina(SensorArray(5), sampling)
        samples = retina(picture(1), [[row, column]], (height, width))
        assert samples.min() >= 0
        assert samples.max() <= 1


class TestAnImageForEachFixation:
    @pytest.mark.parametrize("sampling", [*SAMPLINGS, "area"])
    def test_is_seen_at_its_own_fixation(self, array, sampling):
        retina = Retina(array, sampling, mean=[0.5] * 3, std=[0.25] * 3)
        frames = picture(batch=6).unflatten(0, (2, 3))
        sizes = torch.rand(2, 3, 2) * 20 + 5
        for size in (None, 15.0, sizes):
            together = retina(frames, places(), size)
            for f in range(3):
                one = size if size is None or isinstance(size, float) else size[:, f : f + 1]
                alone = retina(frames[:, f], places()[:, f : f + 1], one)
                torch.testing.assert_close(together[:, f : f + 1], alone)

    def test_colours_and_changes(self, array):
        retina, frames = Retina(array), picture(batch=6).unflatten(0, (2, 3))
        seen = retina(frames, places(), vary=lambda colors: colors / 2)
        assert seen.shape == (2, 3, len(array), 3)
        torch.testing.assert_close(seen, retina.colors(frames, places()) / 2)

    def test_there_is_one_for_each(self, array):
        frames = picture(batch=6).unflatten(0, (2, 3))
        with pytest.raises(ValueError, match="must be one for each of the 1 fixations"):
            Retina(array)(frames, CENTER)


class TestPixels:
    def test_shape_is_the_fixations_by_nodes(self, array):
        retina = Retina(array)
        assert retina.pixels(places(), (20, 28)).shape == (2, 3, len(array), 2)
        assert retina.pixels(places()[0], (20, 28)).shape == (3, len(array), 2)

    def test_node_in_the_centre_falls_on_the_fixation(self, array):
        pixels = Retina(array).pixels([[0.25, 0.75]], (20, 28))
        assert pixels[0, 0].tolist() == [5, 21]

    def test_edge_of_the_field_spans_the_size(self, array):
        pixels = Retina(array).pixels(CENTER, (20, 28), (10.0, 16.0))
        extent = pixels.amax(1) - pixels.amin(1)
        assert extent[0, 1].item() <= 16
        at_right = array.cartesian[:, 0].argmax()
        assert pixels[0, at_right].tolist() == pytest.approx([10, 14 + 8])

    def test_view_is_a_square_as_long_as_the_shorter_side(self, array):
        retina = Retina(array)
        for size in ((20, 28), (28, 20)):
            assert torch.equal(retina.pixels(CENTER, size), retina.pixels(CENTER, size, 20))

    def test_size_given_to_the_retina_is_used_unless_another_is_given(self, array):
        retina = Retina(array, fixation_size=(10, 12))
        assert torch.equal(
            retina.pixels(CENTER, (20, 28)), retina.pixels(CENTER, (20, 28), torch.tensor([10, 12]))
        )
        assert not torch.equal(
            retina.pixels(CENTER, (20, 28)), retina.pixels(CENTER, (20, 28), (10, 13))
        )

    def test_sizes_broadcast(self, array):
        retina = Retina(array)
        sizes = torch.rand(2, 3, 2) + 5
        full = retina.pixels(places(), (20, 28), sizes)
        one = retina.pixels(places(), (20, 28), sizes[:1])
        per_fixation = retina.pixels(places(), (20, 28), sizes[0])
        assert torch.equal(full[0], one[0])
        assert torch.equal(one, per_fixation)
        assert torch.equal(
            retina.pixels(places(), (20, 28), 7), retina.pixels(places(), (20, 28), [7.0, 7.0])
        )

    def test_are_where_samples_come_from(self, array):
        images = picture(1)
        row, column = Retina(array).pixels(CENTER, (20, 28)).floor().long().unbind(-1)
        samples = Retina(array, "nearest")(images, CENTER)
        inside = (row >= 0) & (row < 20) & (column >= 0) & (column < 28)
        expected = images[0][:, row[inside], column[inside]].T
        assert torch.equal(samples[0][inside], expected)


class TestPooling:
    def test_photoreceptors_are_three_times_as_fine(self, array):
        retina = Retina(array, "knn_mean")
        fine = retina.photoreceptors.array
        assert fine == SensorArray(21, fov=16.0, cmf_a=0.5)
        assert retina.graph.k == round(len(fine) / len(array))

    def test_oversampling_and_k(self, array):
        retina = Retina(array, "knn_mean", oversampling=1.5, k=5)
        assert retina.photoreceptors.array.resolution == 10
        assert retina.graph.k == 5

    def test_photoreceptors_may_have_another_magnification(self, array):
        retina = Retina(array, "knn_mean", cmf_a_mult=2.0, metric="visual")
        fine = SensorArray(21, fov=16.0, cmf_a=1.0)
        assert retina.photoreceptors.array == fine
        expected = knn_graph(fine, array, round(len(fine) / len(array)), "visual")
        assert torch.equal(retina.graph.edge_index, expected.edge_index)

    def test_photoreceptors_of_another_surface_have_no_cortical_distance(self, array):
        with pytest.raises(ValueError, match=r"metric must be 'visual' unless cmf_a_mult is 1"):
            Retina(array, "gaussian", cmf_a_mult=0.5)

    @pytest.mark.parametrize(("sampling", "sigma"), [("knn_mean", None), ("gaussian", 0.3)])
    def test_is_a_mean_of_nearest_pixels(self, array, sampling, sigma):
        retina = Retina(array, sampling, **({"sigma": sigma} if sigma else {}))
        images, fixations = picture(), places()
        fine = retina.photoreceptors.array
        graph = knn_graph(fine, array, retina.graph.k)
        seen = Retina(fine, "nearest")(images, fixations)
        weight = torch.ones(graph.num_edges)
        if sigma:
            weight = torch.exp(-(graph.relative_distance**2) / (2 * sigma**2))
        matrix = torch.zeros(len(array), len(fine))
        matrix[graph.edge_index[1], graph.edge_index[0]] = weight
        matrix /= matrix.sum(1, keepdim=True)
        torch.testing.assert_close(retina(images, fixations), matrix @ seen)

    def test_uint8_is_averaged_in_floating_point(self, array):
        images = (picture() * 255).round()
        retina = Retina(array, "knn_mean")
        torch.testing.assert_close(
            retina(images.to(torch.uint8), places()), retina(images / 255, places())
        )

    def test_uses_the_retinas_fixation_size(self, array):
        images = picture()
        given = Retina(array, "knn_mean")(images, places(), (9, 11))
        assert torch.equal(
            Retina(array, "knn_mean", fixation_size=(9, 11))(images, places()), given
        )


class TestColorDecay:
    def test_saturation_falls_with_eccentricity_and_luminance_stays(self, array):
        images = picture()
        plain, faded = (Retina(array, color_decay=decay)(images, places()) for decay in (None, 3.0))
        weights = torch.tensor([0.299, 0.587, 0.114])
        luminance = (plain @ weights)[..., None]
        torch.testing.assert_close((faded @ weights)[..., None], luminance)
        share = torch.exp(-array.eccentricity.float() / 3)[:, None]
        torch.testing.assert_close(faded - luminance, share * (plain - luminance))

    def test_centre_keeps_its_colour(self, array):
        images = picture()
        plain, faded = (Retina(array, color_decay=decay)(images, places()) for decay in (None, 0.1))
        torch.testing.assert_close(faded[:, :, 0], plain[:, :, 0])
        assert (faded[:, :, -1].amax(-1) - faded[:, :, -1].amin(-1)).max() < 1e-6

    @pytest.mark.parametrize("sampling", SAMPLINGS)
    def test_grey_stays_grey(self, array, sampling):
        grey = picture(channels=1).expand(-1, 3, -1, -1)
        plain, faded = (
            Retina(array, sampling, color_decay=decay)(grey, places()) for decay in (None, 2.0)
        )
        torch.testing.assert_close(faded, plain)

    def test_needs_three_channels(self, array):
        with pytest.raises(ValueError, match="images must have 3 channels for color_decay, got 1"):
            Retina(array, color_decay=2.0)(picture(channels=1), CENTER)


class TestDarkening:
    def test_falls_exponentially_with_eccentricity_in_radii(self):
        array = SensorArray(13, fov=16.0, cmf_a=0.5)
        dark, plain = (Retina(array, darkening=d)(picture(), places()) for d in (0.1, None))
        factor = (dark / plain)[0, 0, :, 0]
        assert factor[1].item() == pytest.approx(0.8466745, abs=1e-6)
        seen = torch.exp(-array.eccentricity.float() / 8 / 0.1)
        torch.testing.assert_close(dark, plain * seen[:, None])
        assert seen[-1].item() == pytest.approx(4.54e-5, rel=1e-3)

    def test_acts_on_normalised_samples(self, array):
        normal = {"mean": [0.5] * 3, "std": [0.25] * 3}
        dark = Retina(array, darkening=0.5, **normal)(picture(), places())
        plain = Retina(array, **normal)(picture(), places())
        factor = torch.exp(-array.eccentricity.float() / 4)[:, None]
        torch.testing.assert_close(dark, plain * factor)

    def test_shows_in_pictures(self, array):
        retina = Retina(array, darkening=0.5, mean=[0.5] * 3, std=[0.25] * 3)
        expected = Retina(array, darkening=0.5)(picture(), places())
        assert torch.equal(retina.colors(picture(), places()), expected)

    @pytest.mark.parametrize("darkening", [0, -1.0, math.nan, True])
    def test_must_be_positive(self, array, darkening):
        with pytest.raises((TypeError, ValueError), match="darkening must be"):
            Retina(array, darkening=darkening)


class TestGreyInEval:
    def test_samples_are_grey_in_evaluation_only(self, array):
        retina, plain = Retina(array, grey_in_eval=True), Retina(array)
        coloured = plain(picture(), places())
        assert torch.equal(retina(picture(), places()), coloured)
        grey = retina.eval()(picture(), places())
        assert grey.shape == coloured.shape
        weights = torch.tensor([0.2989, 0.587, 0.114])
        torch.testing.assert_close(grey, (coloured @ weights)[..., None].expand_as(grey))

    def test_needs_three_channels(self, array):
        with pytest.raises(ValueError, match="images must have 3 channels for grey_in_eval, got 1"):
            Retina(array, grey_in_eval=True)(picture(channels=1), CENTER)


class TestOutputDtype:
    @pytest.mark.parametrize("sampling", [*SAMPLINGS, "area"])
    def test_casts_the_samples(self, array, sampling):
        images = (picture() * 255).to(torch.uint8)
        plain = Retina(array, sampling)(images, places())
        cast = Retina(array, sampling, output_dtype=torch.bfloat16)(images, places())
        assert torch.equal(cast, plain.bfloat16())

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.complex64, "float32"])
    def test_is_floating_point(self, array, dtype):
        with pytest.raises((TypeError, ValueError), match="output_dtype must be"):
            Retina(array, output_dtype=dtype)


class TestMaskedNodes:
    @pytest.mark.parametrize("sampling", [*SAMPLINGS, "area"])
    def test_are_zero_throughout(self, sampling):
        array = SensorArray(6, layout="warped_cartesian")
        assert not array.mask.all()
        retina = Retina(
            array,
            sampling,
            mean=[0.5] * 3,
            std=[0.25] * 3,
            color_decay=2.0,
            darkening=0.5,
            grey_in_eval=True,
        )
        images = 1 + 0 * picture(height=99, width=99)
        for mode in (True, False):
            retina.train(mode)
            for samples in (
                retina.colors(images, CENTER),
                retina(images, CENTER, vary=lambda colors: colors + 0.25),
            ):
                assert (samples[:, :, ~array.mask] == 0).all()
                assert (samples[:, :, array.mask].abs().sum(-1) > 0).any()


class TestPrecision:
    @pytest.mark.parametrize("sampling", SAMPLINGS)
    def test_uint8_stands_for_0_to_1(self, array, sampling):
        images = (picture() * 255).round().to(torch.uint8)
        retina = Retina(array, sampling)
        samples = retina(images, places())
        assert samples.dtype == torch.float32
        torch.testing.assert_close(samples, retina(images / 255, places()))

    @pytest.mark.parametrize("sampling", SAMPLINGS)
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_images_are_sampled_at_the_same_places(self, array, sampling, dtype):
        images = picture(height=500, width=700).to(dtype)
        retina = Retina(array, sampling)
        samples = retina(images, places())
        assert samples.dtype == dtype
        expected = retina(images.float(), places())
        torch.testing.assert_close(samples.float(), expected, rtol=0, atol=0.02)

    @pytest.mark.parametrize("sampling", SAMPLINGS)
    def test_retina_in_half_precision_keeps_its_places(self, array, sampling):
        retina = Retina(array, sampling)
        half = copy.deepcopy(retina).to(torch.bfloat16)
        images = picture(height=500, width=700)
        torch.testing.assert_close(half(images, places()), retina(images, places()))
        assert torch.equal(half.pixels(CENTER, (500, 700)), retina.pixels(CENTER, (500, 700)))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_leaves_grid_colours_and_normalisation_as_they_are(self, array, dtype):
        options = {"color_decay": 3.0, "mean": [0.1, 0.2, 0.3], "std": [0.3, 0.2, 0.1]}
        retina, half = Retina(array, **options), Retina(array, **options).to(dtype)
        for name in ("grid", "saturation", "mean", "std"):
            assert getattr(half, name).equal(getattr(retina, name))
            assert getattr(half, name).dtype == torch.float32

    def test_half_precision_fixations_become_single(self, array):
        pixels = Retina(array).pixels(torch.tensor([[0.25, 0.75]]).half(), (1000, 1000))
        assert pixels.dtype == torch.float32

    def test_double_precision(self, array):
        images, fixations = picture(dtype=torch.float64), places().double()
        samples = Retina(array).double()(images, fixations, (17.0, 31.0))
        assert samples.dtype == torch.float64
        expected = by_definition(array, images, fixations, (17.0, 31.0), "bilinear")
        # Places are computed in single precision, 3e-7 of the field's radius from the truth.
        torch.testing.assert_close(samples, expected, rtol=0, atol=5e-6)


class TestLargeImages:
    """Of large images of few bits, only the pixels that are read become floating point."""

    @pytest.mark.parametrize("divide_first", [False, True])
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_the_pixels_that_are_read_are_interpolated_as_in_a_whole_image(
        self, array, monkeypatch, dtype, layout, divide_first
    ):
        images = (picture(height=50, width=41) * (255 if dtype == torch.uint8 else 1)).to(dtype)
        images = images.contiguous(memory_format=layout)
        fixations, sizes = 1.6 * places() - 0.3, 60 * places() + 1
        samples = []
        for few in (0, math.inf):
            monkeypatch.setattr(retina, "FEW", few)
            samples.append(Retina(array)(images, fixations, sizes, divide_first=divide_first))
        assert samples[0].dtype == samples[1].dtype
        # On CPUs they are equal; elsewhere, sums may be rounded otherwise.
        torch.testing.assert_close(*samples, rtol=0, atol=1e-6)

    def test_gradients_of_places_are_those_of_the_whole_image(self, array, monkeypatch):
        images = (picture() * 255).to(torch.uint8)
        found = []
        for few in (0, math.inf):
            monkeypatch.setattr(retina, "FEW", few)
            fixations = places().requires_grad_()
            Retina(array)(images, fixations).square().sum().backward()
            found.append(fixations.grad)
        assert found[0].any()
        assert torch.equal(*found)

    @pytest.mark.parametrize("sampling", SAMPLINGS)
    @pytest.mark.parametrize("options", [{}, {"mean": [0.5] * 3, "std": [0.2] * 3}], ids=str)
    @pytest.mark.parametrize("batch", [1, 3])
    def test_cost_no_memory_but_for_the_samples(self, array, largest, sampling, options, batch):
        images = torch.zeros(batch, 3, 600, 700, dtype=torch.uint8)
        eye = Retina(array, sampling, **options)
        with largest(images) as made:
            eye(images, CENTER)
        assert 0 < made.bytes < images.nbytes / 20

    @pytest.mark.parametrize("sampling", SAMPLINGS)
    def test_bytes_divided_first_are_the_floating_point_image(self, array, sampling):
        images = (picture(height=200, width=310) * 255).to(torch.uint8)
        eye = Retina(array, sampling)
        found = eye(images, places(), divide_first=True)
        torch.testing.assert_close(found, eye(as_images(images), places()), rtol=0, atol=1e-6)


class TestGradients:
    def test_of_bilinear_sampling(self):
        retina = Retina(SensorArray(4)).double()
        images = picture(2, 2, 6, 7, torch.float64).requires_grad_()
        fixations = places(2, 2).double().requires_grad_()
        sizes = torch.tensor([5.1, 6.3], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(retina, (images, fixations, sizes))

    @pytest.mark.parametrize("sampling", SAMPLINGS)
    def test_with_respect_to_images(self, sampling):
        retina = Retina(SensorArray(4), sampling).double()
        images = picture(2, 2, 6, 7, torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: retina(x, places(2, 2)), (images,))


class TestModule:
    @pytest.mark.parametrize("sampling", SAMPLINGS)
    @pytest.mark.parametrize("context", [torch.inference_mode, lambda: torch.device("meta")])
    def test_made_and_used_in_any_context_it_is_the_same(self, array, sampling, context):
        options = {"color_decay": 3.0, "mean": [0.1, 0.2, 0.3], "std": [0.3, 0.2, 0.1]}
        with context():
            retina = Retina(array, sampling, fixation_size=(20, 30), **options)
        with torch.inference_mode():
            retina(picture(), CENTER)
        images = picture().requires_grad_()
        other = Retina(array, sampling, fixation_size=(20, 30), **options)
        assert retina(images, CENTER).equal(other(images, CENTER))
        retina(images, CENTER).sum().backward()

    def test_it_comes_back_from_the_meta_device(self, array):
        retina = Retina(array, color_decay=3.0)
        expected = retina(picture(), CENTER)
        assert retina.to("meta").grid.is_meta
        assert retina.to_empty(device="cpu")(picture(), CENTER).equal(expected)

    def test_has_no_parameters_no_buffers_and_no_state(self, array):
        for sampling in SAMPLINGS:
            retina = Retina(array, sampling, color_decay=3.0)
            assert not list(retina.parameters())
            assert not list(retina.buffers())
            assert not retina.state_dict()

    def test_repr(self, array):
        assert repr(Retina(array)) == "Retina(60 nodes, sampling='bilinear')"
        retina = Retina(array, "nearest", fixation_size=64, color_decay=2)
        assert "sampling='nearest', fixation_size=(64.0, 64.0), color_decay=2" in repr(retina)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"array": 64}, TypeError, "array must be a SensorArray, got 64"),
            ({"sampling": "nearst"}, ValueError, "got 'nearst' .did you mean 'nearest'"),
            ({"fixation_size": 0}, ValueError, "fixation_size must be finite and above 0 pixels"),
            ({"fixation_size": (3, math.inf)}, ValueError, "fixation_size must be finite"),
            ({"fixation_size": (1, 2, 3)}, ValueError, r"a number or \(height, width\), got \(1"),
            ({"fixation_size": "big"}, TypeError, "fixation_size must be numbers, got 'big'"),
            ({"color_decay": 0.0}, ValueError, "color_decay must be finite and above 0, got 0"),
            ({"oversampling": 0.5}, ValueError, "oversampling must be at"),
            ({"k": 0}, ValueError, "k must be at least 1, got 0"),
            ({"sigma": -1}, ValueError, "sigma must be finite and above 0"),
            ({"mean": 5, "std": 5}, ValueError, "mean and std must have one entry a channel"),
            ({"mean": "abc", "std": [1, 1, 1]}, TypeError, "mean must be numbers"),
            ({"mean": [0.5], "std": {}}, TypeError, "std must be numbers"),
        ],
    )
    def test_construction(self, array, options, error, message):
        with pytest.raises(error, match=message):
            Retina(**({"array": array} | options))

    @pytest.mark.parametrize("sampling", SAMPLINGS)
    @pytest.mark.parametrize(
        ("fixations", "error", "message"),
        [
            ([[math.nan, 0.5]], ValueError, "fixations must be finite, got nan"),
            ([[0.5, math.inf]], ValueError, "fixations must be finite, got inf"),
            ([[112.0, 112.0]], ValueError, "fixations must be fractions .* got 112"),
            ([0.5, 0.5], ValueError, r"shape \[F, 2\] or \[B, F, 2\], F ≥ 1, got \(2,\)"),
            ([[0.5, 0.5, 0.5]], ValueError, r"fixations must have shape .* got \(1, 3\)"),
            (torch.zeros(2, 0, 2), ValueError, r"fixations must have shape .* got \(2, 0, 2\)"),
            (torch.zeros(1, 1, 1, 2), ValueError, "fixations must have shape"),
            (torch.zeros(3, 1, 2), ValueError, r"B=2, the number of images, got \(3, 1, 2\)"),
            (torch.zeros(1, 2, dtype=torch.bool), TypeError, "fixations must be real numbers"),
            ("here", TypeError, "fixations must be numbers, got 'here'"),
            (torch.zeros(1, 2).to_sparse(), TypeError, "fixations must be a dense tensor, got"),
            (None, TypeError, "fixations must be numbers, got None"),
        ],
    )
    def test_fixations(self, array, sampling, fixations, error, message):
        with pytest.raises(error, match=message):
            Retina(array, sampling)(picture(), fixations)

    @pytest.mark.parametrize(
        ("size", "error", "message"),
        [
            (0, ValueError, "fixation_size must be finite and above 0 pixels, got 0"),
            (-3.0, ValueError, "fixation_size must be finite and above 0 pixels, got -3"),
            ((5, math.nan), ValueError, "fixation_size must be finite and above 0 pixels"),
            ((1, 2, 3), ValueError, r"broadcast to .* \(2, 3, 2\), got shape \(3,\)"),
            (torch.ones(5, 1, 2), ValueError, r"broadcast to .* got shape \(5, 1, 2\)"),
            ("big", TypeError, "fixation_size must be numbers, got 'big'"),
        ],
    )
    def test_fixation_size(self, array, size, error, message):
        with pytest.raises(error, match=message):
            Retina(array)(picture(), places(), size)

    @pytest.mark.parametrize(
        ("image_size", "error"),
        [
            ((24, -3), ValueError),
            ((24, 0), ValueError),
            ((24, math.nan), TypeError),
            ((24, 3.0), TypeError),
            ((24, True), TypeError),
            ((24, "3"), TypeError),
            ((24,), ValueError),
            ((24, 3, 3), ValueError),
            (24, TypeError),
            (None, TypeError),
            ("ab", TypeError),
        ],
    )
    def test_image_size(self, array, image_size, error):
        with pytest.raises(error, match="image_size must be"):
            Retina(array).pixels(CENTER, image_size, 12)

    @pytest.mark.parametrize("acuity", [0.0, 7e-69, 1e300, math.inf])
    def test_acuity(self, array, acuity):
        with pytest.raises(ValueError, match="acuity must be"):
            Retina(array, "area", acuity=acuity)
        with pytest.raises(ValueError, match=r"retina\.acuity must be"):
            fg.load_config("fovi_cifar10", [f"retina.acuity={acuity}"])

    @pytest.mark.parametrize(
        ("vary", "error", "message"),
        [
            (3, TypeError, "vary must be a function of colours, or None, got 3"),
            (lambda colors: None, ValueError, r"vary must return colours .* got None"),
            (lambda colors: colors[0], ValueError, r"vary must return colours of shape \[2, 3, "),
        ],
    )
    def test_vary(self, array, vary, error, message):
        with pytest.raises(error, match=message):
            Retina(array)(picture(), places(), vary=vary)

    @pytest.mark.parametrize(
        ("images", "error", "message"),
        [
            (np.zeros((1, 3, 4, 4)), TypeError, r"images must be a torch\.Tensor, got ndarray"),
            (torch.zeros(1, 3, 4, 4).long(), TypeError, "images must be uint8 or floating point"),
            (
                torch.zeros(1, 3, 4, 4, device="meta"),
                ValueError,
                "images must be on the retina's device, cpu, got meta",
            ),
            (torch.zeros(3, 4, 4), ValueError, r"images must have shape \[B, C, H, W\], .* \(3, 4"),
            (torch.zeros(1, 3, 0, 4), ValueError, "none of the last three 0"),
        ],
    )
    def test_images(self, array, images, error, message):
        with pytest.raises(error, match=message):
            Retina(array)(images, CENTER)


class TestImageSize:
    @pytest.mark.parametrize("value", [None, 24, "24", (24,), (24, 30, 3), {24, 30}], ids=repr)
    def test_must_be_two_numbers(self, array, value):
        error = ValueError if isinstance(value, tuple) else TypeError
        with pytest.raises(error, match=r"image_size must be \(height, width\) in pixels, got"):
            Retina(array).pixels(CENTER, value)

    @pytest.mark.parametrize("side", [math.nan, 24.0, "24", None, True], ids=repr)
    def test_must_be_whole(self, array, side):
        with pytest.raises(TypeError, match="image_size must be a whole number of at least 1, got"):
            Retina(array).pixels(CENTER, (24, side))

    @pytest.mark.parametrize("side", [0, -3])
    def test_must_be_positive(self, array, side):
        with pytest.raises(ValueError, match=f"image_size must be at least 1, got {side}"):
            Retina(array).pixels(CENTER, (side, 24))
