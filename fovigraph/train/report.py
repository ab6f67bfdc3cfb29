"""An evaluation as a web page: one file, which needs no network."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from html import escape

from fovigraph import _pages
from fovigraph.train.evaluation import (
    Evaluation,
    Figures,
    MultiLabelEvaluation,
)
from fovigraph.train.svg import Plot, ticks

MOST_NAMES = 100
"""Classes up to which all are named among the facts."""

MOST_IN_MATRIX = 50
"""Classes up to which the confusion matrix is shown."""

SHORT_NAME = 4
"""Letters of a class's name up to which it is not turned upright above its column."""

DARKEST = 55
"""Percentage of colour in a cell of the matrix that holds all of a class; text stays readable."""

DEVIATIONS = 1.96
"""Standard deviations either side of the mean that hold 95 % of a normal distribution."""


def evaluation_html(
    result: Evaluation | MultiLabelEvaluation,
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
    if isinstance(result, Evaluation) and len(result.classes) <= MOST_IN_MATRIX:
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


def headline(result: Evaluation | MultiLabelEvaluation) -> dict[str, str]:
    """Return the most important figures with their names, as text."""
    area = _percent_or_none(result.roc_auc)
    if isinstance(result, MultiLabelEvaluation):
        scores = {
            result.SCORE: percent(result.average_precision),
            "mean ROC AUC": area,
            "correct labels": percent(result.accuracy),
        }
    else:
        scores = {
            result.SCORE: percent(result.top1),
            **({} if result.top5 is None else {"top-5": percent(result.top5)}),
            "mean ROC AUC": area,
        }
    return {
        **scores,
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


def _summary(result: Evaluation | MultiLabelEvaluation) -> str:
    fixations = f"from {_fixations_text(result.fixations)} each"
    if isinstance(result, MultiLabelEvaluation):
        text = (
            f"Of all pairs of {result.images:,} images and {len(result.classes):,} classes, "
            f"{percent(result.accuracy)} were classified correctly, as the image having the class "
            f"or not, {fixations}."
        )
    else:
        low, high = _interval(result.top1, result.images)
        text = (
            f"{round(result.top1 * result.images):,} of {result.images:,} images were classified "
            f"correctly, {fixations}. Of other images of this kind, between {percent(low)} and "
            f"{percent(high)} would be, with 95 % confidence."
        )
    return f"{text} {result.note or ''}".rstrip().replace(" %", "\N{NO-BREAK SPACE}%")


def _interval(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share that was found in ``count`` draws."""
    z = DEVIATIONS**2 / count
    middle = (share + z / 2) / (1 + z)
    half = math.sqrt(z * share * (1 - share) + z**2 / 4) / (1 + z)
    return max(0.0, middle - half), min(1.0, middle + half)


def _fixations(result: Evaluation | MultiLabelEvaluation) -> str:
    """The curve of accuracy against the number of fixations; nothing if there is only one."""
    count = result.fixations
    if count == 1:
        return ""
    curve, score = result.by_fixations, result.SCORE
    if isinstance(result, MultiLabelEvaluation):
        says = "The mean average precision with only the first so many fixations."
        lows = highs = tuple(curve)
    else:
        score = "images classified correctly"
        says = (
            "The share of images that is classified correctly with only the first so many "
            "fixations. Pale: where it lies for all images of this kind, with 95 % confidence."
        )
        lows, highs = zip(*(_interval(share, result.images) for share in curve), strict=True)
    numbers = range(1, count + 1)
    areas = [each.by_fixations for each in result.by_area]
    y_ticks = ticks(min(map(min, (lows, *areas))), max(map(max, (highs, *areas))))
    every = math.ceil(count / 10)
    x_ticks = {float(n): str(n) for n in numbers if n == 1 or n % every == 0}
    plot = Plot((1, count), (min(y_ticks), max(y_ticks)))
    plot.axes(x_ticks, y_ticks, "fixations per image", score)
    band = [*zip(numbers, lows, strict=True), *reversed(list(zip(numbers, highs, strict=True)))]
    plot.path("band", band, closed=True)
    for each in result.by_area:
        plot.path("other", list(zip(numbers, each.by_fixations, strict=True)))
        end = plot.x(count), plot.y(each.by_fixations[-1]) - 4
        plot.text(*end, f"{each.area:g} of the image", "value", "end")
    plot.path("curve", list(zip(numbers, curve, strict=True)))
    for n, share in zip(numbers, curve, strict=True):
        point = f"{_fixations_text(n)}: {percent(share)}"
        plot.parts.append(
            f'<circle class="mark" cx="{plot.x(n)}" cy="{plot.y(share)}" r="4">'
            f"<title>{point}</title></circle>"
        )
    first, last = percent(curve[0]), percent(curve[-1])
    under = 18 if curve[-1] >= curve[0] else -10
    plot.text(plot.x(1) + 8, plot.y(curve[0]) + under, first, "value", "start")
    plot.text(plot.x(count), plot.y(curve[-1]) - under + 8, last, "value", "end")
    if result.by_area:
        says += " Dashed: where each fixation sees so much of the image's area."
    label = f"It goes from {first} with 1 fixation to {last} with {count}."
    heading = "Accuracy against the number of fixations"
    return _section("fixations", heading, says, plot.svg(label))


def _reliability(result: Evaluation | MultiLabelEvaluation) -> str:
    error = percent(result.calibration_error)
    if isinstance(result, MultiLabelEvaluation):
        what, share_of, right = "pairs of image and class", "image has the class", "have it"
        says = (
            "Confidence is the probability that the network gives to a class of an image. Above: "
            "of the pairs of an image and a class with so much of it, in how many the image has "
            "the class; "
        )
    else:
        what, share_of, right = "images", "images classified correctly", "right"
        says = (
            "Confidence is the probability that the network gives its answer. Above: of the images "
            "with so much of it, how many are classified correctly; "
        )
    says += (
        "on the dashed line, confidence would be that share. The mean difference, "
        f"{error}, is the expected calibration error. Below: how many {what} have how much."
    )
    shares = ticks(0, 1)
    plot = Plot((0, 1), (0, 1))
    plot.axes(shares, shares, "confidence", share_of)
    used = [part for part in result.reliability if part.images]
    total = sum(part.images for part in used)
    for part in used:
        assert part.accuracy is not None and part.confidence is not None  # it has images
        plot.bar(
            (part.low, part.high),
            part.accuracy,
            f"{part.images:,} {what}, confidence {percent(part.confidence)}: "
            f"{percent(part.accuracy)} {right}",
        )
    plot.path("ideal", [(0, 0), (1, 1)])
    most = max(part.images for part in used) / total
    counts = Plot((0, 1), (0, most), height=130)
    counts.axes(shares, {0: "0 %", most: f"{100 * most:.3g} %"}, "confidence", f"share of {what}")
    for part in used:
        share = part.images / total
        counts.bar((part.low, part.high), share, f"{part.images:,} {what}, {percent(share)}")
    return _section(
        "reliability",
        "How far its confidence can be trusted",
        says,
        plot.svg(f"Accuracy against confidence; the expected calibration error is {error}."),
        counts.svg(f"How many {what} have which confidence."),
    )


def _classes(result: Evaluation | MultiLabelEvaluation) -> str:
    several = isinstance(result, MultiLabelEvaluation)
    rows = []
    for score in sorted(result.classes, key=lambda c: math.inf if c.score is None else c.score):
        value = score.score
        bar = "" if value is None else f'<i style="width:{100 * value:.1f}%"></i>'
        cells = [f"{score.images:,}", _percent_or_none(value), _percent_or_none(score.roc_auc)]
        rows.append(
            f'<tr><th scope="row">{escape(score.name)}</th>'
            + "".join(f'<td class="number">{cell}</td>' for cell in cells)
            + f'<td class="share">{bar}</td></tr>'
        )
    columns = ["images", "average precision" if several else "correct", "ROC AUC"]
    heads = "".join(f'<th scope="col" class="number">{name}</th>' for name in columns)
    says = "and its average precision" if several else "the share of them that is correct"
    return _section(
        "classes",
        "Classes, from the hardest",
        f"The images of every class, {says} (the bar), and the area under its ROC curve, against "
        "all other images.",
        '<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">class</th>'
        f'{heads}<th><div class="ends"><span>0 %</span><span>100 %</span></div></th></tr></thead>'
        "<tbody>\n" + "\n".join(rows) + "\n</tbody></table></div>",
    )


def _percent_or_none(share: float | None) -> str:
    return "–" if share is None else percent(share)


def _confusion(result: Evaluation) -> str:
    assert result.confusion is not None  # it has so few classes
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


def _tested(
    result: Evaluation | MultiLabelEvaluation, facts: Mapping[str, str], date: datetime.date
) -> str:
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


def _cost(result: Figures) -> str:
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
