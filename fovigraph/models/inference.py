"""Networks made ready for inference: norms folded, ReLUs fused, CUDA graphs."""

from __future__ import annotations

import copy
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from fovigraph.models.backbone import Backbone, Block
from fovigraph.nn import BatchNorm, KNNConv, KNNDepthwiseConv, KNNSeparableConv
from fovigraph.nn.bipartite import wants_messages
from fovigraph.ops import gpu

log = logging.getLogger(__name__)

MOST = 16
"""Shapes of input that a backbone keeps a CUDA graph for; each has buffers of its own."""


def optimize(net: nn.Module) -> Optimized:
    """Return a copy of a network that computes the same faster, for inference.

    - Every :class:`~fovigraph.nn.BatchNorm` that follows a convolution or a linear map, in an
      ``nn.Sequential`` or where a :class:`~fovigraph.models.Block` says so
      (:attr:`~fovigraph.models.Block.fusible`), is folded into its weights; other norms stay, and
      those after a graph that leaves nodes without neighbours, as masks do.
    - A ReLU that then follows a :class:`~fovigraph.nn.KNNConv` or
      :class:`~fovigraph.nn.KNNDepthwiseConv` is applied as the convolution stores its result.
    - On a GPU, each backbone is recorded as a CUDA graph for every shape of its input, at first
      use, and replayed from then on.

    Results differ by rounding. Modules with hooks or parametrizations, and those that appear in
    more than one place or are called more than once, stay as they are.

    Args:
        net: A :class:`FoviNet`, a :class:`KNNAlexNet` or any module made of such; left untouched,
            on whatever device it is.

    Returns:
        The network in evaluation mode, its parameters not requiring gradients. Calls and attributes
        are as those of ``net``, and it can be moved, copied, compiled and exported like it, but
        neither trained nor saved. Given an optimised network, a copy of it.

    Raises:
        TypeError: If ``net`` is not a module.

    Example:
        >>> import torch, fovigraph as fg
        >>> net = fg.optimize(fg.FoviNet(fg.load_config("fovi_tiny")))
        >>> net(torch.rand(2, 3, 96, 128)).logits.shape
        torch.Size([2, 10])
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {type(net).__name__}")
    net = copy.deepcopy(net)
    if isinstance(net, Optimized):
        return net
    net.eval().requires_grad_(False)
    parents = list(net.modules())
    calls, silent = _calls(parents), _silent(parents)
    for parent in parents:
        is_sequence = isinstance(parent, nn.Sequential)
        chains = (tuple(parent._modules),) if is_sequence else getattr(parent, "fusible", ())
        for names in chains if is_sequence or isinstance(parent, Block) else ():
            _merge_children(parent, names, calls, silent)
    for parent in parents:
        for name, child in parent.named_children():
            if _is_backbone(child) and not _is_backbone(parent) and type(parent) is not Optimized:
                setattr(parent, name, Optimized(child))
    return Optimized(net)


def _is_backbone(module: nn.Module) -> bool:
    """Return whether a module is a backbone, compiled or not."""
    return isinstance(module._modules.get("_orig_mod", module), Backbone)


def _calls(modules: Sequence[nn.Module]) -> Counter[int]:
    """Return how often each module is called, by its ``id``.

    As often as it has places in other modules; within a backbone of blocks, as often as one forward
    pass calls it, if that is more.
    """
    calls = Counter(id(child) for parent in modules for child in parent._modules.values())
    for backbone in modules:
        if isinstance(backbone, Backbone) and backbone.block_names:
            for module, count in _calls_in_a_pass(backbone).items():
                calls[module] = max(calls[module], count)
    return calls


@torch.no_grad()
def _calls_in_a_pass(backbone: Backbone) -> Counter[int]:
    """Return how often a forward pass of a backbone, on zeros, calls each module in it."""
    calls: Counter[int] = Counter()
    samples = backbone.zero_samples()
    if samples.is_meta:
        return calls
    modules = list(backbone.modules())
    kept = [(module._forward_pre_hooks, module._forward_hooks) for module in modules]
    try:
        for module in modules:  # hooks are not called in this pass
            module._forward_pre_hooks, module._forward_hooks = OrderedDict(), OrderedDict()
            module.register_forward_pre_hook(lambda module, _: calls.update([id(module)]))
        backbone(samples)
    finally:
        for module, hooks in zip(modules, kept, strict=True):
            module._forward_pre_hooks, module._forward_hooks = hooks
    return calls


def _silent(modules: Sequence[nn.Module]) -> set[int]:
    """Return the layers, by ``id``, that leave nodes at zero, which a norm after them moves."""
    return {
        id(getattr(block, name, None))
        for backbone in modules
        if isinstance(backbone, Backbone)
        for block in backbone.modules()
        if isinstance(block, Block)
        for name, connection in block.runs_on.items()
        if backbone.pyramid.graph(connection).silent is not None
    }


def _merge_children(
    parent: nn.Module, names: Sequence[str], calls: Counter[int], silent: set[int]
) -> None:
    """Merge children, called one after the other, into those before them where that can be."""
    before = None
    for name in names:
        module = getattr(parent, name, None)
        if module is None:  # a block without this layer
            continue
        if type(module) in (nn.Identity, nn.Dropout):  # which do nothing in evaluation
            continue
        alone = before is not None and calls[id(before)] == calls[id(module)] == 1
        apart = id(before) in silent and type(module) is BatchNorm
        if alone and not apart and _merge(before, module):
            setattr(parent, name, nn.Identity())
        else:
            before = module


def _merge(layer: Any, after: nn.Module) -> bool:
    """Let a layer do what a module after it does; return whether it can."""
    if _has_hooks(layer) or _has_hooks(after):
        return False
    if type(layer) is KNNSeparableConv and type(after) is BatchNorm:
        return _merge(layer.pointwise, after)
    if type(after) is nn.ReLU and type(layer) in (KNNConv, KNNDepthwiseConv):
        layer.relu = True
        return True
    if type(after) is BatchNorm and type(layer) in (KNNConv, KNNDepthwiseConv, nn.Linear):
        if after.running_mean is None or getattr(layer, "relu", False):
            return False
        _fold(layer, after)
        return True
    return False


def _fold(layer: Any, norm: BatchNorm) -> None:
    """Give a layer the weights and the bias that make it ``norm(layer(x))``, computed in double."""
    assert norm.running_mean is not None and norm.running_var is not None  # seen to by the caller
    mean, scale = norm.running_mean.double(), (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    bias = -mean if layer.bias is None else layer.bias.double() - mean
    bias = bias * scale if norm.bias is None else bias * scale + norm.bias.double()
    if isinstance(layer, nn.Linear):
        scale = scale[:, None]
    elif isinstance(layer, KNNDepthwiseConv):
        scale = scale.view(-1, layer.multiplier)
    weight = layer.weight.double() * scale
    layer.weight = nn.Parameter(weight.to(layer.weight.dtype), requires_grad=False)
    layer.bias = nn.Parameter(bias.to(layer.weight.dtype), requires_grad=False)


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


class Optimized(nn.Module):
    """A network for inference, as :func:`optimize` makes it: calls and attributes are passed on.

    If the network is a backbone on a GPU, a call replays a CUDA graph of it, recorded at the first
    call with an input of that shape, with the settings (such as the precision of float32) of that
    time. It runs as it is where a recording would not do: where gradients are asked for, in double
    precision, under autocast, while it is compiled, recorded or watched through hooks,
    and for more than :data:`MOST` shapes. One thread at a time may call it.

    Args:
        module: The network.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self._is_backbone = _is_backbone(module)
        self._recordings: dict[tuple[Any, ...], Callable[[Tensor], Tensor]] = {}
        self.eval()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not self._is_backbone or torch.compiler.is_compiling() or kwargs or len(args) != 1:
            return self.module(*args, **kwargs)
        x = args[0]
        if not _has_kernels(x) or not self._replay_will_do(x):
            return self.module(x)
        places = (weight.data_ptr() for weight in self.module.parameters())
        key = x.shape, x.dtype, x.device, *places
        if key not in self._recordings:
            if len(self._recordings) == MOST:
                return self.module(x)
            self._recordings[key] = self._record(x)
        return self._recordings[key](x)

    def _record(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        others = self._recordings.values()
        pool = next((other.pool for other in others if isinstance(other, Recording)), None)
        try:
            return Recording(self.module, x, pool)
        except RuntimeError as error:  # such as something that waits for the GPU
            log.warning("no CUDA graph of the backbone, which runs as it is: %s", error)
            return self.module

    def _replay_will_do(self, x: Tensor) -> bool:
        """Whether nothing is asked for that only the module itself can give."""
        wants_gradients = torch.is_grad_enabled() and (
            x.requires_grad or any(weight.requires_grad for weight in self.module.parameters())
        )
        is_watched = any(
            _has_hooks(part) or (isinstance(part, MessagePassing) and wants_messages(part))
            for part in self.module.modules()
        )
        return not (
            x.numel() == 0
            or wants_gradients
            or is_watched
            or torch.is_autocast_enabled(x.device.type)
            or torch.cuda.is_current_stream_capturing()
        )

    def train(self, mode: bool = True) -> Optimized:
        """Stay in evaluation mode.

        Raises:
            ValueError: If asked to train.
        """
        if mode:
            raise ValueError(
                "mode must be False: an optimised network, whose norms are folded into other "
                "weights, is for inference; train the network that it was made from"
            )
        return super().train(False)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: the weights no longer fit the configuration.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "an optimised network cannot be saved: save the network that it was made from, and "
            "optimise that again after loading"
        )

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "module":  # while copying, not there yet
                raise
            return getattr(self.module, name)

    def _apply(self, fn: Any, recurse: bool = True) -> Optimized:
        self._recordings.clear()  # they read weights and graphs from where these are no more
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_recordings": {}}


def _has_kernels(x: Any) -> bool:
    return isinstance(x, Tensor) and gpu.serves(x)  # others may wait for the GPU


class Recording:
    """A CUDA graph of a module for one shape of input.

    Args:
        module: Takes one tensor and returns one.
        x: An input of that shape.
        pool: Of another recording, to share memory with it: neither keeps anything between calls.
    """

    def __init__(self, module: nn.Module, x: Tensor, pool: Any = None):
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(x.device):
            self._x = torch.empty(x.shape, dtype=x.dtype, device=x.device).copy_(x)
            current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
            aside.wait_stream(current)
            with torch.cuda.stream(aside):  # compiles kernels, makes what is kept
                module(self._x)
            current.wait_stream(aside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                self._out = module(self._x)

    @property
    def pool(self) -> Any:
        """The memory that the graph uses while it runs."""
        return self._graph.pool()

    def __call__(self, x: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(x.device):
            self._x.copy_(x)
            self._graph.replay()
            return self._out.clone()
