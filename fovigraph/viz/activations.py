"""What the layers of a network compute, on the nodes where they compute it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor, nn

from fovigraph._checks import instance, one_of, positive_int
from fovigraph.geometry import SensorArray
from fovigraph.models import Backbone
from fovigraph.nn import KNNConv, KNNDepthwiseConv, KNNPool
from fovigraph.viz import style
from fovigraph.viz.arguments import check_backbone, finite_array, indices_below, optional_text
from fovigraph.viz.cells import SPACES, draw_cells


def level_features(backbone: Backbone, samples: Tensor) -> list[Tensor]:
    """Return the features on every level of a network's pyramid.

    Those of a level are what the next step takes in, so after the norm and the activation; those
    of the last, what the backbone gives.

    Args:
        backbone: A module on a pyramid, whose steps follow one another.
        samples: What the retina sampled, ``[B, N, C]``.

    Returns:
        One ``[B, nodes, channels]`` a level, from the retina's samples up.

    Raises:
        TypeError: If ``backbone`` is no such module, or ``samples`` no tensor.
        ValueError: If the backbone does not pass through every level, or ``samples`` have another
            shape.
    """
    check_backbone(backbone)
    count = len(backbone.pyramid.levels[0])
    instance("samples", samples, Tensor, allowed="a torch.Tensor [B, N, C]")
    if samples.ndim != 3 or samples.shape[1] != count:
        raise ValueError(
            f"samples must have shape [B, {count}, C] like the retina's nodes, "
            f"got {list(samples.shape)}"
        )
    steps, out = _walk(backbone, samples)
    return [*(features for _, features in steps), out]


@torch.no_grad()
def step_layers(backbone: Backbone) -> list[nn.Module]:
    """Return the layer that takes each step of a network's pyramid, in order.

    Raises:
        TypeError: If ``backbone`` is no such module.
        ValueError: If the backbone does not pass through every level.
    """
    check_backbone(backbone)
    steps, _ = _walk(backbone, torch.zeros(1, len(backbone.pyramid.levels[0]), 3))
    return [layer for layer, _ in steps]


def _walk(backbone: Backbone, samples: Tensor) -> tuple[list[tuple[nn.Module, Tensor]], Tensor]:
    """Run a backbone; return the layer and the input of every step, and the output."""
    graphs = list(backbone.pyramid.graphs)
    taken: list[tuple[nn.Module, Tensor]] = []

    def note(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if len(taken) < len(graphs) and inputs[1] is graphs[len(taken)]:
            taken.append((layer, inputs[0]))

    modules = backbone.modules() if isinstance(backbone, nn.Module) else ()
    steps = [m for m in modules if isinstance(m, (KNNConv, KNNDepthwiseConv, KNNPool))]
    hooks = [step.register_forward_pre_hook(note) for step in steps]
    try:
        out = backbone(samples)
    finally:
        for hook in hooks:
            hook.remove()
    if len(taken) != len(graphs):
        raise ValueError(
            f"backbone must pass through the {len(graphs)} steps of its pyramid in their order, "
            f"got {len(taken)} of them"
        )
    return taken, out


def plot_activations(
    array: SensorArray,
    features: Tensor | np.ndarray,
    *,
    channels: Sequence[int] | None = None,
    count: int = 8,
    space: str = "visual",
    title: str = "Activations",
) -> Figure:
    """Draw channels of a level's features on its nodes.

    Args:
        array: The level's nodes.
        features: ``[N, C]``.
        channels: Which channels; ``None``: those that vary most over the nodes.
        count: How many, where ``channels`` is ``None``.
        space: ``"visual"`` or ``"cortical"``.
        title: Above all.

    Returns:
        The figure, a panel a channel on one common scale.

    Raises:
        ValueError, TypeError: If the features do not fit the array, a channel does not exist, there
            is no such space, or an argument is of another type.
    """
    instance("array", array, SensorArray)
    one_of("space", space, SPACES)
    optional_text("title", title)
    values = finite_array("features", features).astype(np.float32)
    if values.ndim != 2 or len(values) != len(array) or not values.shape[1]:
        raise ValueError(
            f"features must have shape [{len(array)}, channels] like the array's nodes, "
            f"got {list(values.shape)}"
        )
    if channels is None:
        chosen = np.argsort(-values.std(axis=0), kind="stable")[: positive_int("count", count)]
    else:
        chosen = np.asarray(indices_below("channels", channels, values.shape[1]), dtype=int)
        if not chosen.size:
            raise ValueError(f"channels must be from 0 to {values.shape[1] - 1}, got []")
    columns = min(4, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    side = style.WIDTH / 4 * (0.62 if space == "cortical" else 1.0)
    figure = style.new_figure((side + 0.35) * rows + 1.4, max(style.WIDTH / 4 * columns, 5.0))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in panels[len(chosen) :]:
        ax.set_axis_off()
    shown = values[:, chosen]
    limits = Normalize(float(np.min(shown)), float(np.max(shown)))
    scale = ScalarMappable(limits, colormaps[style.COLORMAP])
    for index, (ax, channel) in enumerate(zip(panels, chosen, strict=False)):
        draw_cells(ax, array, scale.to_rgba(values[:, channel]), space)
        ax.set_title(f"channel {channel}", fontsize=10)
        for axis in (ax.xaxis, ax.yaxis):
            axis.label.set_fontsize(7)
        if index % columns:
            ax.set_ylabel("")
        if index + columns < len(chosen):
            ax.set_xlabel("")
    figure.colorbar(scale, ax=panels, location="bottom", shrink=0.5, aspect=40, label="activation")
    figure.suptitle(title, **style.TITLE)
    return figure
