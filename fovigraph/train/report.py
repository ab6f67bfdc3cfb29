"""An evaluation as a web page: one file, which needs no network."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from html import escape

from fovigraph import _pages
from fovigraph.train.evaluate import Evaluation

MOST_NAMES = 100
"""Classes up to which all are named among the facts."""

WIDTH, HEIGHT = 440, 300
"""Of a plot, in the units of its text, which is 13 high."""

LEFT, RIGHT, TOP, BOTTOM = 56, 22, 22, 46
"""Margins of a plot."""

MOST_IN_MATRIX = 50
"""Classes up to which the confusion matrix is shown."""

SHORT_NAME = 4
"""Letters of a class's name up to which it is not turned upright above its column."""

DARKEST = 55
"""Percentage of colour in a cell of the matrix that holds all of a class; text stays readable."""

DEVIATIONS = 1.96
"""Standard deviations either side of the mean that hold 95 % of a normal distribution."""


def evaluation_html(
    result: Evaluation,
    title: str,
    facts: Mapping[str, str] | None = None,
    *,
    date: datetime.date | None = None,
) -> str:
    """Return a web page that shows an evaluation, light or dark as the reader likes.

    Args:
        result: What :func:`~fovigraph.train.evaluate.evaluate` returned.
        title: The page's heading.
        facts: What was tested, and on what, by name: the network, the data, ….
        date: When; ``None``: today.

    Returns:
        The HTML text, to be written as UTF-8.
    """
    sections = [
        _tested(result, facts or {}, date or datetime.date.today()),
        _cost(result),
        _fixations(result),
        _reliability(result),
        _classes(result),
    ]
    if result.confusion is not None and len(result.classes) <= MOST_IN_MATRIX:
        sections.append(_confusion(result))
    figures = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in headline(result).items()
    )
    return _pages.page(
        _asset("evaluation.html"),
        title,
        _asset("evaluation.css"),
        summary=escape(_summary(result)),
        figures=figures,
        sections="\n".join(filter(None, sections)),
    )


def headline(result: Evaluation) -> dict[str, str]:
    """Return the most important figures with their names, as text."""
    return {
        "top-1": percent(result.top1),
        **({} if result.top5 is None else {"top-5": percent(result.top5)}),
        "calibration error": percent(result.calibration_error),
        "loss": f"{result.loss:.4g}",
        f"images/s, {_fixations_text(result.speed_fixations)}": f"{result.images_per_second:,.1f}",
        "parameters": _short(result.parameters),
        "FLOPs per fixation": _short(result.flops),
    }


def _short(count: int) -> str:
    """Return a number with four digits and, if it is large, a letter."""
    thousands = min((len(str(count)) - 1) // 3, 4)
    return f"{count / 1000**thousands:.4g} {' kMGT'[thousands]}".strip()


def _fixations_text(count: int) -> str:
    return f"{count} fixation{'s' if count > 1 else ''}"


def percent(share: float) -> str:
    """Return a share as a percentage."""
    return f"{100 * share:.1f} %"


def _summary(result: Evaluation) -> str:
    low, high = _interval(result.top1, result.images)
    right = round(result.top1 * result.images)
    text = (
        f"{right:,} of {result.images:,} images were classified correctly, from "
        f"{_fixations_text(result.fixations)} each. Of other images of this kind, between "
        f"{percent(low)} and {percent(high)} would be, with 95 % confidence. {result.note or ''}"
    )
    return text.rstrip().replace(" %", "\N{NO-BREAK SPACE}%")


def _interval(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share that was found in ``count`` draws."""
    z = DEVIATIONS**2 / count
    middle = (share + z / 2) / (1 + z)
    half = math.sqrt(z * share * (1 - share) + z**2 / 4) / (1 + z)
    return max(0.0, middle - half), min(1.0, middle + half)


class _Plot:
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


def _ticks(low: float, high: float) -> dict[float, str]:
    """Return round shares with their text, six steps at most, that reach from low to high."""
    steps = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
    step = next((step for step in steps if (high - low) / step <= 5), 0.2)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    decimals = 1 if step < 0.01 else 0
    return {i * step: f"{100 * i * step:.{decimals}f} %" for i in range(first, last + 1)}


def _fixations(result: Evaluation) -> str:
    """Accuracy against the number of fixations; nothing if there is only one."""
    curve, count = result.top1_by_fixations, result.fixations
    if count == 1:
        return ""
    bounds = [_interval(share, result.images) for share in curve]
    lows, highs = zip(*bounds, strict=True)
    numbers = range(1, count + 1)
    y_ticks = _ticks(min(lows), max(highs))
    every = math.ceil(count / 10)
    x_ticks = {float(n): str(n) for n in numbers if n == 1 or n % every == 0}
    plot = _Plot((1, count), (min(y_ticks), max(y_ticks)))
    plot.axes(x_ticks, y_ticks, "fixations per image", "images classified correctly")
    band = [*zip(numbers, lows, strict=True), *reversed(list(zip(numbers, highs, strict=True)))]
    plot.path("band", band, closed=True)
    plot.path("curve", list(zip(numbers, curve, strict=True)))
    for n, share in zip(numbers, curve, strict=True):
        says = f"{_fixations_text(n)}: {percent(share)}"
        plot.parts.append(
            f'<circle class="mark" cx="{plot.x(n)}" cy="{plot.y(share)}" r="4">'
            f"<title>{says}</title></circle>"
        )
    first, last = percent(curve[0]), percent(curve[-1])
    under = 18 if curve[-1] >= curve[0] else -10
    plot.text(plot.x(1) + 8, plot.y(curve[0]) + under, first, "value", "start")
    plot.text(plot.x(count), plot.y(curve[-1]) - under + 8, last, "value", "end")
    return _section(
        "fixations",
        "Accuracy against the number of fixations",
        "The share of images that is classified correctly with only the first so many fixations. "
        "Pale: where it lies for all images of this kind, with 95 % confidence.",
        plot.svg(f"Accuracy goes from {first} with 1 fixation to {last} with {count}."),
    )


def _reliability(result: Evaluation) -> str:
    ticks = _ticks(0, 1)
    plot = _Plot((0, 1), (0, 1))
    plot.axes(ticks, ticks, "confidence", "images classified correctly")
    used = [part for part in result.reliability if part.images]
    for part in used:
        assert part.accuracy is not None and part.confidence is not None  # it has images
        plot.bar(
            (part.low, part.high),
            part.accuracy,
            f"{part.images:,} images, confidence {percent(part.confidence)}: "
            f"{percent(part.accuracy)} right",
        )
    plot.path("ideal", [(0, 0), (1, 1)])
    most = max(part.images for part in used) / result.images
    counts = _Plot((0, 1), (0, most), height=130)
    counts.axes(ticks, {0: "0 %", most: f"{100 * most:.3g} %"}, "confidence", "share of images")
    for part in used:
        share = part.images / result.images
        says = f"{part.images:,} images, {percent(share)}"
        counts.bar((part.low, part.high), share, says)
    error = percent(result.calibration_error)
    return _section(
        "reliability",
        "How far its confidence can be trusted",
        "Confidence is the probability that the network gives its answer. Above: of the images "
        "with so much of it, how many are classified correctly; on the dashed line, confidence "
        f"would be accuracy. The mean difference, {error}, is the expected calibration error. "
        "Below: how many images have how much.",
        plot.svg(f"Accuracy against confidence; the expected calibration error is {error}."),
        counts.svg("How many images have which confidence."),
    )


def _classes(result: Evaluation) -> str:
    rows = []
    for score in sorted(
        result.classes, key=lambda s: math.inf if s.accuracy is None else s.accuracy
    ):
        accuracy = score.accuracy
        share = "" if accuracy is None else f'<i style="width:{100 * accuracy:.1f}%"></i>'
        rows.append(
            f'<tr><th scope="row">{escape(score.name)}</th>'
            f'<td class="number">{score.images:,}</td>'
            f'<td class="number">{"–" if accuracy is None else percent(accuracy)}</td>'
            f'<td class="share">{share}</td></tr>'
        )
    return _section(
        "classes",
        "Classes, from the hardest",
        "The images of every class, and the share of them that is classified correctly.",
        '<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">class</th>'
        '<th scope="col" class="number">images</th><th scope="col" class="number">correct</th>'
        '<th><div class="ends"><span>0 %</span><span>100 %</span></div></th></tr></thead><tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>",
    )


def _confusion(result: Evaluation) -> str:
    assert result.confusion is not None
    names = [escape(score.name) for score in result.classes]
    rows = []
    for i, row in enumerate(result.confusion):
        cells = []
        for j, n in enumerate(row):
            says = f"{n} of {sum(row)} images of {names[i]} were taken for {names[j]}"
            kind = ' class="right"' if i == j else ""
            share = DARKEST * n / max(1, sum(row))
            shade = f'style="--share:{share:.0f}%"'
            cells.append(f'<td{kind} title="{says}" {shade}>{n or ""}</td>')
        rows.append(f'<tr><th scope="row" title="{names[i]}">{names[i]}</th>{"".join(cells)}</tr>')
    tall = ' class="tall"' if max(map(len, names)) > SHORT_NAME else ""
    heads = "".join(f'<th scope="col" title="{name}">{name}</th>' for name in names)
    return _section(
        "confusion",
        "What is taken for what",
        "The number of images of the class in the row that the network took for the class in the "
        "column. Blue: correct; orange: mistaken; the stronger, the larger the share of the row.",
        f'<div class="scroll" tabindex="0"><table><thead><tr{tall}><th></th>{heads}</tr></thead>'
        "<tbody>\n" + "\n".join(rows) + "\n</tbody></table></div>",
        wide=True,
    )


def _tested(result: Evaluation, facts: Mapping[str, str], date: datetime.date) -> str:
    names = [score.name for score in result.classes]
    more = len(names) - MOST_NAMES
    listed = ", ".join(names[:MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
    return _facts(
        "tested",
        "What was tested",
        "The network, the data, and how it looked at them.",
        {
            **facts,
            "number of images": f"{result.images:,}",
            "classes": f"{len(names):,}: {listed}",
            "fixations": f"{result.fixations} per image, chosen by the policy {result.policy}",
            "date": date.isoformat(),
        },
    )


def _cost(result: Evaluation) -> str:
    return _facts(
        "cost",
        "What it costs",
        "The network’s size, its arithmetic (multiply and add are two) and its speed.",
        {
            "parameters": f"{result.parameters:,}",
            "FLOPs per fixation": f"{result.flops:,}",
            "FLOPs per image": f"{result.fixations * result.flops:,}",
            "speed": f"{result.images_per_second:,.1f} images/s: the network alone, "
            f"{result.speed_images} images at once, {_fixations_text(result.speed_fixations)} "
            "each",
            "measured on": result.device,
            "mean negative log-likelihood": f"{result.loss:.4f}",
        },
    )


def _facts(name: str, heading: str, says: str, facts: Mapping[str, str]) -> str:
    rows = "\n".join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(value)}</td></tr>'
        for key, value in facts.items()
    )
    return _section(name, heading, says, f'<table class="facts"><tbody>\n{rows}\n</tbody></table>')


def _section(name: str, heading: str, says: str, *content: str, wide: bool = False) -> str:
    kind = ' class="wide"' if wide else ""
    note = f"<p>{escape(says)}</p>\n" if says else ""
    body = "\n".join(content)
    return f'<section id="{name}"{kind}>\n<h2>{escape(heading)}</h2>\n{note}{body}\n</section>'


def _asset(name: str) -> str:
    return _pages.asset("fovigraph.train", "page", name)
