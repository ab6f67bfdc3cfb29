"""Pictures of samples."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

import fovigraph as fg
from fovigraph.viz import SPACES, plot_samples, plot_view, style
from fovigraph.viz.photograph import LARGEST_SIDE, photograph


def cells(ax):
    (found,) = (c for c in ax.collections if isinstance(c, PolyCollection))
    return found


def rendered(figure, ax, points):
    """The colours, 0 to 255, that a figure has at data coordinates ``[M, 2]``."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())
    column, row = ax.transData.transform(points).T.round().astype(int)
    return picture[len(picture) - 1 - row, column, :3]


@pytest.mark.parametrize("space", SPACES)
def test_every_node_is_drawn_in_its_colour(array, space):
    colors = torch.rand(len(array), 3)
    drawn = cells(plot_samples(array, colors, space=space).axes[0])
    assert len(drawn.get_paths()) == len(array)
    np.testing.assert_allclose(drawn.get_facecolors()[:, :3], colors, atol=1e-6)


def test_axes_carry_their_units(array):
    ax = plot_samples(array, array.eccentricity).axes[0]
    assert "(degrees)" in ax.get_xlabel()
    assert "(degrees)" in ax.get_ylabel()
    ax = plot_samples(array, array.eccentricity, space="cortical").axes[0]
    assert "(mm)" in ax.get_xlabel()
    assert "(mm)" in ax.get_ylabel()


def test_a_constant_image_stays_constant_and_ends_with_the_field(array):
    figure = plot_samples(array, torch.full((len(array), 3), 0.4), eccentricities=False)
    ax = figure.axes[0]
    angle = np.linspace(0, 2 * np.pi, 40)
    rim = np.stack((np.cos(angle), np.sin(angle)), axis=-1)
    for radius in (0.0, 0.03, 1.0, 4.0, 7.9):
        # The seams between cells may shine through a little.
        assert np.ptp([102, *rendered(figure, ax, radius * rim).flat]) <= 4
    outside = np.array([[-6.5, 6.5], [6.5, -6.6]])
    assert (rendered(figure, ax, outside) == 255).all()


def test_a_bright_pixel_lights_the_nodes_that_sample_it(array):
    node = 150
    x, y = array.cartesian[node].tolist()
    row, column = int(16 - 16 * y), int(16 + 16 * x)
    image = torch.zeros(1, 3, 32, 32)
    image[..., row, column] = 1
    retina = fg.Retina(array, "nearest")
    pixels = retina.pixels([[0.5, 0.5]], (32, 32))[0].floor()
    hit = (pixels == torch.tensor([row, column])).all(-1).numpy()
    assert hit[node]

    figure = plot_samples(array, retina(image, [[0.5, 0.5]])[0, 0], eccentricities=False)
    lit = cells(figure.axes[0]).get_facecolors()[:, :3]
    assert (lit[hit] == 1).all()
    assert (lit[~hit] == 0).all()
    degrees = 8 * array.cartesian[[node, node - 20]].numpy()
    assert rendered(figure, figure.axes[0], degrees).mean(axis=1).tolist() == [255, 0]


def test_numbers_get_a_colour_bar(array):
    figure = plot_samples(array, array.eccentricity, label="eccentricity (degrees)")
    assert len(figure.axes) == 2
    assert figure.axes[1].get_ylabel() == "eccentricity (degrees)"
    colors = cells(figure.axes[0]).get_facecolors()
    assert len(np.unique(colors[1:6], axis=0)) == 1  # one ring, one colour
    assert not np.array_equal(colors[0], colors[-1])


def test_draws_on_given_axes(array):
    figure = Figure()
    first, second = figure.subplots(1, 2)
    assert plot_samples(array, torch.zeros(len(array), 3), ax=second) is figure
    assert len(first.collections) == 0
    assert len(cells(second).get_paths()) == len(array)
    part = Figure().subfigures(1, 2)[0].add_subplot()
    assert isinstance(plot_samples(array, torch.zeros(len(array), 3), ax=part), Figure)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(3, 5), r"values must have shape \[\d+\] or, for colours, .* got \[3, 5\]"),
        (torch.zeros(7), r"got \[7\]"),
        (None, "values must be finite"),
    ],
)
def test_values_must_fit(array, values, message):
    values = torch.full((len(array),), torch.nan) if values is None else values
    with pytest.raises(ValueError, match=message):
        plot_samples(array, values)


def test_unknown_space(array):
    with pytest.raises(ValueError, match="space must be one of 'cortical', 'schwartz'"):
        plot_samples(array, array.eccentricity, space="cortex")


class TestGlance:
    def view(self, array, image, **options):
        samples = fg.Retina(array)(image[None], [[0.4, 0.7]])[0, 0]
        return plot_view(image, array, samples, (0.4, 0.7), (40, 40), **options)

    def test_shows_photograph_samples_and_cortex(self, array, image):
        figure = self.view(array, image, title="Fixation 2 of 4")
        seen, sampled, cortex = figure.axes
        assert figure.get_suptitle() == "Fixation 2 of 4"
        assert f"{len(array)} samples" in sampled.get_title()
        for ax in (sampled, cortex):
            assert len(cells(ax).get_paths()) == len(array)
        np.testing.assert_array_equal(
            cells(sampled).get_facecolors(), cells(cortex).get_facecolors()
        )
        assert seen.get_xlim() == sampled.get_xlim()
        assert all("(degrees)" in ax.get_xlabel() for ax in (seen, sampled))
        assert "(mm)" in cortex.get_xlabel()
        labels = " ".join(text.get_text() for text in cortex.texts)
        assert "left half of the visual field" in labels
        assert "2.5°" not in labels

    def test_photograph_lies_where_the_samples_are(self, array, image):
        (drawn,) = self.view(array, image).axes[0].images
        # 16 degrees span 40 pixels; 42 of 60 columns and 16 of 40 rows are left of and above gaze.
        assert drawn.get_extent() == pytest.approx([-16.8, 7.2, -9.6, 6.4])

    def test_is_as_wide_as_promised(self, array, image):
        figure = self.view(array, image)
        assert figure.get_figwidth() * style.DPI == 1600

    @pytest.mark.parametrize("layout", ["logpolar_cylinder", "uniform_disc"])
    def test_other_layouts(self, layout, image):
        figure = self.view(fg.SensorArray(6, layout=layout), image)
        FigureCanvasAgg(figure).draw()

    @pytest.mark.parametrize(
        ("fixation", "size", "message"),
        [
            ((0.5,), (4, 4), r"fixation must be two finite numbers, got \(0.5,\)"),
            ((0.5, 0.5), (4, 0), r"size must be above 0 pixels, got \(4, 0\)"),
        ],
    )
    def test_bad_places(self, array, image, fixation, size, message):
        with pytest.raises(ValueError, match=message):
            plot_view(image, array, torch.zeros(len(array), 3), fixation, size)


class TestPhotograph:
    def test_is_taken_as_it_is(self, image):
        photo = photograph(image)
        assert (photo.height, photo.width) == (40, 60)
        np.testing.assert_allclose(photo.pixels, image.permute(1, 2, 0) / 255, atol=1e-6)

    def test_large_ones_are_averaged_down_and_keep_their_size(self):
        image = torch.zeros(3, 1000, 4000)
        image[..., ::2] = 1
        photo = photograph(image)
        assert photo.pixels.shape == (500, 2000, 3)
        assert (photo.height, photo.width) == (1000, 4000)
        np.testing.assert_allclose(photo.pixels, 0.5)

    def test_strips_stay_sharp(self):
        strip = torch.rand(3, 100, 4000)
        np.testing.assert_allclose(photograph(strip).pixels, strip.permute(1, 2, 0))
        longer = photograph(torch.zeros(3, 10, 2 * LARGEST_SIDE))
        assert longer.pixels.shape == (5, LARGEST_SIDE, 3)

    def test_must_be_a_single_image(self):
        with pytest.raises(ValueError, match=r"image must be a single one, .* got \[2, 3, 4, 4\]"):
            photograph(torch.zeros(2, 3, 4, 4))
        with pytest.raises(ValueError, match="3 channels"):
            photograph(np.zeros((4, 4, 1)))
