"""Blocks of layers on a pyramid, and the backbones that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from fovigraph._checks import instance, one_of, positive_int, shown, whole_number
from fovigraph.geometry import SensorArray
from fovigraph.graph import Connection, GraphPyramid, Plan
from fovigraph.nn import GRN, GroupNorm, KNNPool, LayerNorm
from fovigraph.nn.limits import check_weights


class Block(nn.Module):
    """Layers that run together on a pyramid.

    A subclass asks a :class:`~fovigraph.Plan`, in its constructor, for the graphs that its layers
    need, notes them in :attr:`runs_on`, and defines :meth:`forward`, where :meth:`run` calls a
    layer on its graph.

    Attributes:
        runs_on: The connection that a layer runs on, by the layer's name, in the order of calls.
        fusible: Chains of layers by name, each called once and only on what the one before it
            returned, which :func:`fovigraph.optimize` may merge: a convolution or linear map, a
            norm, an activation.

    Example:
        >>> import torch, fovigraph as fg
        >>> class Residual(fg.models.Block):
        ...     fusible = (("conv", "norm"),)
        ...
        ...     def __init__(self, plan, channels):
        ...         super().__init__()
        ...         self.runs_on["conv"] = step = plan.conv(k=9)
        ...         self.conv = fg.nn.KNNConv(channels, channels, step.kernel_size, bias=False)
        ...         self.norm = fg.nn.BatchNorm(channels)
        ...
        ...     def forward(self, x, pyramid):
        ...         return x + self.norm(self.run("conv", x, pyramid)).relu()
        >>> plan = fg.Plan(fg.SensorArray.matched(16))
        >>> block = Residual(plan, 4)
        >>> block(torch.rand(2, plan.num_nodes, 4), plan.build()).shape
        torch.Size([2, 230, 4])
    """

    fusible: ClassVar[tuple[tuple[str, ...], ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.runs_on: dict[str, Connection] = {}

    @property
    def level(self) -> int | None:
        """Index of the level of its output; ``None`` without graphs: that of its input."""
        last = next(reversed(self.runs_on.values()), None)
        return None if last is None else last.dst

    @property
    def mixes_all(self) -> bool:
        """Whether all nodes of its output depend on all of its input: here, by a norm over them."""
        norms = (each for each in self.modules() if isinstance(each, (GRN, GroupNorm, LayerNorm)))
        return any(getattr(norm, "over", "nodes") != "channels" for norm in norms)

    def run(self, name: str, x: Tensor, pyramid: GraphPyramid) -> Tensor:
        """Call the layer of a name on features, with the graph that it runs on."""
        return getattr(self, name)(x, pyramid.graph(self.runs_on[name]))  # type: ignore[no-any-return]

    def forward(self, x: Tensor, pyramid: GraphPyramid) -> Tensor:
        """Map features ``[*, N, C]`` of one level to ``[*, M, D]`` of :attr:`level`."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def by_level(self, x: Tensor, pyramid: GraphPyramid) -> Iterator[tuple[int | None, Tensor]]:
        """Yield the features on every level that the block passes, as the next layer takes them.

        The last are those that :meth:`forward` returns; a block of several levels says here what
        they are on those before.
        """
        yield self.level, self(x, pyramid)

    def reached_from(self, tokens: Tensor, pyramid: GraphPyramid, prefix: int = 0) -> Tensor:
        """Return which rows of the input have an effect on some of the output, bool ``[P + N]``.

        Args:
            tokens: Which rows of the output these are, bool ``[P + M]``.
            pyramid: The pyramid.
            prefix: Rows P before those of the nodes.
        """
        connections = list(self.runs_on.values())
        bottom = connections[0].num_src if connections else len(tokens) - prefix
        if self.mixes_all:
            return tokens.any().expand(prefix + bottom)
        if not connections:
            return tokens
        levels = {connections[-1].dst: tokens[prefix:]}
        for connection in reversed(connections):
            src, dst = pyramid.graph(connection).fixed_tensors()["edge_index"].cpu()
            below = levels.get(connection.src, tokens.new_zeros(connection.num_src)).clone()
            below[src[levels[connection.dst][dst]]] = True
            levels[connection.src] = below
        return torch.cat((tokens[:prefix], levels[connections[0].src]))


class PoolBlock(Block):
    """A pool that stands alone.

    Args:
        plan: The plan, already with the pool's step.
        step: Where the pool runs.
        mode: How it reduces, as for :class:`~fovigraph.nn.KNNPool`.
    """

    def __init__(self, step: Connection, mode: str):
        super().__init__()
        self.runs_on["pool"] = step
        self.pool = KNNPool(mode)

    def forward(
        self, x: Float[Tensor, "*batch N C"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch M C"]:
        return self.run("pool", x, pyramid)


class Intermediate(NamedTuple):
    """What a block of a backbone gave.

    Attributes:
        features: ``[*, N, C]``, on the nodes of :attr:`level`.
        level: Index of the level of the pyramid.
    """

    features: Tensor
    level: int


class Backbone(nn.Module):
    """The base class of backbones, which map a retina's samples to features.

    A subclass makes blocks along a :class:`~fovigraph.Plan` and calls :meth:`assemble` in its
    constructor; a backbone of another form sets :attr:`pyramid` and :attr:`num_features` itself and
    defines :meth:`forward`. :func:`fovigraph.optimize` replays whatever derives from this as a CUDA
    graph.

    Attributes:
        pyramid: The :class:`~fovigraph.GraphPyramid` that it is built on.
        layers: Its blocks, in the order in which they run; ``"layers.0"`` is the first one's name.
        in_channels: Channels of the samples.
        out_channels: Channels of the last block's features.
        num_features: Nodes times channels of the last block's features, unless :meth:`finish` gives
            another number of rows than nodes.
        prefix_tokens: Rows before those of the nodes in the features of every block, such as a
            class token.
        classifier: A linear classifier on them, or ``None``.
        activation_checkpointing: Whether, where gradients are asked for, the activations within a
            block are computed again in the backward pass, and not kept until then: the same result
            with less memory, for one more forward pass.

    Example:
        >>> import torch, fovigraph as fg
        >>> class Pooled(fg.models.Backbone):
        ...     def __init__(self, retina):
        ...         super().__init__()
        ...         plan = fg.Plan(retina)
        ...         block = fg.models.PoolBlock(plan.pool(side=4), "max")
        ...         self.assemble([block], plan, in_channels=3, out_channels=3)
        >>> retina = fg.SensorArray.matched(16)
        >>> Pooled(retina)(torch.rand(2, len(retina), 3)).shape
        torch.Size([2, 16, 3])
    """

    pyramid: GraphPyramid
    layers: Any
    in_channels: int = 3
    out_channels: int
    num_features: int
    prefix_tokens: int = 0
    classifier: nn.Linear | None
    activation_checkpointing: bool = False

    @classmethod
    def from_config(cls, config: Any, retina: SensorArray, in_channels: int = 3) -> Backbone:
        """Build the backbone that a section describes, of the schema it is registered with.

        Args:
            config: The section ``backbone`` of a configuration.
            retina: The lowest level.
            in_channels: Channels of the samples.
        """
        raise NotImplementedError(f"{cls.__name__} must define from_config")

    def assemble(
        self,
        layers: Iterable[Block],
        plan: Plan,
        *,
        in_channels: int,
        out_channels: int,
        num_classes: int | None = None,
        rows: int | None = None,
    ) -> None:
        """Set the attributes of a backbone that is a sequence of blocks.

        Args:
            layers: The blocks, in the order in which they run.
            plan: The plan that they were made along.
            in_channels: Channels of the samples.
            out_channels: Channels of the last block's features.
            num_classes: Classes of a linear classifier on all features of the last level; ``None``
                for no classifier.
            rows: Rows of the output; ``None``: one for every node of the last level.

        Raises:
            ValueError, TypeError: If a plan does not fit the ready pyramid that it is for,
                something else than a block is among the layers, or ``num_classes`` is no whole
                number above 0.
        """
        blocks = [instance(f"layers[{i}]", block, Block) for i, block in enumerate(layers)]
        self.pyramid = plan.build()
        self.layers = nn.ModuleList(blocks)
        self.in_channels, self.out_channels = in_channels, out_channels
        rows = len(self.pyramid.levels[-1]) if rows is None else rows
        self.num_features = rows * out_channels
        self.classifier = None
        if num_classes is not None:
            positive_int("num_classes", num_classes)
            check_weights(num_features=self.num_features, num_classes=num_classes)
            self.classifier = nn.Linear(self.num_features, num_classes)

    def zero_samples(self) -> Tensor:
        """Return samples ``[1, N, C]`` that are zero, on the device and of the type of weights."""
        like = next(self.parameters(), torch.empty(0))
        return like.new_zeros(1, len(self.pyramid.levels[0]), self.in_channels)

    def forward(self, x: Float[Tensor, "*batch N C"]) -> Float[Tensor, "..."]:
        """Map samples ``[*, N, C]`` to features ``[*, M, D]`` with ``M · D = num_features``."""
        return self.finish(self._through(x))

    def finish(self, x: Tensor) -> Tensor:
        """Map the last block's features ``[*, M, D]`` to logits, if there is a classifier."""
        return x if self.classifier is None else self.classifier(x.flatten(-2))

    def _through(
        self,
        x: Tensor,
        note: Callable[[str, Intermediate], None] | None = None,
        count: int | None = None,
    ) -> Tensor:
        """Return what the last of the first ``count`` blocks gives, and note what each gives."""
        level = 0
        for index, block in enumerate(self._blocks()[:count]):
            x = self._run(block, x)
            if note is not None:
                level = level if block.level is None else block.level
                nodes = x[..., self.prefix_tokens :, :]
                note(f"layers.{index}", Intermediate(nodes, level))
        return x

    def _run(self, block: Block, x: Tensor) -> Tensor:
        if not (self.activation_checkpointing and torch.is_grad_enabled()):
            return block(x, self.pyramid)  # type: ignore[no-any-return]
        contexts = partial(_first_and_again, block)
        return checkpoint(block, x, self.pyramid, use_reentrant=False, context_fn=contexts)  # type: ignore[no-any-return]

    def _blocks(self) -> Sequence[Any]:
        if not isinstance(getattr(self, "layers", None), nn.ModuleList):
            raise NotImplementedError(
                f"{type(self).__name__} must call assemble in its constructor, or define forward"
            )
        return list(self.layers)

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of the blocks, in order: ``"layers.0"``, …; none without :meth:`assemble`."""
        return tuple(f"layers.{i}" for i in range(len(getattr(self, "layers", ()))))

    def intermediates(
        self, x: Tensor, names: Sequence[str] | None = None
    ) -> dict[str, Intermediate]:
        """Return what blocks give, in one pass that ends after the last of them.

        Args:
            x: Samples ``[*, N, C]``.
            names: Of :attr:`block_names`; ``None``: all.

        Returns:
            Features and level of each, by name, in the blocks' order.

        Raises:
            ValueError, TypeError: If there is no block of such a name.

        Example:
            >>> import torch, fovigraph as fg
            >>> net = fg.FoviNet(fg.load_config("fovi_tiny")).eval()
            >>> x = torch.rand(2, len(net.pyramid.levels[0]), 3)
            >>> seen = net.backbone.intermediates(x, ["layers.0"])["layers.0"]
            >>> seen.features.shape, net.pyramid.names[seen.level]
            (torch.Size([2, 60, 16]), 'pool1')
        """
        wanted = self._chosen(names)
        seen: dict[str, Intermediate] = {}
        last = max((self.block_names.index(name) for name in wanted), default=-1)
        self._through(x, seen.__setitem__, last + 1)
        return {name: each for name, each in seen.items() if name in wanted}

    def forward_intermediates(
        self, x: Tensor, names: Sequence[str] | None = None
    ) -> tuple[Tensor, dict[str, Intermediate]]:
        """Return the output and what blocks give, in one pass; as :meth:`intermediates`."""
        wanted = self._chosen(names)
        seen: dict[str, Intermediate] = {}
        out = self.finish(self._through(x, seen.__setitem__))
        return out, {name: each for name, each in seen.items() if name in wanted}

    def _chosen(self, names: Any) -> Sequence[str]:
        if names is None:
            return self.block_names
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise TypeError(f"layers must be a list of names, got {shown(names)}")
        return [one_of(f"layers[{i}]", name, self.block_names) for i, name in enumerate(names)]

    def receptive_field(self, layer: str, unit: int) -> Tensor:
        """Return the retina's nodes that can have an effect on a unit, ``[M]``, ascending.

        Unlike :meth:`GraphPyramid.receptive_field`, whose paths lead along the graphs from level to
        level, through attention and norms over nodes as well. How strong the effect is, gradients
        say (:func:`fovigraph.viz.effective_fields`).

        Args:
            layer: The block whose output the unit is of, one of :attr:`block_names`.
            unit: The unit's index within the block's level.

        Raises:
            ValueError, TypeError: If there is no such block or unit.

        Example:
            >>> import fovigraph as fg
            >>> net = fg.create_model("fovi_tiny")
            >>> len(net.backbone.receptive_field("layers.0", 0)), len(net.retina.array)
            (108, 964)
        """
        one_of("layer", layer, self.block_names)
        blocks = list(self._blocks())[: self.block_names.index(layer) + 1]
        levels = [block.level for block in blocks if block.level is not None]
        nodes = len(self.pyramid.levels[levels[-1] if levels else 0])
        unit = whole_number("unit", unit, 0, nodes - 1)
        tokens = torch.zeros(self.prefix_tokens + nodes, dtype=torch.bool)
        tokens[self.prefix_tokens + unit] = True
        for block in reversed(blocks):
            tokens = block.reached_from(tokens, self.pyramid, self.prefix_tokens)
        return tokens[self.prefix_tokens :].nonzero()[:, 0]

    def features_by_level(self, x: Tensor) -> dict[int, Tensor]:
        """Return the features on the levels of the pyramid, by index, from the samples up.

        Those of a level are what the next layer takes: after the norm and the activation. Levels
        inside a block that does not say what they carry (:meth:`Block.by_level`) are left out.
        """
        found, level = {0: x}, 0
        for block in self._blocks():
            for index, features in block.by_level(x, self.pyramid):
                level = level if index is None else index
                x = features
                found[level] = x[..., self.prefix_tokens :, :]
        return dict(sorted(found.items()))

    def input_weight(self) -> str | None:
        """Name of the parameter ``[…, in_channels, D]`` that takes the samples' channels.

        ``None``: it cannot be changed to take others (:func:`fovigraph.create_model`).
        """
        return None


def _first_and_again(
    block: Block,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts in which a block computes its activations first, and again."""
    return nullcontext(), _as_they_are(block)


@contextmanager
def _as_they_are(block: Block) -> Iterator[None]:
    """Return a context in which batch norms normalise, but leave their running statistics."""
    norms = [each for each in block.modules() if isinstance(each, _NormBase)]
    kept = [(each, each.momentum, each.num_batches_tracked) for each in norms]
    counts = [None if count is None else count.clone() for *_, count in kept]
    for norm in norms:
        norm.momentum = 0.0  # of the batch, in the running statistics
    try:
        yield
    finally:
        for (norm, momentum, count), before in zip(kept, counts, strict=True):
            norm.momentum = momentum
            if count is not None and before is not None:
                count.copy_(before)
