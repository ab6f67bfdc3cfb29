"""The explorer: a pyramid as one HTML file, in which a unit that is pointed at shows its fields."""

from __future__ import annotations

import base64
import io
import json
from html import escape
from importlib import resources
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image
from torch import Tensor

from fovigraph.graph import GraphPyramid
from fovigraph.sensing import Retina
from fovigraph.sensing.fixation import as_fixations, as_floats
from fovigraph.viz import style
from fovigraph.viz.cells import drawn_eccentricity, eccentricity_ticks
from fovigraph.viz.flatmap import flat_circle, flat_map, flat_outlines
from fovigraph.viz.photograph import Photograph, photograph
from fovigraph.viz.receptive_field import telling_unit

SHADES = 32
"""Colours of a scale in the page."""

JPEG_QUALITY = 85


def explorer_html(
    pyramid: GraphPyramid,
    *,
    image: Tensor | np.ndarray | None = None,
    retina: Retina | None = None,
    fixations: Any = ((0.5, 0.5),),
    sizes: Any = None,
    title: str = "What every unit of the network sees",
) -> str:
    """Return a web page in which the receptive field of any unit lights up when pointed at.

    The page holds all it needs, the graphs' edges among it, and asks the network for nothing.

    Args:
        pyramid: The levels and graphs.
        image: A photograph, ``[3, H, W]``, uint8 or float in [0, 1], that fields are shown on;
            ``None`` for the levels alone.
        retina: What samples it; ``None``: a plain retina on the lowest level.
        fixations: Where the eye looks in it, (row, column) as fractions, ``[F, 2]``.
        sizes: (height, width) in pixels that the field of view spans, in a shape that broadcasts
            to ``[F, 2]``; ``None``: the retina's own.
        title: The page's heading.

    Returns:
        The HTML text, to be written as UTF-8.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above, or the retina is of
            another array than the pyramid's lowest.

    Example:
        >>> import fovigraph as fg
        >>> from fovigraph.viz import explorer_html
        >>> pyramid = fg.GraphPyramid(fg.SensorArray.matched(16), [fg.Stage("conv", k=9)])
        >>> "conv1" in explorer_html(pyramid)
        True
    """
    data = _levels(pyramid)
    photo = None if image is None else photograph(image)
    if image is not None and photo is not None:
        data["photograph"] = {"url": _jpeg(photo), "width": photo.width, "height": photo.height}
        retina = Retina(pyramid.levels[0]) if retina is None else retina
        data["looks"] = _looks(pyramid, torch.as_tensor(image), retina, fixations, sizes)
    level, unit = telling_unit(pyramid) if len(pyramid) > 1 else (0, 0)
    data["start"] = {"level": level, "unit": unit}
    parts = {
        "title": escape(title),
        "style": _asset("page.css"),
        "library": _asset("d3-delaunay.min.js"),
        "script": _asset("page.js"),
        # "<" would end the element that holds it.
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    }
    page = _asset("page.html")
    for name, text in parts.items():
        page = page.replace("{{" + name + "}}", text)
    return page


def _levels(pyramid: GraphPyramid) -> dict[str, Any]:
    """Everything but the photograph, as plain data."""
    retina = pyramid.levels[0]
    edge = drawn_eccentricity(retina)
    wide = max(map(len, pyramid.levels)) > 2**16
    steps = zip(pyramid.stages, pyramid.graphs, strict=True)
    rings = eccentricity_ticks(retina)
    return {
        "fov": retina.fov,
        "edge": edge,
        "wide": wide,
        "levels": [
            {
                "name": name,
                "visual": _packed(array.cartesian * (array.fov / 2), "<f4"),
                "cortical": _packed(flat_map(array), "<f4"),
            }
            for name, array in zip(pyramid.names, pyramid.levels, strict=True)
        ],
        "graphs": [
            {
                "kind": stage.kind,
                "k": graph.k,
                "ptr": _packed(graph.ptr, "<u4"),
                "src": _packed(graph.edge_index[0], "<u4" if wide else "<u2"),
            }
            for stage, graph in steps
        ],
        "outlines": [_packed(curve, "<f4") for curve in flat_outlines(retina, edge)],
        "rings": [
            {"degrees": ring, "curves": [_packed(c, "<f4") for c in flat_circle(retina, ring)]}
            for ring in rings
        ],
        "field": _scale(style.COLORMAP, 0.0, 1.0),
        "projection": _scale(style.PROJECTION_COLORMAP, 0.3, 1.0),
        "unreached": style.UNREACHED,
        "photograph": None,
        "looks": [],
    }


def _looks(
    pyramid: GraphPyramid, image: Tensor, retina: Retina, fixations: Any, sizes: Any
) -> list[dict[str, Any]]:
    """Where the eye looks, and what it samples there."""
    if retina.array != pyramid.levels[0]:
        raise ValueError(
            f"retina must be of the pyramid's lowest level {pyramid.levels[0]}, got {retina.array}"
        )
    image = image.detach().cpu()
    where = as_fixations(fixations).detach().cpu()
    if where.ndim != 2 or not len(where):
        raise ValueError(f"fixations must be those of one image, [F, 2], got {list(where.shape)}")
    if sizes is None:
        sizes = retina.fixation_size or min(image.shape[-2:])
    size = as_floats("sizes", sizes).detach().cpu().expand_as(where)
    with torch.no_grad():
        samples = retina.colors(image[None], where, size)[0].float().clamp(0, 1)
    return [
        {
            "row": row,
            "column": column,
            "height": height,
            "width": width,
            "samples": _packed((colors * 255).round(), "u1"),
        }
        for (row, column), (height, width), colors in zip(
            where.tolist(), size.tolist(), samples, strict=True
        )
    ]


def _packed(values: Tensor, dtype: str) -> str:
    """Numbers as base64 of their bytes, little-endian, as a browser's typed arrays take them."""
    return base64.b64encode(values.cpu().numpy().astype(dtype).tobytes()).decode()


def _scale(name: str, low: float, high: float) -> list[str]:
    return [to_hex(colormaps[name](value)) for value in np.linspace(low, high, SHADES)]


def _jpeg(photo: Photograph) -> str:
    file = io.BytesIO()
    pixels = (photo.pixels * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _asset(name: str) -> str:
    return (resources.files("fovigraph.viz") / "page" / name).read_text(encoding="utf-8")
