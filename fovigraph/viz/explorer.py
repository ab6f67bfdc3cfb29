"""The explorer: a pyramid as one HTML file, in which one moves the gaze and points at units."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image
from torch import Tensor
from torch.nn.functional import one_hot

from fovigraph import _pages
from fovigraph._checks import flag
from fovigraph.geometry import SensorArray
from fovigraph.graph import GraphPyramid, KNNGraph
from fovigraph.sensing import Retina
from fovigraph.sensing.fixation import as_fixations, as_floats
from fovigraph.sensing.mipmap import CELL_PER_PIXEL
from fovigraph.sensing.retina import LUMINANCE
from fovigraph.viz import style
from fovigraph.viz.cells import eccentricity_ticks
from fovigraph.viz.field import Field, drawn_nodes
from fovigraph.viz.flatmap import flat_circle, flat_map, flat_outlines, gaze_places
from fovigraph.viz.photograph import LARGEST_AREA, LARGEST_SIDE, Photograph, photograph
from fovigraph.viz.receptive_field import example_unit

SHADES = 32
"""Colours of a scale in the page."""

SCRIPTS = (
    "data",
    "graph",
    "retina",
    "geometry",
    "ink",
    "units",
    "photograph",
    "gaze",
    "scores",
    "open",
    "select",
    "start",
)
"""The parts of the page's script, in order."""


def explorer_html(
    pyramid: GraphPyramid,
    *,
    image: Tensor | np.ndarray | None = None,
    retina: Retina | None = None,
    fixations: Any = ((0.5, 0.5),),
    sizes: Any = None,
    probabilities: Any = None,
    together: Any = None,
    class_names: Sequence[str] | None = None,
    multi_label: bool = False,
    title: str = "What every unit of the network sees",
) -> str:
    """Return a web page in which one moves the gaze over a photograph and points at units.

    The page samples the photograph as the retina does wherever the gaze is dragged, draws the
    samples in the visual field and on the cortex, and lights the fields of any unit that is pointed
    at (:meth:`~fovigraph.GraphPyramid.receptive_field`). Photographs can be opened in it; they stay
    there. It holds all it needs, the graphs' edges among it, and asks the network for nothing.
    Class scores are those that are given, as the page does not hold the weights.

    Args:
        pyramid: The levels and graphs.
        image: A photograph, ``[3, H, W]``, uint8 or float in [0, 1]; ``None``: the page begins
            without. One of more than a million pixels is averaged down to that, and sampled so.
        retina: What samples it; ``None``: a plain retina on the lowest level.
        fixations: Where the network looks in it, (row, column) as fractions, ``[F, 2]``.
        sizes: (height, width) in pixels that the field of view spans, in a shape that broadcasts
            to ``[F, 2]``; ``None``: the retina's own. A photograph that is opened in the page is
            seen in the same share of its area as this one at the first fixation.
        probabilities: Of every class at every fixation, ``[F, C]``; ``None``: no class scores.
        together: Of every class by all fixations together, ``[C]``; ``None``: their mean.
        class_names: What the C classes are called; ``None``: their numbers.
        multi_label: Whether an image may have several classes: their probabilities then need not
            sum to 1.
        title: The page's heading.

    Returns:
        The HTML text, to be written as UTF-8.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above, the retina is of
            another array than the pyramid's lowest, or there are class scores without an image.

    Example:
        >>> import fovigraph as fg
        >>> from fovigraph.viz import explorer_html
        >>> pyramid = fg.GraphPyramid(fg.SensorArray.matched(16), [fg.Step("conv", k=9)])
        >>> "conv1" in explorer_html(pyramid)
        True
    """
    flag("multi_label", multi_label)
    data = _levels(pyramid)
    retina = Retina(pyramid.levels[0]) if retina is None else retina
    data["retina"] = _retina(pyramid, retina)
    photo = None if image is None else photograph(image)
    views = None if photo is None else _views(photo, retina, fixations, sizes)
    if photo is not None and views is not None:
        data["photograph"] = {"url": _png(photo), "width": photo.width, "height": photo.height}
        data["views"] = views
    data["view"] = _view(photo, retina, None if sizes is None else views)
    data["scores"] = _scores(views, probabilities, together, class_names, multi_label)
    level, unit = example_unit(pyramid) if len(pyramid) > 1 else (0, 0)
    data["start"] = {"level": level, "unit": unit}
    return _pages.page(
        _asset("page.html"),
        title,
        _asset("page.css"),
        allows="script-src 'unsafe-inline'; ",
        library=_asset("d3-delaunay.min.js"),
        script="\n".join(_asset(f"{name}.js") for name in SCRIPTS),
        data=_pages.as_json(data),
    )


def _levels(pyramid: GraphPyramid) -> dict[str, Any]:
    """Everything but the photograph, as plain data."""
    retina = pyramid.levels[0]
    field = Field(retina)
    steps = zip(pyramid.steps, pyramid.graphs, strict=True)
    rings = eccentricity_ticks(retina)
    return {
        "fov": retina.fov,
        "fieldOfView": _packed(Field(retina, retina.fov / 2).outline(), "<f4"),
        "cortex": _cortex(retina),
        "levels": [
            {
                "name": name,
                "visual": _packed(array.degrees, "<f4"),
                "cortical": _packed(flat_map(array), "<f4"),
                "units": None if array.mask is None else _packed(drawn_nodes(array), "<u4"),
            }
            for name, array in zip(pyramid.names, pyramid.levels, strict=True)
        ],
        "graphs": [{"kind": step.kind, "k": graph.k, **_graph(graph)} for step, graph in steps],
        "shortcuts": [
            {"below": each.src, "above": each.dst, "k": each.k, **_graph(pyramid.graph(each))}
            for level in range(1, len(pyramid))
            for each in pyramid.shortcuts_into(level)
        ],
        "outlines": {
            "visual": [_packed(field.outline(), "<f4")],
            "cortical": [_packed(curve, "<f4") for curve in flat_outlines(retina, field)],
        },
        "rings": [
            {
                "degrees": ring,
                "curves": [_packed(c, "<f4") for c in flat_circle(retina, ring)],
                "at": flat_map(retina, torch.tensor([[ring, 0.0]]))[0].tolist(),
            }
            for ring in rings
        ],
        "field": _scale(style.COLORMAP, 0.0, 1.0),
        "projection": _scale(style.PROJECTION_COLORMAP, 0.3, 1.0),
        "unreached": style.UNREACHED,
        "limits": {"area": LARGEST_AREA, "side": LARGEST_SIDE},
        "photograph": None,
        "views": [],
    }


def _cortex(retina: SensorArray) -> dict[str, Any] | None:
    """The unit of the flat cortex, if it has one, and where the gaze is on it; None: no cortex."""
    if not retina.has_cortex:
        return None
    unit = None if retina._layout.relative else "mm"
    return {"unit": unit, "gaze": gaze_places(retina, "cortical").tolist()}


def _retina(pyramid: GraphPyramid, retina: Retina) -> dict[str, Any]:
    """What the page samples photographs with."""
    if retina.array != pyramid.levels[0]:
        raise ValueError(
            f"retina must be of the pyramid's lowest level {pyramid.levels[0]}, got {retina.array}"
        )
    receptors, pool = retina.photoreceptors or retina, None
    if retina.photoreceptors is not None:
        pool = {**_graph(retina.graph), "weight": _packed(_edge_weights(retina), "<f4")}
    fading, cells = retina.saturation, retina.cells
    return {
        "sampling": receptors.sampling,
        "places": _packed(receptors.grid, "<f4"),
        "cells": None if cells is None else _packed(cells, "<f4"),
        "cellPerPixel": CELL_PER_PIXEL,
        "pool": pool,
        "saturation": None if fading is None else _packed(fading, "<f4"),
        "luminance": LUMINANCE,
    }


@torch.no_grad()
def _edge_weights(retina: Retina) -> Tensor:
    """Return how much of every photoreceptor goes into its node's sample, ``[E]``.

    Computed by pooling features that are 1 at one neighbour of every node, and 0 elsewhere.
    """
    graph = retina.graph
    dst, edge = graph.edge_index[1], torch.arange(graph.num_edges, device=graph.ptr.device)
    rank = edge - graph.ptr[dst]
    ones = one_hot(rank, graph.k).float()
    sums = retina.pool(
        ones,
        torch.stack((edge, dst)),
        graph.relative_distance,
        size=(graph.num_edges, graph.num_dst),
    )
    return sums[dst, rank]


def _views(photo: Photograph, retina: Retina, fixations: Any, sizes: Any) -> list[dict[str, float]]:
    """Return the network's views: where it looks, and how much it sees there."""
    where = as_fixations(fixations).detach().cpu()
    if where.ndim != 2:
        raise ValueError(f"fixations must be those of one image, [F, 2], got {list(where.shape)}")
    if sizes is None:
        sizes = retina.fixation_size or min(photo.height, photo.width)
    size = as_floats("sizes", sizes).detach().cpu()
    if not (size.isfinite() & (size > 0)).all():
        raise ValueError(f"sizes must be finite and above 0 pixels, got {size.tolist()}")
    try:
        size = size.broadcast_to(where.shape)
    except RuntimeError as error:
        raise ValueError(
            f"sizes must be a number or broadcast to the fixations' shape {list(where.shape)}, "
            f"got {list(size.shape)}"
        ) from error
    keys = ("row", "column", "height", "width")
    return [dict(zip(keys, view, strict=True)) for view in torch.cat((where, size), 1).tolist()]


def _view(
    photo: Photograph | None, retina: Retina, views: list[dict[str, float]] | None
) -> dict[str, Any]:
    """How much is seen of a photograph that is opened in the page: a multiple of what it names."""
    if photo is not None and views is not None:
        side = math.sqrt(photo.height * photo.width)
        return {"by": "area", **{key: views[0][key] / side for key in ("height", "width")}}
    if retina.fixation_size is not None:
        height, width = retina.fixation_size
        return {"by": "pixels", "height": height, "width": width}
    return {"by": "side", "height": 1, "width": 1}


def _scores(
    views: list[dict[str, float]] | None,
    probabilities: Any,
    together: Any,
    class_names: Any,
    multi_label: bool,
) -> dict[str, Any] | None:
    """The class scores, checked."""
    if probabilities is None:
        for name, given in (("together", together), ("class_names", class_names)):
            if given is not None:
                raise ValueError(f"{name} must be given with probabilities, got no probabilities")
        return None
    if views is None:
        raise ValueError("probabilities must be those of an image, got no image")
    shares = _shares("probabilities", probabilities, multi_label)
    if shares.ndim != 2 or len(shares) != len(views):
        raise ValueError(
            f"probabilities must have shape [{len(views)}, classes], a row for every fixation, "
            f"got {list(shares.shape)}"
        )
    overall = shares.mean(0) if together is None else _shares("together", together, multi_label)
    if overall.shape != shares.shape[1:]:
        raise ValueError(
            f"together must have shape {list(shares.shape[1:])}, as probabilities have so many "
            f"classes, got {list(overall.shape)}"
        )
    count = shares.shape[1]
    names = [str(i) for i in range(count)] if class_names is None else list(class_names)
    if len(names) != count:
        raise ValueError(f"class_names must name the {count} classes, got {len(names)}")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"class_names must be strings, got {name!r}")
    return {
        "classes": names,
        "fixations": _packed(shares, "<f4"),
        "together": _packed(overall, "<f4"),
    }


def _shares(name: str, values: Any, multi_label: bool) -> Tensor:
    """Check probabilities over the last dimension."""
    shares = as_floats(name, values).detach().cpu()
    if shares.ndim == 0 or not ((shares >= 0) & (shares <= 1 + 1e-3)).all():
        raise ValueError(f"{name} must lie in [0, 1], got {shares.tolist()}")
    sums = shares.sum(-1)
    if not multi_label and not ((sums - 1).abs() <= 1e-2).all():
        raise ValueError(
            f"{name} must sum to 1 over the classes, got {sums.tolist()}; softmax makes "
            "probabilities of logits, and with multi_label=True they may have any sum"
        )
    return shares


def _graph(graph: KNNGraph) -> dict[str, Any]:
    """A graph's edges, by destination."""
    wide = graph.num_src > 2**16
    return {
        "wide": wide,
        "ptr": _packed(graph.ptr, "<u4"),
        "src": _packed(graph.edge_index[0], "<u4" if wide else "<u2"),
    }


def _packed(values: Tensor | np.ndarray, dtype: str) -> str:
    """Numbers as base64 of their bytes, little-endian, as a browser's typed arrays take them."""
    numbers = values.cpu().numpy() if isinstance(values, Tensor) else values
    return base64.b64encode(numbers.astype(dtype).tobytes()).decode()


def _scale(name: str, low: float, high: float) -> list[str]:
    return [to_hex(colormaps[name](value)) for value in np.linspace(low, high, SHADES)]


def _png(photo: Photograph) -> str:
    # Without loss, so that the page samples the pixels that the retina does.
    return _pages.png_url(Image.fromarray((photo.pixels * 255).round().astype(np.uint8)))


def _asset(name: str) -> str:
    return _pages.asset("fovigraph.viz", "page", name)
