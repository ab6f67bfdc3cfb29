"""Normalisation of node features ``[*, N, C]``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase

from fovigraph._checks import flag, fraction, one_of, positive_int, shown
from fovigraph._tensors import if_channels_first
from fovigraph.geometry.fixed import FixedTensors, isolated
from fovigraph.nn.limits import MAX_WEIGHTS, check_weights
from fovigraph.ops import batch_norm
from fovigraph.ops.operands import autocast_dtype, floating


class Counted(FixedTensors):
    """The nodes of a level that statistics are taken of: those that are not masked.

    Args:
        mask: Which they are, ``[N]``.
    """

    nodes: Tensor

    def __init__(self, mask: Bool[Tensor, " N"]):
        super().__init__()
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.dim() != 1:
            raise TypeError(f"mask must be a vector of booleans, got {shown(mask)}")
        self.num_nodes = len(mask)
        self.fix(nodes=isolated(torch.nonzero)(mask.cpu()).flatten())
        if len(self.nodes) == 0:
            raise ValueError(f"mask must leave a node, got none of {len(mask)}")

    def forward(self, x: Float[Tensor, "*batch N C"]) -> Float[Tensor, "*batch M C"]:
        """Return the features of these nodes, also of a disjoint batch ``[ΣN, C]``."""
        if x.dim() == 2:
            return _one_graph_each(x, self.num_nodes).index_select(-2, self.nodes).flatten(0, -2)
        return x.index_select(-2, self.nodes)

    def extra_repr(self) -> str:
        return f"{len(self.nodes)} of {self.num_nodes} nodes"


def _counted(mask: Tensor | None) -> Counted | None:
    return None if mask is None else Counted(mask)


class BatchNorm(_NormBase):
    """Batch normalisation of every channel, over all nodes of all graphs.

    Takes ``[*, N, C]`` and a disjoint PyG batch ``[ΣN, C]`` alike. It has the arguments, parameters
    and buffers of ``torch.nn.BatchNorm1d``, but is none, as that has channels second; what torch's
    tools find is its :attr:`handle`.

    Args:
        num_features: Channels C.
        eps: Added to the variance.
        momentum: Share of a batch in the running statistics; ``None``: they are means of all.
        affine: Whether there are learnt weights and a bias.
        track_running_stats: Whether there are running statistics, for evaluation.
        mask: Which nodes of a level the statistics are those of, ``[N]``, where some are masked;
            all are normalised by them. ``None``: of all.
        *device_and_dtype, **options: Further arguments of ``torch.nn.BatchNorm1d``.

    Attributes:
        synchronized: Whether, while training in several processes (``torch.distributed``), the
            statistics are those of all processes' features together, on any device. So they are
            after ``torch.nn.SyncBatchNorm.convert_sync_batchnorm``.
        process_group: Which processes; ``None``: all.
        handle: A ``BatchNorm1d`` with this norm's parameters, statistics and settings, for
            ``convert_sync_batchnorm``, ``update_bn`` and ``replace_all_batch_norm_modules_``.
    """

    synchronized = False
    process_group: distributed.ProcessGroup | None = None
    num_batches_tracked: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *device_and_dtype: Any,
        mask: Tensor | None = None,
        **options: Any,
    ):
        super().__init__(
            _count("num_features", num_features),
            fraction("eps", eps),
            None if momentum is None else fraction("momentum", momentum),
            flag("affine", affine),
            flag("track_running_stats", track_running_stats),
            *device_and_dtype,
            **options,
        )
        self.handle = _Handle(self)
        self.counted = _counted(mask)

    def forward(self, x: Float[Tensor, "*batch N C"]) -> Float[Tensor, "*batch N C"]:
        _check_features(x, self.num_features, self.weight)
        rows = x.reshape(-1, x.shape[-1])
        together = self.synchronized and distributed.is_initialized()
        by_batch = self.training or not self.track_running_stats
        if (self.training and together) or (by_batch and self.counted is not None):
            counted = rows if self.counted is None else self.counted(x).reshape(-1, x.shape[-1])
            return self._normalise_by(counted, rows, self.training and together).view_as(x)
        if by_batch and batch_norm.serves(rows, self.weight, self.bias):
            out, mean, variance = batch_norm.batch_norm(rows, self.weight, self.bias, self.eps)
            self._track(mean, variance, len(rows))
            return out.view_as(x)
        return nn.BatchNorm1d.forward(self, rows).view_as(x)  # type: ignore[arg-type]

    def _check_input_dim(self, input: Tensor) -> None:
        """Torch's name for what :meth:`forward` has done."""

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Add a child; a ``SyncBatchNorm`` in the handle's place means to synchronise."""
        if isinstance(module, nn.SyncBatchNorm):
            self.synchronized, self.process_group = True, module.process_group
        else:
            super().add_module(name, module)

    def _normalise_by(self, counted: Tensor, rows: Tensor, together: bool) -> Tensor:
        """Normalise ``[rows, C]`` with the statistics of some rows, perhaps of all processes."""

        def total(own: Tensor) -> Tensor:
            return _SumOverProcesses.apply(own, self.process_group) if together else own  # type: ignore[no-any-return]

        dtype = torch.promote_types(rows.dtype, torch.float32)
        wide = counted.to(dtype)
        sums = total(torch.cat((wide.sum(0), wide.new_tensor([len(counted)]))))
        count, mean = sums[-1], sums[:-1] / sums[-1]
        variance = total((wide - mean).square().sum(0)) / count
        self._track(mean, variance, count)
        normal = (rows.to(dtype) - mean) * torch.rsqrt(variance + self.eps)
        normal = normal if self.weight is None else normal * self.weight
        return (normal if self.bias is None else normal + self.bias).to(rows.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor | int) -> None:
        """Take the mean and variance of so many rows into the running statistics, in training."""
        if not (self.training and self.track_running_stats):
            return
        count = torch.as_tensor(count, dtype=variance.dtype, device=variance.device)
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.num_batches_tracked += 1
        # As in torch, no momentum means the mean of all batches.
        share = self.momentum
        share = 1 / int(self.num_batches_tracked) if share is None else share
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(unbiased.to(self.running_var), share)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


class _Handle(nn.BatchNorm1d):
    """A batch norm of torch's with nothing of its own: all of it is another norm's."""

    norm: BatchNorm

    def __init__(self, norm: BatchNorm):
        self.__dict__["norm"] = norm  # which this is a module of, not the other way round
        nn.Module.__init__(self)

    # Without parameters and buffers there is nothing to load.
    _load_from_state_dict = nn.Module._load_from_state_dict

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


def _of_the_norm(name: str) -> property:
    return property(
        lambda handle: getattr(handle.norm, name),
        lambda handle, value: setattr(handle.norm, name, value),
    )


for _name in (
    *("num_features", "eps", "momentum", "affine", "track_running_stats", "training"),
    *("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
):
    setattr(_Handle, _name, _of_the_norm(_name))


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes of a group; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, group: distributed.ProcessGroup | None) -> Tensor:
        ctx.group = group
        total = own.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _SumOverProcesses.forward(ctx, gradient, ctx.group), None


class LayerNorm(nn.Module):
    """Layer normalisation of every graph: over its channels, its nodes, or both.

    Args:
        over: ``"channels"`` (each node by itself), ``"nodes"`` (each channel by itself) or
            ``"both"``.
        channels: Channels C.
        num_nodes: Nodes N; needed unless ``over`` is ``"channels"``.
        eps: Added to the variance.
        mask: Which nodes the statistics are those of, as for :class:`BatchNorm`.
    """

    def __init__(
        self,
        over: str,
        channels: int,
        num_nodes: int | None = None,
        *,
        eps: float = 1e-5,
        mask: Tensor | None = None,
    ):
        super().__init__()
        self.over = one_of("over", over, ("channels", "nodes", "both"))
        self.channels = channels = _count("channels", channels)
        nodes = 1 if over == "channels" else _count("num_nodes", num_nodes)
        check_weights(num_nodes=nodes, channels=1 if over == "nodes" else channels)
        self.num_nodes = None if over == "channels" else nodes
        self.eps = fraction("eps", eps)
        shape = {"channels": (channels,), "nodes": (nodes, 1), "both": (nodes, channels)}[over]
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))
        self.counted = _counted(mask)

    def forward(self, x: Float[Tensor, "*batch N C"]) -> Float[Tensor, "*batch N C"]:
        """Normalise ``[*, N, C]``, or a disjoint PyG batch ``[ΣN, C]`` of graphs of N nodes."""
        _check_features(x, self.channels, self.weight)
        if self.over == "channels":
            return functional.layer_norm(x, (self.channels,), self.weight, self.bias, self.eps)
        graphs = _one_graph_each(x, self.num_nodes)
        half = torch.finfo(x.dtype).bits < 32  # computed in single precision, as torch does
        graphs = graphs.float() if half else graphs
        dims = (-2,) if self.over == "nodes" else (-2, -1)
        counted = graphs if self.counted is None else self.counted(graphs)
        variance, mean = torch.var_mean(counted, dim=dims, correction=0, keepdim=True)
        normal = (graphs - mean) * torch.rsqrt(variance + self.eps)
        out = (normal * self.weight + self.bias).view_as(x)
        return out.to(x.dtype) if half else out

    def extra_repr(self) -> str:
        return f"over={self.over!r}, channels={self.channels}, num_nodes={self.num_nodes}"


class GroupNorm(nn.GroupNorm):
    """Group normalisation of every graph, over the nodes and the channels of a group.

    Args:
        num_groups: Number of groups; must divide ``channels``.
        channels: Channels C.
        num_nodes: Nodes N, to tell the graphs of a disjoint batch apart; ``None`` takes
            ``[*, N, C]`` alone.
        mask: Which nodes the statistics are those of, as for :class:`BatchNorm`.
    """

    def __init__(
        self,
        num_groups: int,
        channels: int,
        num_nodes: int | None = None,
        *,
        mask: Tensor | None = None,
    ):
        channels = _count("channels", channels)
        num_groups = positive_int("num_groups", num_groups)
        if channels % num_groups:
            raise ValueError(f"num_groups must divide channels={channels}, got {num_groups}")
        super().__init__(num_groups, channels)
        self.num_nodes = None if num_nodes is None else _count("num_nodes", num_nodes)
        self.counted = _counted(mask)

    def forward(self, x: Float[Tensor, "*batch N C"]) -> Float[Tensor, "*batch N C"]:
        _check_features(x, self.num_channels, self.weight)
        graphs = _one_graph_each(x, x.shape[-2] if self.num_nodes is None else self.num_nodes)
        if self.counted is not None:
            return self._normalise_by(self.counted, graphs).view_as(x)
        flat = graphs.reshape(-1, *graphs.shape[-2:]).transpose(1, 2)
        return super().forward(flat).transpose(1, 2).reshape(x.shape)

    def _normalise_by(self, counted: Counted, graphs: Tensor) -> Tensor:
        """Normalise ``[*, N, C]`` with the statistics of some of its nodes."""
        wide = graphs.to(torch.promote_types(graphs.dtype, torch.float32))
        groups = wide.unflatten(-1, (self.num_groups, -1))
        some = counted(wide).unflatten(-1, (self.num_groups, -1))
        variance, mean = torch.var_mean(some, dim=(-3, -1), correction=0, keepdim=True)
        normal = ((groups - mean) * torch.rsqrt(variance + self.eps)).flatten(-2)
        return (normal * self.weight + self.bias).to(graphs.dtype)


class GRN(nn.Module):
    r"""Global response normalisation of every graph (Woo et al. 2023, ConvNeXt V2).

    .. math::
        \mathbf{y}_{n,c} = x_{n,c} + \gamma_c\, x_{n,c}\,
            \frac{g_c}{\tfrac{1}{C} \sum_{c'} g_{c'} + \epsilon} + \beta_c,
        \qquad g_c = \sqrt{\textstyle\sum_n x_{n,c}^2}

    The weight :math:`\gamma` and the bias :math:`\beta` start at zero, where it is the identity.

    Args:
        channels: Channels C.
        num_nodes: Nodes N, to tell the graphs of a disjoint batch apart; ``None`` takes
            ``[*, N, C]`` alone.
        eps: Added to the mean norm.
        mask: Which nodes the norms :math:`g_c` are those of, as for :class:`BatchNorm`.
    """

    def __init__(
        self,
        channels: int,
        num_nodes: int | None = None,
        *,
        eps: float = 1e-6,
        mask: Tensor | None = None,
    ):
        super().__init__()
        self.channels = channels = _count("channels", channels)
        self.num_nodes = None if num_nodes is None else _count("num_nodes", num_nodes)
        self.eps = fraction("eps", eps)
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.counted = _counted(mask)

    def forward(self, x: Float[Tensor, "*batch N C"]) -> Float[Tensor, "*batch N C"]:
        """Normalise ``[*, N, C]``, or a disjoint PyG batch ``[ΣN, C]`` of graphs of N nodes."""
        _check_features(x, self.channels, self.weight)
        graphs = _one_graph_each(x, x.shape[-2] if self.num_nodes is None else self.num_nodes)
        half = torch.finfo(x.dtype).bits < 32  # sums of squares overflow in half precision
        graphs = graphs.float() if half else graphs
        counted = graphs if self.counted is None else self.counted(graphs)
        norms = torch.linalg.vector_norm(counted, dim=-2, keepdim=True)
        share = norms / (norms.mean(-1, keepdim=True) + self.eps)
        out = (graphs * (1 + self.weight * share) + self.bias).view_as(x)
        return out.to(x.dtype) if half else out

    def extra_repr(self) -> str:
        return f"channels={self.channels}, num_nodes={self.num_nodes}"


def _groups(channels: int) -> int:
    """The most groups, up to 32, of at least four channels each, that divide ``channels``."""
    most = min(32, max(1, channels // 4))
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)


NORMS: dict[str, Callable[[int, int, Tensor | None], nn.Module]] = {
    "batch": lambda channels, nodes, mask: BatchNorm(channels, mask=mask),
    "channel": lambda channels, nodes, mask: LayerNorm("channels", channels),
    "node": lambda channels, nodes, mask: LayerNorm("nodes", channels, nodes, mask=mask),
    "layer": lambda channels, nodes, mask: LayerNorm("both", channels, nodes, mask=mask),
    "group": lambda channels, nodes, mask: GroupNorm(_groups(channels), channels, nodes, mask=mask),
    "none": lambda channels, nodes, mask: nn.Identity(),
}


def make_norm(name: str, channels: int, num_nodes: int, mask: Tensor | None = None) -> nn.Module:
    """Make a norm by its name.

    Args:
        name: ``"batch"``, ``"channel"`` (layer norm over channels), ``"node"`` (over nodes),
            ``"layer"`` (over both), ``"group"`` or ``"none"``.
        channels: Channels C.
        num_nodes: Nodes N of the level it is for.
        mask: Which of the nodes statistics are taken of, ``[N]`` (:attr:`SensorArray.mask`);
            ``None``: all.

    Raises:
        ValueError, TypeError: If the name is unknown, a number is no whole number of at least 1, or
            the mask is none of so many nodes.
    """
    norm = NORMS[one_of("norm", name, NORMS)]
    nodes = _count("num_nodes", num_nodes)
    if mask is not None and len(mask) != nodes:
        raise ValueError(f"mask must have {nodes} entries, as num_nodes says, got {len(mask)}")
    return norm(_count("channels", channels), nodes, mask)


def _count(name: str, value: Any) -> int:
    return positive_int(name, value, MAX_WEIGHTS)


def _check_features(x: Tensor, channels: int, weight: Tensor | None) -> None:
    """Refuse features that do not fit a norm of so many channels with this weight."""
    floating("x", x)
    if x.dim() < 2 or x.shape[-1] != channels:
        raise ValueError(f"x must be [..., nodes, {channels} channels], got shape {list(x.shape)}")
    if weight is not None and x.device != weight.device:
        raise ValueError(f"x is on {x.device} and the norm's weight on {weight.device}")
    if weight is not None and x.dtype != weight.dtype:
        # As torch's norms: half precision goes with weights in single precision.
        half = torch.finfo(x.dtype).bits < 32 and weight.dtype == torch.float32
        if not half and autocast_dtype(x, weight) is None:
            raise TypeError(f"x must be {weight.dtype} like the norm's weight, got {x.dtype}")


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
