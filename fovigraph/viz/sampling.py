"""What a retina sampled, in the visual field and on the cortex."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from torch import Tensor

from fovigraph._checks import flag, one_of
from fovigraph.geometry import SensorArray
from fovigraph.viz import style
from fovigraph.viz.arguments import optional_text
from fovigraph.viz.cells import (
    SPACES,
    as_values,
    draw_cells,
    draw_eccentricities,
    frame,
    mark_gaze,
)
from fovigraph.viz.field import Field, drawn_nodes
from fovigraph.viz.flatmap import is_cut
from fovigraph.viz.photograph import Place, draw_view, photograph


def plot_samples(
    array: SensorArray,
    values: Tensor | np.ndarray,
    *,
    space: str = "visual",
    ax: Axes | None = None,
    label: str | None = None,
    eccentricities: bool = True,
) -> Figure:
    """Draw values on the nodes of an array, each filling the cell of its node.

    Args:
        array: The nodes.
        values: Colours ``[N, 3]`` in [0, 1], or numbers ``[N]``, which get a colour bar.
        space: ``"visual"``: in the visual field, degrees; or on a map of the cortex
            (:func:`~fovigraph.viz.flat_map`): ``"cortical"``, ``"v1like"``, ``"schwartz"``,
            ``"warp"``.
        ax: Where to draw; a new figure if ``None``.
        label: What the numbers are, with their unit, for the colour bar.
        eccentricities: Whether to draw circles of equal eccentricity.

    Returns:
        The figure.

    Raises:
        ValueError, TypeError: If ``values`` do not fit the array, there is no such space, or an
            argument is of another type.

    Example:
        >>> from fovigraph import SensorArray
        >>> from fovigraph.viz import plot_samples
        >>> array = SensorArray.matched(16)
        >>> figure = plot_samples(array, array.eccentricity, label="eccentricity (degrees)")
    """
    one_of("space", space, SPACES)
    given = as_values(array, values)
    optional_text("label", label)
    flag("eccentricities", eccentricities)
    square = frame(array, space).aspect > 0.8
    figure, ax = style.on_axes(ax, *((6, 6.5) if square else (4.5, 8)))
    if given.ndim == 2:
        colors = given.clip(0, 1)
    else:
        seen = given[drawn_nodes(array)]
        scale = ScalarMappable(Normalize(seen.min(), seen.max()), colormaps[style.COLORMAP])
        colors = scale.to_rgba(given)
        figure.colorbar(scale, ax=ax, label=label or "value", shrink=0.8)
    draw_cells(ax, array, colors, space)
    if eccentricities:
        draw_eccentricities(ax, array, space)
    return figure


def plot_view(
    image: Tensor | np.ndarray,
    array: SensorArray,
    samples: Tensor | np.ndarray,
    fixation: Place,
    size: Place,
    *,
    title: str | None = None,
) -> Figure:
    """Draw one view: the photograph there, its samples, and the same samples on the cortex.

    Args:
        image: The photograph, ``[3, H, W]``, uint8 or float in [0, 1].
        array: The retina's array.
        samples: What it sampled, ``[N, 3]``, colours in [0, 1].
        fixation: (row, column) as fractions of the image's height and width.
        size: (height, width) in pixels that the field of view's diameter spans.
        title: Above all.

    Returns:
        The figure, of three panels; of two, if the array has no cortex.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """
    colors = as_values(array, samples, "samples")
    optional_text("title", title)
    figure = style.new_figure(height=11.2 if array.has_cortex else 6.0)
    rows = 2 if array.has_cortex else 1
    grid = figure.add_gridspec(rows, 2, height_ratios=(1, 1.1)[:rows])
    seen, sampled = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])

    draw_view(seen, photograph(image), fixation, size, array.fov)
    seen.set_title("What is there: the photograph, in the field of view")
    plot_samples(array, colors, ax=sampled)
    sampled.set_title(f"What the retina keeps: {len(drawn_nodes(array)):,} samples")
    style.visual_axes(seen, sampled.get_xlim()[1])
    _dim_beyond(seen, Field(array, array.fov / 2))
    mark_gaze(seen, array, "visual")
    if array.has_cortex:
        cortex = figure.add_subplot(grid[1, :])
        plot_samples(array, colors, space="cortical", ax=cortex)
        cortex.set_title("The same samples on the cortex, where they are evenly spaced")
        _name_halves(cortex, array)
    if title:
        figure.suptitle(title, **style.TITLE)
    figure.supxlabel(_explanation(array), fontsize=9)
    return figure


def _dim_beyond(ax: Axes, field: Field) -> None:
    """Darken what lies beyond the field of view."""
    # Two curves that run in opposite senses: what is filled is between them.
    outline = field.outline()
    edges = 4 * outline, outline[::-1]
    beyond = Path.make_compound_path(*(Path(edge, closed=True) for edge in edges))
    ax.add_patch(PathPatch(beyond, facecolor="black", alpha=0.6, linewidth=0))
    ax.plot(*outline.T, color="white", linewidth=1.5)


def _name_halves(ax: Axes, array: SensorArray) -> None:
    """Write above the two halves of a flattened cortex what each of them is."""
    if not is_cut(array, "cortical"):
        return
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    ax.set_ylim(bottom, top + 0.09 * (right - left))
    for x, side, other in ((left / 2, "left", "right"), (right / 2, "right", "left")):
        text = f"{side} half of the visual field\n(in the {other} half of the brain)"
        ax.text(x, top, text, ha="center", va="bottom", fontsize=10)


def _explanation(array: SensorArray) -> str:
    inner = float(np.median(array.eccentricity.numpy()[drawn_nodes(array)]))
    cortex = ""
    if array.has_cortex and not array._layout.relative:
        cut = "cut along the vertical through the point of gaze, "
        cut = cut if is_cut(array, "cortical") else ""
        cortex = f"\nThe cortex is laid flat, {cut}true in area."
    return (
        "Every sample fills the area that is nearest to it. White rings: degrees from the point of "
        "gaze (+), the same in all pictures of the samples.\n"
        f"Half of all samples lie within {inner:.1f}° of it. Black: beyond the photograph.{cortex}"
    )
