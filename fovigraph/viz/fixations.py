"""Where a network looked."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, Patch
from torch import Tensor

from fovigraph._checks import instance
from fovigraph.geometry import SensorArray
from fovigraph.sensing.fixation import as_fixations, as_floats
from fovigraph.viz import style
from fovigraph.viz.photograph import photograph

STRIP = 3.0
"""Largest ratio of sides: of a longer picture only the part with the views is drawn."""


def plot_fixations(
    image: Tensor | np.ndarray,
    fixations: Tensor | np.ndarray,
    sizes: Tensor | np.ndarray,
    *,
    array: SensorArray | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw fixations on the photograph, numbered in order, with the field of view at each.

    Args:
        image: The photograph, ``[3, H, W]``, uint8 or float in [0, 1].
        fixations: (row, column) as fractions of the image's height and width, ``[F, 2]``.
        sizes: (height, width) in pixels that the field of view's diameter spans, ``[F, 2]``.
        array: The retina's array; adds the circle that holds half of all samples.
        ax: Where to draw; a new figure if ``None``.

    Returns:
        The figure.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """
    photo = photograph(image)
    if array is not None:
        instance("array", array, SensorArray)
    where, size = _check(fixations, sizes)
    centers = where * (photo.height, photo.width)
    low, high, part = _shown(centers, size, np.array((photo.height, photo.width)))
    (top, left), (bottom, right) = low, high
    height = 0.9 * style.WIDTH * (bottom - top) / (right - left) + (1.7 if part else 1.3)
    height = min(max(height, 3.2), 14)
    own = ax is None
    figure, ax = style.on_axes(ax, height, style.WIDTH)

    ax.imshow(photo.pixels, extent=(0, photo.width, photo.height, 0), interpolation="antialiased")
    ax.set_facecolor("black")
    ax.set(xlim=(left, right), ylim=(bottom, top))
    ax.set(xlabel="column (pixels)", ylabel="row (pixels)", aspect="equal")
    ax.plot(*centers.T[::-1], color="white", linewidth=1, linestyle=":")
    for index, (center, view) in enumerate(zip(centers, size, strict=True)):
        _draw_fixation(ax, index, center, view, array)
    count = len(centers)
    counted = "1 fixation" if count == 1 else f"{count} fixations, numbered in order"
    ax.set_title(f"Where the network looks: {counted}{part}", **style.TITLE)
    handles = _explanation(array)
    if own:
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    else:
        ax.legend(handles=handles, loc="lower center")
    return figure


def _shown(
    centers: np.ndarray, size: np.ndarray, photo: np.ndarray
) -> tuple[np.ndarray, np.ndarray, str]:
    """Choose what is drawn: the whole photograph and all views, or of a strip the views' part.

    Returns:
        First and last row and column, ``[2]`` each, and what to say of a part.
    """
    views = (centers - size / 2).min(axis=0), (centers + size / 2).max(axis=0)
    low, high = np.minimum(views[0], 0), np.maximum(views[1], photo)
    long, part = int((high - low).argmax()), ""
    if (high - low)[long] > STRIP * (high - low)[1 - long]:
        margin = 0.1 * (views[1] - views[0])[long]
        low[long] = max(low[long], views[0][long] - margin)
        high[long] = min(high[long], views[1][long] + margin)
        first, last = max(0, round(low[long])), min(photo[long], round(high[long]))
        name = ("rows", "columns")[long]
        if (first, last) != (0, photo[long]):
            part = f"\n({name} {first:,} to {last:,} of {photo[long]:,})"
    margin = 0.02 * (high - low).max()
    return low - margin, high + margin, part


def _check(
    fixations: Tensor | np.ndarray, sizes: Tensor | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    where = as_fixations(as_floats("fixations", fixations).detach().cpu())
    if where.ndim != 2:
        raise ValueError(
            f"fixations must be those of one image, [F, 2], got {list(where.shape)}; "
            "of a network's output take output.fixations[0]"
        )
    size = as_floats("sizes", sizes).detach().cpu()
    if size.shape != where.shape or not (size.isfinite() & (size > 0)).all():
        raise ValueError(
            f"sizes must be above 0 and of the fixations' shape {list(where.shape)}, got "
            f"{size.tolist()}"
        )
    return where.double().numpy(), size.double().numpy()


def _draw_fixation(
    ax: Axes, index: int, center: np.ndarray, view: np.ndarray, array: SensorArray | None
) -> None:
    """Draw the circles and the number of one fixation; (row, column) and (height, width)."""
    color, place = style.COLORS[index % len(style.COLORS)], (center[1], center[0])
    circles = [(1.0, "-")]
    if array is not None:
        circles.append((_half_of_samples(array) / (array.fov / 2), "--"))
    for scale, line in circles:
        for width, ink in ((4.0, "black"), (2.0, color)):
            circle = Ellipse(
                place,
                scale * view[1],
                scale * view[0],
                fill=False,
                edgecolor=ink,
                linewidth=width,
                linestyle=line if ink == color else "-",
            )
            ax.add_patch(circle)
    ax.plot(*place, "o", color=color, markersize=17, markeredgecolor="black")
    ax.annotate(str(index + 1), place, ha="center", va="center", fontsize=11, fontweight="bold")


def _half_of_samples(array: SensorArray) -> float:
    return float(array.eccentricity.median())


def _explanation(array: SensorArray | None) -> list[Artist]:
    """What the marks in the picture mean."""
    dot: dict[str, Any] = {"marker": "o", "markersize": 12, "linestyle": ""}
    meanings = [("point of gaze", dot), ("field of view", {"linestyle": "-"})]
    if array is not None:
        inner = _half_of_samples(array)
        meanings[1] = (f"field of view, {array.fov:g}° across", {"linestyle": "-"})
        samples = f"half of all {len(array):,} samples, within {inner:.1f}°"
        meanings.append((samples, {"linestyle": "--"}))
    lines: list[Artist] = [
        Line2D([], [], color="#555555", linewidth=2, label=label, **look)
        for label, look in meanings
    ]
    return [*lines, Patch(color="black", label="beyond the photograph")]
