"""What a network costs: its parameters, and the arithmetic of one fixation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fovigraph.models.fovinet import FoviNet, check_fovinet
from fovigraph.nn import KNNConv, KNNDepthwiseConv, KNNPool


@dataclass
class Cost:
    """What a part of a network costs.

    Attributes:
        parameters: Number of learnt parameters.
        flops: Useful arithmetic per fixation: for a convolution 2 · edges · C_in · C_out (if
            depthwise 2 · edges · C_out), for a linear map 2 · C_in · C_out at every node, for a
            pool one operation for every edge and channel. Norms and activations are left out.
    """

    parameters: int = 0
    flops: int = 0


def describe(net: FoviNet) -> dict[str, Any]:
    """Return a network's levels, with nodes, edges, parameters and FLOPs, as plain data."""
    steps, projector, head = costs(net)
    levels = [
        {**row, **vars(cost)}
        for row, cost in zip(net.pyramid.rows(), [Cost(), *steps], strict=True)
    ]
    retina, parts = net.config.retina, [*steps, projector, head]
    return {
        "field_of_view_degrees": retina.fov,
        "cmf_a_degrees": retina.cmf_a,
        "layout": retina.layout,
        "fixations": net.config.fixation.count,
        "levels": levels,
        "projector": vars(projector),
        "head": vars(head),
        "total": {
            "parameters": sum(p.numel() for p in net.parameters()),
            "flops": sum(part.flops for part in parts),
        },
    }


def costs(net: FoviNet) -> tuple[list[Cost], Cost, Cost]:
    """Return the cost of every step of the pyramid, of the projector and of the head.

    Found by looking at nothing, once, and noting which layer runs on which of the graphs. What
    runs between two steps counts towards the first.

    Raises:
        TypeError: If ``net`` is not a network.
    """
    check_fovinet("net", net)
    graphs = list(net.pyramid.graphs)
    steps, projector, head = [Cost() for _ in graphs], Cost(), Cost()
    seen: set[nn.Module] = set()
    step, current = -1, Cost()

    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        nonlocal step, current
        if isinstance(layer, (KNNConv, KNNDepthwiseConv, KNNPool)):
            later = (i for i in range(step + 1, len(graphs)) if graphs[i] is inputs[1])
            step = next(later, step)
            current = steps[step]
        if layer not in seen:
            seen.add(layer)
            current.parameters += sum(p.numel() for p in layer.parameters(recurse=False))
        current.flops += _flops(layer, inputs, output)

    hooks = [layer.register_forward_hook(note) for layer in net.modules()]
    try:
        with torch.no_grad():
            nothing = next(net.parameters()).new_zeros(1, len(net.retina.array), 3)
            features = net.backbone(nothing).flatten(1)
            current = projector
            embedding = net.projector(features)
            current = head
            net.head(embedding)
    finally:
        for hook in hooks:
            hook.remove()
    return steps, projector, head


def _flops(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> int:
    if isinstance(layer, KNNConv):
        return 2 * int(inputs[1].num_edges) * layer.in_channels * layer.out_channels
    if isinstance(layer, KNNDepthwiseConv):
        return 2 * int(inputs[1].num_edges) * layer.out_channels
    if isinstance(layer, KNNPool):
        return int(inputs[1].num_edges) * output.shape[-1]
    if isinstance(layer, nn.Linear):
        return 2 * output.numel() * layer.in_features
    return 0
