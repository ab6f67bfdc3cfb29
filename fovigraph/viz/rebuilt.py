"""The image rebuilt from what the retina kept of it."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.interpolate import LinearNDInterpolator
from torch import Tensor

from fovigraph._checks import one_of, positive_int
from fovigraph.geometry import SensorArray
from fovigraph.viz import style
from fovigraph.viz.cells import as_values, mark_gaze, nearest_node, pixels_degrees
from fovigraph.viz.field import Field, drawn_nodes
from fovigraph.viz.photograph import Place, draw_view, photograph

METHODS = ("linear", "nearest")
"""How the gaps between samples are filled."""

LARGEST_SIDE = 8192
"""The longest side of an image that is rebuilt, pixels."""


def rebuild(
    array: SensorArray,
    samples: Tensor | np.ndarray,
    side: int = 400,
    *,
    method: str = "linear",
) -> Tensor:
    """Return the view that samples stand for, as an image.

    Args:
        array: The nodes.
        samples: Colours ``[N, 3]`` or numbers ``[N]``.
        side: Pixels that the image spans, from edge to edge of the outermost nodes' cells.
        method: ``"nearest"``: every sample fills its Voronoi cell; ``"linear"``: between samples,
            values run straight (beyond the outermost, as nearest).

    Returns:
        ``[3, side, side]`` or ``[side, side]``, float32, row 0 at the top, 0 outside the field.

    Raises:
        ValueError, TypeError: If the samples do not fit the array, there is no such method, the
            image would have more than 8192 pixels a side, or an argument is of another type.

    Example:
        >>> import torch
        >>> from fovigraph import SensorArray
        >>> from fovigraph.viz import rebuild
        >>> array = SensorArray.matched(16)
        >>> rebuild(array, torch.rand(len(array), 3), side=64).shape
        torch.Size([3, 64, 64])
    """
    values = as_values(array, samples, "samples")
    one_of("method", method, METHODS)
    side, edge = positive_int("side", side, LARGEST_SIDE), Field(array).limit
    places = pixels_degrees(side, side, (-edge, edge, -edge, edge))
    node = nearest_node(array, places)
    picture = values[node]
    nodes = drawn_nodes(array)
    if method == "linear" and len(np.unique(array.polar[nodes, 0])) > 2:
        between = LinearNDInterpolator(array.degrees.numpy()[nodes], values[nodes])(places)
        picture = np.where(np.isfinite(between), between, picture)
    picture[node < 0] = 0
    pixels = torch.from_numpy(picture).float().unflatten(0, (side, side))
    return pixels.movedim(-1, 0) if pixels.ndim == 3 else pixels


def plot_rebuilt(
    image: Tensor | np.ndarray,
    array: SensorArray,
    samples: Tensor | np.ndarray,
    fixation: Place,
    size: Place,
) -> Figure:
    """Draw the view, and the image rebuilt from its samples, twice.

    Args:
        image: The photograph, ``[3, H, W]``, uint8 or float in [0, 1].
        array: The retina's array.
        samples: What it sampled, ``[N, 3]``, colours in [0, 1].
        fixation: (row, column) as fractions of the image's height and width.
        size: (height, width) in pixels that the field of view's diameter spans.

    Returns:
        The figure, of three panels.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """
    photo, colors = photograph(image), as_values(array, samples, "samples")
    if colors.ndim != 2:
        raise ValueError(f"samples must be colours, [N, 3], got {list(colors.shape)}")
    edge, outline = Field(array).limit, Field(array, array.fov / 2).outline()
    figure = style.new_figure(height=4.8, width=12.5)
    seen, *panels = figure.subplots(1, 3)
    draw_view(seen, photo, fixation, size, array.fov)
    seen.set_title("What is there: the photograph")
    titles = ("every sample fills its cell", "straight from sample to sample")
    for ax, method, title in zip(panels, ("nearest", "linear"), titles, strict=True):
        picture = rebuild(array, colors, 600, method=method).clamp(0, 1).movedim(0, -1)
        ax.imshow(picture.numpy(), extent=(-edge, edge, -edge, edge), interpolation="antialiased")
        ax.set_facecolor("black")
        ax.set_title(f"Rebuilt: {title}")
    for ax in (seen, *panels):
        style.visual_axes(ax, 1.02 * edge)
        ax.plot(*outline.T, color="white", linewidth=0.8)
        mark_gaze(ax, array, "visual")
    for ax in panels:
        ax.set_ylabel("")
    count = len(drawn_nodes(array))
    figure.suptitle(f"The image, rebuilt from {count:,} samples", **style.TITLE)
    return figure
