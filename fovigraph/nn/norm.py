"""Normalisation of node features ``[*, N, C]``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from fovigraph._checks import one_of, positive_int
from fovigraph._tensors import if_channels_first


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of every channel, over all nodes of all graphs.

    Takes ``[*, N, C]`` and a disjoint PyG batch ``[ΣN, C]`` alike.

    Attributes:
        synchronized: Whether, while training in several processes (``torch.distributed``), the
            statistics are those of all processes' features together, on any device.
    """

    synchronized = False
    num_batches_tracked: Tensor
    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        _check_channels(x, self.num_features)
        rows = x.reshape(-1, x.shape[-1])
        if self.training and self.synchronized and distributed.is_initialized():
            return self._normalise_together(rows).view_as(x)
        return super().forward(rows).view_as(x)

    def _normalise_together(self, rows: Tensor) -> Tensor:
        """Normalise ``[rows, C]`` with the statistics of the rows of all processes."""
        wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
        total = _SumOverProcesses.apply(torch.cat((wide.sum(0), wide.new_tensor([len(rows)]))))
        count, mean = total[-1], total[:-1] / total[-1]
        centred = wide - mean
        variance = _SumOverProcesses.apply(centred.square().sum(0)) / count
        if self.track_running_stats:
            with torch.no_grad():
                unbiased = variance * count / (count - 1).clamp(min=1)
                self.num_batches_tracked += 1
                # As in torch, no momentum means the mean of all batches.
                share = self.momentum
                share = 1 / int(self.num_batches_tracked) if share is None else share
                self.running_mean.lerp_(mean.to(self.running_mean), share)
                self.running_var.lerp_(unbiased.to(self.running_var), share)
        normal = centred * torch.rsqrt(variance + self.eps)
        return (normal * self.weight + self.bias if self.affine else normal).to(rows.dtype)


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; so is its gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, own: Tensor) -> Tensor:
        total = own.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        return _SumOverProcesses.forward(ctx, gradient)


class LayerNorm(nn.Module):
    """Layer normalisation of every graph: over its channels, its nodes, or both.

    Args:
        over: ``"channels"`` (each node by itself), ``"nodes"`` (each channel by itself) or
            ``"both"``.
        channels: Channels C.
        num_nodes: Nodes N; needed unless ``over`` is ``"channels"``.
        eps: Added to the variance.
    """

    def __init__(
        self, over: str, channels: int, num_nodes: int | None = None, *, eps: float = 1e-5
    ):
        super().__init__()
        self.over = one_of("over", over, ("channels", "nodes", "both"))
        self.channels = positive_int("channels", channels)
        nodes = 1 if over == "channels" else positive_int("num_nodes", num_nodes)
        self.num_nodes = None if over == "channels" else nodes
        self.eps = eps
        shape = {"channels": (channels,), "nodes": (nodes, 1), "both": (nodes, channels)}[over]
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[*, N, C]``, or a disjoint PyG batch ``[ΣN, C]`` of graphs of N nodes."""
        _check_channels(x, self.channels)
        if self.over == "channels":
            return functional.layer_norm(x, (self.channels,), self.weight, self.bias, self.eps)
        graphs = _one_graph_each(x, self.num_nodes)
        dims = (-2,) if self.over == "nodes" else (-2, -1)
        variance, mean = torch.var_mean(graphs, dim=dims, correction=0, keepdim=True)
        normal = (graphs - mean) * torch.rsqrt(variance + self.eps)
        return (normal * self.weight + self.bias).view_as(x)

    def extra_repr(self) -> str:
        return f"over={self.over!r}, channels={self.channels}, num_nodes={self.num_nodes}"


class GroupNorm(nn.GroupNorm):
    """Group normalisation of every graph, over the nodes and the channels of a group.

    Args:
        num_groups: Number of groups; must divide ``channels``.
        channels: Channels C.
        num_nodes: Nodes N, to tell the graphs of a disjoint batch apart; ``None`` takes
            ``[*, N, C]`` alone.
    """

    def __init__(self, num_groups: int, channels: int, num_nodes: int | None = None):
        channels = positive_int("channels", channels)
        num_groups = positive_int("num_groups", num_groups)
        if channels % num_groups:
            raise ValueError(f"num_groups must divide channels={channels}, got {num_groups}")
        super().__init__(num_groups, channels)
        self.num_nodes = num_nodes

    def forward(self, x: Tensor) -> Tensor:
        _check_channels(x, self.num_channels)
        graphs = _one_graph_each(x, x.shape[-2] if self.num_nodes is None else self.num_nodes)
        flat = graphs.reshape(-1, *graphs.shape[-2:]).transpose(1, 2)
        return super().forward(flat).transpose(1, 2).reshape(x.shape)


def _groups(channels: int) -> int:
    """The most groups, up to 32, of at least four channels each, that divide ``channels``."""
    most = min(32, max(1, channels // 4))
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)


NORMS: dict[str, Callable[[int, int], nn.Module]] = {
    "batch": lambda channels, num_nodes: BatchNorm(channels),
    "channel": lambda channels, num_nodes: LayerNorm("channels", channels),
    "node": lambda channels, num_nodes: LayerNorm("nodes", channels, num_nodes),
    "layer": lambda channels, num_nodes: LayerNorm("both", channels, num_nodes),
    "group": lambda channels, num_nodes: GroupNorm(_groups(channels), channels, num_nodes),
    "none": lambda channels, num_nodes: nn.Identity(),
}


def make_norm(name: str, channels: int, num_nodes: int) -> nn.Module:
    """Make a norm by its name.

    Args:
        name: ``"batch"``, ``"channel"`` (layer norm over channels), ``"node"`` (over nodes),
            ``"layer"`` (over both), ``"group"`` or ``"none"``.
        channels: Channels C.
        num_nodes: Nodes N of the level it is for.
    """
    return NORMS[one_of("norm", name, NORMS)](channels, num_nodes)


def _check_channels(x: Tensor, channels: int) -> None:
    if x.dim() < 2 or x.shape[-1] != channels:
        raise ValueError(f"x must be [..., nodes, {channels} channels], got shape {list(x.shape)}")


def _one_graph_each(x: Tensor, num_nodes: int | None) -> Tensor:
    """View a disjoint batch ``[B · N, C]`` as ``[B, N, C]``; leave ``[*, N, C]`` as it is."""
    if x.shape[-2] == num_nodes:
        return x
    if num_nodes and x.dim() == 2 and x.shape[0] % num_nodes == 0:
        return x.view(-1, num_nodes, x.shape[1])
    raise ValueError(
        f"x must have {num_nodes} nodes, or a multiple of them in a disjoint batch, "
        f"got shape {list(x.shape)}{if_channels_first(x.shape, num_nodes)}"
    )
