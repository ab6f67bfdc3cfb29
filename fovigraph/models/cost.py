"""What a network costs: its parameters, and the arithmetic of one fixation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from fovigraph.models.backbone import Backbone
from fovigraph.models.evaluating import evaluating
from fovigraph.models.fovinet import FoviNet, check_fovinet
from fovigraph.models.wrapped import unwrapped


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Return the FLOPs of attention between tensors of these shapes."""
    return sdpa_flop_count(query, key, value)  # type: ignore[no-any-return]


_UNCOUNTED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
"""Operators whose arithmetic torch's counter leaves out."""


@dataclass
class Cost:
    """What a part of a network costs.

    Attributes:
        parameters: Number of learnt parameters.
        flops: Arithmetic per fixation, a multiply–add being two operations, as torch's
            ``FlopCounterMode`` counts it: for a convolution 2 · edges · C_in · C_out (if depthwise
            2 · edges · C_out), for a linear map 2 · C_in · C_out at every node, for a pool one
            operation for every edge and channel. Norms and activations are left out.
    """

    parameters: int = 0
    flops: int = 0


def describe(net: FoviNet) -> dict[str, Any]:
    """Return a network's levels, with nodes, edges, parameters and FLOPs, as plain data."""
    levels, projector, head = costs(net)
    rows = [{**row, **vars(cost)} for row, cost in zip(net.pyramid.rows(), levels, strict=True)]
    retina, parts = net.config.retina, [*levels, projector, head]
    return {
        "field_of_view_degrees": retina.fov,
        "cmf_a_degrees": retina.cmf_a,
        "layout": net.retina.array.layout,
        "extent": retina.extent,
        "norm": "inf" if retina.norm == math.inf else retina.norm,  # JSON has no infinity
        "max_val": retina.max_val,
        "field_geometry": retina.field_geometry,
        "matching": retina.matching,
        "fixations": net.config.fixation.count,
        "levels": rows,
        "projector": vars(projector),
        "head": vars(head),
        "total": {
            "parameters": sum(p.numel() for p in net.parameters()),
            "flops": sum(part.flops for part in parts),
        },
    }


def costs(net: FoviNet) -> tuple[list[Cost], Cost, Cost]:
    """Return the cost of every level of the pyramid, of the projector and of the head.

    A block's arithmetic belongs to the level that it leads to, or, where it gives the features on
    several (:meth:`Block.by_level`), to each of them; its parameters to the first of these. What
    a block does not do, the backbone's output layer, belongs to the last level. The head is
    the probe and the aggregation, whose arithmetic for an image is divided by the configured number
    of fixations. Counted in a forward pass on zeros.

    Raises:
        TypeError: If ``net`` is not a network.
    """
    check_fovinet("net", net)
    levels, projector, head = [Cost() for _ in net.pyramid.levels], Cost(), Cost()
    like = next(net.parameters())
    samples = like.new_zeros(1, len(net.retina.array), net.config.retina.channels)
    counted: set[int] = set()
    with evaluating(net), torch.no_grad():
        features = _backbone(net, samples, levels, counted)
        embedding, projector.flops = _counted(lambda: net.projector(features.flatten(1)))
        probed, head.flops = _counted(lambda: net.head(embedding))
        count = net.config.fixation.count
        several = probed[:, None].expand(-1, count, -1)
        head.flops += _counted(lambda: net.answers(several))[1] // count
    projector.parameters = _parameters(net.projector, counted)
    head.parameters = _parameters(net.head, counted) + _parameters(net.aggregation, counted)
    return levels, projector, head


def _backbone(net: FoviNet, x: Tensor, levels: list[Cost], counted: set[int]) -> Tensor:
    """Run the backbone on samples, add its costs to those of the levels, return its output."""
    backbone = unwrapped(net.backbone)
    if not isinstance(backbone, Backbone) or not backbone.block_names:
        out, flops = _counted(lambda: net.backbone(x))
    else:
        level = 0
        for block in backbone.layers:
            first = None
            for (index, features), flops in _steps(block.by_level(x, net.pyramid)):
                x = features
                level = level if index is None else index
                levels[level].flops += flops
                first = level if first is None else first
            levels[level if first is None else first].parameters += _parameters(block, counted)
        out, flops = _counted(lambda: backbone.finish(x))
    levels[-1].flops += flops
    levels[-1].parameters += _parameters(net.backbone, counted)
    return out  # type: ignore[no-any-return]


def _steps(results: Iterator[Any]) -> Iterator[tuple[Any, int]]:
    """Yield what an iterator yields, and the FLOPs of each step."""
    end = object()
    while True:
        result, flops = _counted(lambda: next(results, end))
        if result is end:
            return
        yield result, flops


def _counted(run: Callable[[], Any]) -> tuple[Any, int]:
    """Return what a function returns, and its FLOPs."""
    with FlopCounterMode(display=False, custom_mapping=_UNCOUNTED) as counter:
        result = run()
    return result, counter.get_total_flops()


def _parameters(module: nn.Module, counted: set[int]) -> int:
    """Return the number of a module's parameters that were not counted before."""
    new = [p for p in module.parameters() if id(p) not in counted]
    counted.update(map(id, new))
    return sum(p.numel() for p in new)
