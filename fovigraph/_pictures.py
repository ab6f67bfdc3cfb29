"""Small pictures for notebooks: SVG within HTML, without matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from fovigraph.geometry import SensorArray
    from fovigraph.graph import GraphPyramid, KNNGraph

SIDE = 160
"""Of a picture, in pixels."""

MOST_DOTS = 2000
"""Nodes that are drawn: of more, evenly chosen ones."""

SRC, DST = "#888", "#0072b2"
"""Colours of nodes."""

Layer = tuple[str, str]
"""What is drawn in one colour: the colour, and the path."""


def array_html(array: SensorArray) -> str:
    """An array's nodes in the visual field."""
    return _figure(_svg([(DST, _dots(array, MOST_DOTS))], SIDE), repr(array))


def graph_html(graph: KNNGraph) -> str:
    """A graph's nodes in the visual field, and the edges that lead to one of them."""
    layers = [(SRC, _dots(graph.src, MOST_DOTS)), (DST, _dots(graph.dst, MOST_DOTS // 4))]
    if not graph.edge_index.is_meta:
        layers.append(("#d55e00", _edges(graph)))
    return _figure(_svg(layers, SIDE), f"{graph!r}: the edges of one node")


def pyramid_html(pyramid: GraphPyramid) -> str:
    """A pyramid's levels, one a row, with their nodes."""
    rows = []
    neighbours = ["", *(f"{graph.k}" for graph in pyramid.graphs)]
    for name, level, k in zip(pyramid.names, pyramid.levels, neighbours, strict=True):
        picture = _svg([(DST, _dots(level, MOST_DOTS // 4))], SIDE // 2)
        rows.append([picture, escape(name), f"{len(level):,}", k])
    head = "".join(f"<th>{name}</th>" for name in ("", "level", "nodes", "k"))
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def facts_html(title: str, facts: Mapping[str, str]) -> str:
    """A heading and a line for each fact."""
    lines = "".join(f"<br/>{escape(name)}: {escape(value)}" for name, value in facts.items())
    return f"<p><b>{escape(title)}</b>{lines}</p>"


def _figure(svg: str, caption: str) -> str:
    return f'<div style="display:inline-block">{svg}<div>{escape(caption)}</div></div>'


def _svg(layers: Iterable[Layer], side: int) -> str:
    paths = "".join(
        f'<path d="{path}" stroke="{color}" stroke-width="{0.03 if "h0" in path else 0.012}" '
        'stroke-linecap="round" fill="none"/>'
        for color, path in layers
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{side}" height="{side}" '
        f'viewBox="-1.05 -1.05 2.1 2.1">{paths}</svg>'
    )


def _dots(array: SensorArray, most: int) -> str:
    """The path of dots at nodes, x to the right and y up."""
    step = -(-len(array) // most)
    return "".join(f"M{x:.3f} {-y:.3f}h0" for x, y in _points(array)[::step])


def _edges(graph: KNNGraph) -> str:
    """The path of the edges to the node that is nearest to halfway out."""
    radius = graph.dst.cartesian.norm(dim=1)
    node = int((radius - 0.5 * radius.max()).abs().argmin())
    src, dst = graph.edge_index.cpu()
    from_, to = _points(graph.src), _points(graph.dst)[node]
    return "".join(
        f"M{from_[i][0]:.3f} {-from_[i][1]:.3f}L{to[0]:.3f} {-to[1]:.3f}"
        for i in src[dst == node].tolist()
    )


def _points(array: SensorArray) -> Sequence[Sequence[float]]:
    points: list[list[float]] = array.cartesian.to(torch.float64).tolist()
    return points
