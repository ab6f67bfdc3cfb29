"""Accuracy by the number of fixations and the area that each of them sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from torch import Tensor

from fovigraph._checks import fraction, positive_ints
from fovigraph.viz import style
from fovigraph.viz.arguments import finite_array


def plot_accuracy(
    accuracy: Tensor | np.ndarray | Sequence[Sequence[float]],
    areas: Tensor | np.ndarray | Sequence[float],
    *,
    fixations: Sequence[int] | None = None,
    chance: float | None = None,
    label: str = "accuracy",
    ax: Axes | None = None,
) -> Figure:
    """Draw accuracy against the number of fixations, a line for each area of view.

    Args:
        accuracy: Shares from 0 to 1, ``[A, F]``: a row for each area, a column for each number of
            fixations.
        areas: The share of the image that one fixation sees, above 0, ``[A]``.
        fixations: How many, ``[F]``; ``None``: 1, 2, …, F.
        chance: Accuracy of guessing, drawn as a line; ``None``: none.
        label: What is measured, for the axis.
        ax: Where to draw; a new figure if ``None``.

    Returns:
        The figure.

    Raises:
        ValueError, TypeError: If the table does not fit the areas and fixations, an accuracy is no
            share, or an argument is of another type.

    Example:
        >>> from fovigraph.viz import plot_accuracy
        >>> figure = plot_accuracy([[0.4, 0.5], [0.45, 0.6]], areas=[0.3, 0.7])
    """
    shares, seen = finite_array("accuracy", accuracy), finite_array("areas", areas)
    if shares.ndim != 2 or 0 in shares.shape:
        raise ValueError(f"accuracy must have shape [areas, fixations], got {list(shares.shape)}")
    if shares.min() < 0 or shares.max() > 1:
        raise ValueError(f"accuracy must be from 0 to 1, got {shares.min():g} to {shares.max():g}")
    if seen.shape != shares.shape[:1] or (seen <= 0).any():
        raise ValueError(
            f"areas must be {len(shares)} numbers above 0, one for each row of accuracy, "
            f"got {seen.tolist()}"
        )
    counts = list(range(1, shares.shape[1] + 1))
    if fixations is not None:
        counts = positive_ints("fixations", fixations)
        if len(counts) != shares.shape[1]:
            raise ValueError(
                f"fixations must be {shares.shape[1]} numbers, one for each column of accuracy, "
                f"got {counts}"
            )
    figure, ax = style.on_axes(ax, 5, 7.5)
    marks = "osD^vPXph*"
    for index, row in enumerate(np.argsort(seen, kind="stable")):
        shade = colormaps[style.COLORMAP](0.92 * index / max(len(seen) - 1, 1))
        look: dict[str, Any] = {"marker": marks[index % len(marks)], "markersize": 5}
        ax.plot(counts, shares[row], color=shade, label=f"{seen[row]:.0%} of the image", **look)
    if chance is not None:
        guess = fraction("chance", chance)
        ax.axhline(guess, color="#767676", linestyle=":", label=f"chance, {guess:.1%}")
    ax.set(xlabel="number of fixations", ylabel=label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_title("Accuracy by fixations and by what each of them sees", **style.TITLE)
    ax.legend(title="a fixation sees", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
