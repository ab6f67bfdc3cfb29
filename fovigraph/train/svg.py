"""Plots of the evaluation page, in SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 440, 300
"""Size of a plot, in units of which its text is 13 high."""

LEFT, RIGHT, TOP, BOTTOM = 56, 22, 22, 46
"""Margins of a plot."""


class Plot:
    """A plot in SVG, of a range of x and one of y.

    Args:
        x, y: The ranges.
        height: Of the whole plot.
    """

    def __init__(self, x: tuple[float, float], y: tuple[float, float], height: float = HEIGHT):
        self.x_range, self.y_range, self.height = x, y, height
        self.parts: list[str] = []

    def x(self, value: float) -> float:
        """Return where a value of x lies."""
        low, high = self.x_range
        return round(LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT), 2)

    def y(self, value: float) -> float:
        """Return where a value of y lies."""
        low, high = self.y_range
        bottom = self.height - BOTTOM
        return round(bottom - (value - low) / (high - low) * (bottom - TOP), 2)

    def axes(
        self, x_ticks: Mapping[float, str], y_ticks: Mapping[float, str], x_name: str, y_name: str
    ) -> None:
        """Draw axes with ticks, and the grid of the latter."""
        bottom, right = self.height - BOTTOM, WIDTH - RIGHT
        for value, text in y_ticks.items():
            y = self.y(value)
            self.parts.append(f'<path class="grid" d="M{LEFT} {y}H{right}"/>')
            self.text(LEFT - 6, y + 4, text, "label", "end")
        for value, text in x_ticks.items():
            self.text(self.x(value), bottom + 17, text, "label", "middle")
        self.parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{right}"/>')
        self.text((LEFT + right) / 2, self.height - 8, x_name, "label", "middle")
        self.text(LEFT, 13, y_name, "label", "start")

    def text(self, x: float, y: float, text: str, kind: str, anchor: str) -> None:
        """Write text."""
        self.parts.append(
            f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def bar(self, x: tuple[float, float], y: float, says: str) -> None:
        """Draw a bar from the axis to ``y``, and what it says when pointed at."""
        left, right, top = self.x(x[0]) + 1, self.x(x[1]) - 1, self.y(y)
        self.parts.append(
            f'<rect class="mark" x="{left}" y="{top}" width="{right - left:.2f}" '
            f'height="{self.height - BOTTOM - top:.2f}"><title>{escape(says)}</title></rect>'
        )

    def path(self, kind: str, points: Sequence[tuple[float, float]], closed: bool = False) -> None:
        """Draw a line through points."""
        line = "L".join(f"{self.x(x)} {self.y(y)}" for x, y in points)
        self.parts.append(f'<path class="{kind}" d="M{line}{"Z" if closed else ""}"/>')

    def svg(self, label: str) -> str:
        """Return the plot, called ``label`` for those who do not see it."""
        return (
            f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{escape(label)}">\n'
            + "\n".join(self.parts)
            + "\n</svg>"
        )


def ticks(low: float, high: float) -> dict[float, str]:
    """Return round shares with their text, six steps at most, that reach from low to high."""
    steps = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
    step = next((step for step in steps if (high - low) / step <= 5), 0.2)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    decimals = 1 if step < 0.01 else 0
    return {i * step: f"{100 * i * step:.{decimals}f} %" for i in range(first, last + 1)}
