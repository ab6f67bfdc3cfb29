"""All eyes on one photograph: what every layout and field keeps of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from fovigraph import _pages
from fovigraph._checks import instance, positive_int, shown
from fovigraph.geometry import LAYOUTS, SensorArray
from fovigraph.geometry.layout import MAX_SIDE
from fovigraph.sensing import Retina
from fovigraph.viz import style
from fovigraph.viz.field import drawn_nodes
from fovigraph.viz.photograph import Place, draw_view, photograph
from fovigraph.viz.sampling import plot_samples
from fovigraph.viz.scan_path import Raster

PIXELS = 360
"""Height of a picture in the page."""


def all_eyes(side: int = 64, *, fov: float = 16.0, cmf_a: float = 0.5) -> list[SensorArray]:
    """Return an array of every registered layout, extent and norm, matched to one side.

    Those that are the same as another one are left out.

    Args:
        side: Of the image that all have about as many nodes as, pixels.
        fov: Diameter of the field of view, degrees.
        cmf_a: The constant *a* of the cortical magnification, degrees.

    Raises:
        ValueError, TypeError: As :meth:`fovigraph.SensorArray.matched`.

    Example:
        >>> from fovigraph.viz import all_eyes
        >>> sorted({eye.extent for eye in all_eyes(8)})
        ['circular', 'square', 'wang']
    """
    positive_int("side", side, MAX_SIDE)
    eyes: list[SensorArray] = []
    for name, layout in sorted(LAYOUTS.items()):
        for extent in layout.extents:
            for norm in layout.norms:
                if extent == "wang" and norm != 2:
                    continue
                options = {"layout": name, "extent": extent, "norm": norm}
                eye = SensorArray.matched(side, fov=fov, cmf_a=cmf_a, **options)  # type: ignore[arg-type]
                if not any(_same(eye, other) for other in eyes):
                    eyes.append(eye)
    return eyes


def _same(one: SensorArray, other: SensorArray) -> bool:
    """Whether two arrays of one layout have the same nodes and mask."""
    if one.layout != other.layout or not torch.equal(one.polar, other.polar):
        return False
    masks = one.mask, other.mask
    if masks[0] is None or masks[1] is None:
        return masks[0] is masks[1]
    return torch.equal(masks[0], masks[1])


class _Seen(NamedTuple):
    """An eye, and the colours ``[N, 3]`` that it samples."""

    eye: SensorArray
    colors: Tensor


def plot_eyes(
    image: Tensor | np.ndarray,
    eyes: Sequence[SensorArray] | None = None,
    *,
    fixation: Place = (0.5, 0.5),
    size: Place | None = None,
) -> Figure:
    """Draw what eyes keep of a photograph, in the visual field and on the cortex.

    Args:
        image: The photograph, ``[3, H, W]``, uint8 or float in [0, 1].
        eyes: The arrays; ``None``: :func:`all_eyes`.
        fixation: Where they look, (row, column) as fractions.
        size: (height, width) in pixels that the field of view spans; ``None``: a square as long as
            the image's shorter side.

    Returns:
        The figure: the photograph, and a pair of panels for each eye, two pairs in a row.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """
    seen, extent = _look(image, eyes, fixation, size)
    rows = -(-(len(seen) + 1) // 2)
    figure = style.new_figure(height=3.6 * rows + 0.8, width=15)
    parts = figure.subfigures(rows, 2, squeeze=False).flat
    first = next(iter(parts))
    ax = first.subplots()
    reach = draw_view(ax, photograph(image), fixation, extent, seen[0].eye.fov)
    style.visual_axes(ax, max(map(abs, reach)))
    first.suptitle("The photograph", fontsize=11)
    for part, (eye, colors) in zip(list(parts), seen, strict=False):
        panels = part.subplots(1, 2 if eye.has_cortex else 1, squeeze=False)[0]
        for panel, space in zip(panels, ("visual", "cortical"), strict=False):
            plot_samples(eye, colors, space=space, ax=panel, eccentricities=False)
            panel.tick_params(labelsize=7)
            for axis in (panel.xaxis, panel.yaxis):
                axis.label.set_fontsize(7)
        part.suptitle(f"{_name(eye)}: {len(drawn_nodes(eye)):,} samples", fontsize=11)
    figure.suptitle("All eyes on one photograph", **style.TITLE)
    return figure


def eyes_html(
    image: Tensor | np.ndarray,
    eyes: Sequence[SensorArray] | None = None,
    *,
    fixation: Place = (0.5, 0.5),
    size: Place | None = None,
    title: str = "All eyes on one photograph",
) -> str:
    """Return a web page of what eyes keep of a photograph.

    It is light or dark as the system or the reader likes, and asks the network for nothing.

    Args:
        image, eyes, fixation, size: As of :func:`plot_eyes`.
        title: The page's heading.

    Returns:
        The HTML text, to be written as UTF-8.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import torch
        >>> from fovigraph.viz import all_eyes, eyes_html
        >>> page = eyes_html(torch.rand(3, 32, 48), all_eyes(8))
        >>> "warped_cartesian" in page
        True
    """
    instance("title", title, str, allowed="a string")
    seen, _ = _look(image, eyes, fixation, size)
    photo = photograph(image)
    whole = (photo.pixels * 255).round().astype(np.uint8)
    figures = "\n".join(_figure(eye, colors) for eye, colors in seen)
    return _pages.page(
        _pages.asset("fovigraph.viz", "gallery", "eyes.html"),
        title,
        _pages.asset("fovigraph.viz", "gallery", "eyes.css"),
        photograph=_pages.png_url(Image.fromarray(whole)),
        size=f"{photo.width} × {photo.height} pixels",
        eyes=figures,
    )


def _look(
    image: Tensor | np.ndarray,
    eyes: Sequence[SensorArray] | None,
    fixation: Place,
    size: Place | None,
) -> tuple[list[_Seen], Place]:
    """What eyes sample of a photograph, and how much of it they see."""
    photo = photograph(image)
    if eyes is not None and not isinstance(eyes, list | tuple):
        raise TypeError(f"eyes must be a list of arrays or None, got {shown(eyes)}")
    chosen = all_eyes() if eyes is None else list(eyes)
    if not chosen:
        raise ValueError("eyes must be at least one array, got none")
    for index, eye in enumerate(chosen):
        instance(f"eyes[{index}]", eye, SensorArray)
    extent = (min(photo.height, photo.width),) * 2 if size is None else size
    photo.extent(fixation, extent, chosen[0].fov)  # which says what is wrong with them
    pixels = torch.as_tensor(image)[None]
    places = torch.as_tensor(fixation).reshape(1, 1, 2)
    sizes = torch.as_tensor(extent).reshape(1, 1, 2)
    return [_Seen(eye, Retina(eye).colors(pixels, places, sizes)[0, 0]) for eye in chosen], extent


def _name(eye: SensorArray) -> str:
    """What an eye is called: its layout, its extent and the norm of its warp."""
    norms = {2.0: "", float("inf"): ", norm ∞"}
    return f"{eye.layout}, {eye.extent}{norms[eye.norm]}"


def _figure(eye: SensorArray, colors: Tensor) -> str:
    """The pictures of one eye."""
    pictures = "".join(
        f'<img src="{_pages.png_url(each)}" alt="{alt}" '
        f'width="{each.width}" height="{each.height}">'
        for each, alt in _pictures(eye, colors)
    )
    count = len(drawn_nodes(eye))
    about = (type(eye._layout).__doc__ or "").strip().partition("\n")[0]
    about = re.sub(r" \(:\w+:`[^`]*`\)|`", "", about)  # without its markup
    return (
        f"<figure><figcaption><h2>{escape(_name(eye))}</h2><p>{escape(about)} "
        f'<span class="soft">{count:,} samples.</span></p></figcaption>'
        f'<div class="pair">{pictures}</div></figure>'
    )


def _pictures(eye: SensorArray, colors: Tensor) -> Iterator[tuple[Image.Image, str]]:
    """The samples in the visual field and on the cortex, transparent outside."""
    spaces = {"visual": "in the visual field", "cortical": "on the cortex"}
    for space, where in spaces.items():
        if space == "visual" or eye.has_cortex:
            picture = Raster(eye, PIXELS, space)(colors)
            yield (
                Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()),
                f"What {escape(_name(eye))} keeps, {where}",
            )
