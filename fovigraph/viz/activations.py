"""What the layers of a network compute, on the nodes where they compute it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor, nn

from fovigraph._checks import instance, one_of, positive_int
from fovigraph.geometry import SensorArray
from fovigraph.models import Backbone, Block
from fovigraph.viz import style
from fovigraph.viz.arguments import check_backbone, finite_array, indices_below, optional_text
from fovigraph.viz.cells import SPACES, draw_cells, frame
from fovigraph.viz.field import drawn_nodes


def level_features(backbone: Backbone, samples: Tensor) -> dict[str, Tensor]:
    """Return the features on every level of a network's pyramid that they are known on.

    Those of a level are what the next layer takes in, so after the norm and the activation; those
    of the last, what the last block gives. Levels within a block that does not give them
    (:meth:`fovigraph.models.Block.by_level`) are left out.

    Args:
        backbone: A backbone of blocks.
        samples: What the retina sampled, ``[B, N, C]``.

    Returns:
        ``[B, nodes, channels]`` by the level's name, from the retina's samples up.

    Raises:
        TypeError: If ``backbone`` is no such module, or ``samples`` no tensor.
        ValueError: If ``samples`` have another shape.
    """
    backbone = check_backbone(backbone)
    names, count = backbone.pyramid.names, len(backbone.pyramid.levels[0])
    instance("samples", samples, Tensor, allowed="a torch.Tensor [B, N, C]")
    if samples.ndim != 3 or samples.shape[1] != count:
        raise ValueError(
            f"samples must have shape [B, {count}, C] like the retina's nodes, "
            f"got {list(samples.shape)}"
        )
    return {names[level]: x for level, x in backbone.features_by_level(samples).items()}


def features_at(backbone: Backbone, level: int, samples: Tensor) -> Tensor:
    """Return the features ``[B, nodes, channels]`` on one level, as :func:`level_features` does.

    Raises:
        ValueError: If they are not known on that level.
    """
    features, name = level_features(backbone, samples), backbone.pyramid.names[level]
    if name not in features:
        raise ValueError(
            f"level must be one that a block ends on or gives, {', '.join(features)}, got {name!r}"
        )
    return features[name]


def step_layers(backbone: Backbone) -> list[nn.Module]:
    """Return the layer that takes each step of a network's pyramid, in order.

    Raises:
        TypeError: If ``backbone`` is no module of blocks on a pyramid.
        ValueError: If a step has no layer.
    """
    backbone = check_backbone(backbone)
    layers = {
        connection.src: getattr(block, name)
        for block in backbone.modules()
        if isinstance(block, Block)
        for name, connection in block.runs_on.items()
        if connection.kind != "between"
    }
    names = backbone.pyramid.names[1:]
    if missing := [name for step, name in enumerate(names) if step not in layers]:
        raise ValueError(f"backbone must have a layer for every step, got none to {missing}")
    return [layers[step] for step in range(len(names))]


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
        space: ``"visual"``, or a map of the cortex (:func:`flat_map`): ``"cortical"``,
            ``"v1like"``, ``"schwartz"``, ``"warp"``.
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
    values, nodes = finite_array("features", features).astype(np.float32), drawn_nodes(array)
    if values.ndim != 2 or len(values) != len(array) or not values.shape[1]:
        raise ValueError(
            f"features must have shape [{len(array)}, channels] like the array's nodes, "
            f"got {list(values.shape)}"
        )
    if channels is None:
        chosen = np.argsort(-values[nodes].std(axis=0), kind="stable")[
            : positive_int("count", count)
        ]
    else:
        chosen = np.asarray(indices_below("channels", channels, values.shape[1]), dtype=int)
        if not chosen.size:
            raise ValueError(f"channels must be from 0 to {values.shape[1] - 1}, got []")
    columns = min(4, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    side = style.WIDTH / 4 * min(max(frame(array, space).aspect, 0.62), 1.0)
    figure = style.new_figure((side + 0.35) * rows + 1.4, max(style.WIDTH / 4 * columns, 5.0))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in panels[len(chosen) :]:
        ax.set_axis_off()
    shown = values[nodes][:, chosen]
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
