"""Pictures of fixations."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from fovigraph.viz import plot_fixations

WHERE = torch.tensor([[0.5, 0.5], [0.25, 0.9], [0.5, 0.1]])
SIZE = torch.tensor([[40.0, 40.0], [40.0, 40.0], [20.0, 30.0]])


def circles(ax):
    """(x, y, width, height) of all that are drawn."""
    found = [p for p in ax.patches if isinstance(p, Ellipse)]
    return {(*p.center, p.width, p.height) for p in found}


def test_numbers_fixations_in_order_where_they_are(image):
    ax = plot_fixations(image, WHERE, SIZE).axes[0]
    numbers = {t.get_text(): t.xy for t in ax.texts}
    assert list(numbers) == ["1", "2", "3"]
    np.testing.assert_allclose(
        [numbers[n] for n in "123"], [[30, 20], [54, 10], [6, 20]], rtol=1e-6
    )
    assert "3 fixations" in ax.get_title()
    assert "1 fixation" in plot_fixations(image, WHERE[:1], SIZE[:1]).axes[0].get_title()


def test_circles_are_as_large_as_the_views(image):
    drawn = circles(plot_fixations(image, WHERE, SIZE).axes[0])
    expected = [(30, 20, 40, 40), (54, 10, 40, 40), (6, 20, 30, 20)]
    np.testing.assert_allclose(sorted(drawn), sorted(expected), rtol=1e-6)


def test_an_array_adds_the_circle_of_half_its_samples(image, array):
    figure = plot_fixations(image, WHERE[:1], SIZE[:1], array=array)
    drawn = circles(figure.axes[0])
    inner = 40 * float(array.eccentricity.median()) / 8
    assert sorted(width for *_, width, _ in drawn) == pytest.approx([inner, 40])
    said = " ".join(t.get_text() for t in figure.legends[0].get_texts())
    assert "16° across" in said
    assert f"half of all {len(array)} samples" in said


def test_everything_is_in_view(image):
    ax = plot_fixations(image, WHERE, SIZE).axes[0]
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert left < -9 and right > 74  # of the circles
    assert top < -10 and bottom > 40  # of a circle, and of the photograph
    assert ax.get_facecolor() == (0, 0, 0, 1)


@pytest.mark.parametrize("tall", [False, True])
def test_of_a_strip_the_part_with_the_views_is_drawn(tall):
    image = torch.zeros(3, 10, 400)
    where = torch.tensor([[0.5, 0.4], [0.5, 0.5]])
    if tall:
        image, where = image.transpose(1, 2), where.flip(1)
    figure = plot_fixations(image, where, torch.full((2, 2), 60.0))
    ax = figure.axes[0]
    along, across = ax.get_xlim(), sorted(ax.get_ylim())
    if tall:
        along, across = across, along
    # The views are from 130 to 230, and 25 to either side of the strip.
    assert 110 < along[0] < 130 and 230 < along[1] < 250
    assert across[0] < -25 and across[1] > 35
    name = "rows" if tall else "columns"
    assert f"\n({name} 120 to 240 of 400)" in ax.get_title()
    assert figure.get_figheight() > (9 if tall else 5)


def test_of_a_strip_that_is_looked_at_all_along_everything_is_drawn():
    where = torch.tensor([[0.5, 0.01], [0.5, 0.99]])
    figure = plot_fixations(torch.zeros(3, 10, 400), where, torch.full((2, 2), 30.0))
    assert "(" not in figure.axes[0].get_title()
    assert figure.get_figheight() < 4


def test_axes_are_in_pixels_of_the_photograph(image):
    ax = plot_fixations(image, WHERE, SIZE).axes[0]
    assert "(pixels)" in ax.get_xlabel()
    assert "(pixels)" in ax.get_ylabel()
    assert ax.images[0].get_extent() == [0, 60, 40, 0]


def test_draws_on_given_axes(image):
    figure = Figure()
    ax = figure.add_subplot()
    assert plot_fixations(image, WHERE, SIZE, ax=ax) is figure
    assert ax.get_legend() is not None
    assert not figure.legends


def test_more_fixations_than_colours(image):
    ax = plot_fixations(image, torch.rand(20, 2), torch.full((20, 2), 10.0)).axes[0]
    assert ax.texts[-1].get_text() == "20"


@pytest.mark.parametrize(
    ("where", "size", "message"),
    [
        (WHERE[None], SIZE[None], r"those of one image, .* take output.fixations\[0\]"),
        (WHERE, SIZE[:2], r"sizes must be above 0 and of the fixations' shape \[3, 2\]"),
        (WHERE, 0 * SIZE, "sizes must be above 0"),
        (WHERE * torch.nan, SIZE, "fixations must be finite"),
    ],
)
def test_bad_fixations(image, where, size, message):
    with pytest.raises(ValueError, match=message):
        plot_fixations(image, where, size)
