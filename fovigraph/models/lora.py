"""Low-rank adapters (LoRA, Hu et al. 2022) through peft, of linear maps and kNN convolutions."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fovigraph._checks import (
    instance,
    path_of,
    positive_float,
    positive_int,
    shown,
    whole_number,
)
from fovigraph.nn import KNNConv

WEIGHTS = "adapter_model.safetensors"
"""peft's name of the file with the adapters."""

ADAPTER = "default"
"""peft's name of the only set of adapters."""

PREFIX = "base_model.model."
"""What peft puts before names in that file."""


class Adapted(Protocol):
    """What sections of backbones with adapters say of them, and of what else learns.

    Attributes:
        trainable: Names of parts that learn, or patterns of names, besides adapters; ``None``: all
            of them, or with adapters none.
        lora_rank: Rank of the adapters; ``None``: none.
        lora_alpha: Their factor; ``None``: the rank.
        lora_blocks: Blocks that have them, from 0; -1: the layer before the first block. ``None``:
            all of these.
        lora_targets: Layers of these blocks that have them, by name.
    """

    @property
    def trainable(self) -> Sequence[str] | None: ...
    @property
    def lora_rank(self) -> int | None: ...
    @property
    def lora_alpha(self) -> float | None: ...
    @property
    def lora_blocks(self) -> Sequence[int] | None: ...
    @property
    def lora_targets(self) -> Sequence[str]: ...


def check_lora(config: Adapted, blocks: int) -> None:
    """Check what a section ``backbone`` of so many blocks says of adapters.

    Raises:
        ValueError, TypeError: If it is not of the kind said at :class:`Adapted`.
    """
    if config.lora_rank is not None:
        positive_int("backbone.lora_rank", config.lora_rank)
        for index in config.lora_blocks or ():
            whole_number("backbone.lora_blocks", index, -1, blocks - 1)
    if config.lora_alpha is not None:
        positive_float("backbone.lora_alpha", config.lora_alpha)


def adapt(net: nn.Module, config: Adapted, targets: Sequence[str]) -> None:
    """Give a backbone its adapters, and freeze what does not learn.

    Args:
        net: The backbone.
        config: Its section.
        targets: Names of the layers that have adapters, as for :func:`add_lora`.

    Raises:
        ValueError: If a name matches nothing.
        ImportError: If there are adapters and peft is not installed.
    """
    if config.lora_rank is not None:
        add_lora(net, targets, rank=config.lora_rank, alpha=config.lora_alpha)
    if config.trainable is not None:
        train_only(net, config.trainable)


def train_only(net: nn.Module, names: Sequence[str]) -> None:
    """Freeze all parameters but those of parts with these names, and adapters.

    Args:
        net: The network.
        names: Names of modules or parameters, or patterns of them with ``*``, such as ``"norm"``,
            ``"layers.3"``, ``"layers.*.norm1"``.

    Raises:
        ValueError, TypeError: If a name matches nothing.
    """
    known = [name for name, _ in net.named_modules() if name]
    known += [name for name, _ in net.named_parameters()]
    chosen = set(matching("trainable", names, known)) if names else set()
    for name, parameter in net.named_parameters():
        parts = name.split(".")
        prefixes = {".".join(parts[: i + 1]) for i in range(len(parts))}
        frozen_base = ".base_layer.weight" in name or name.endswith("mask_token")
        named = bool(prefixes & chosen) and not frozen_base
        parameter.requires_grad_(named or ".lora_" in name)


def plain(layer: nn.Module) -> Any:
    """Return the layer that an adapter is of; a layer without one as it is."""
    return getattr(layer, "base_layer", layer)


def peft() -> Any:
    """Return the package peft.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise ImportError("LoRA needs peft: pip install 'fovigraph[vit]'") from error
    return peft


@functools.cache
def _lora_conv() -> type[nn.Module]:
    """Return the class of adapted kNN convolutions, which derives from peft's."""
    from peft.tuners.lora import LoraLayer

    class LoraKNNConv(nn.Module, LoraLayer):
        """A kNN convolution with an adapter: one to ``r`` channels, and a linear map of these.

        The adapted weight of a cell is that of the convolution plus ``alpha / r`` times the product
        of both.
        """

        # What peft's class has, which is known to no type checker.
        lora_A: Any
        lora_B: Any
        merged: Any
        merged_adapters: Any
        active_adapters: Any
        disable_adapters: Any
        get_base_layer: Any
        set_adapter: Any
        scaling: Any
        r: Any
        lora_alpha: Any

        def __init__(self, base_layer: KNNConv, adapter_name: str, *args: Any, **options: Any):
            super().__init__()
            LoraLayer.__init__(self, base_layer)
            self._active_adapter = adapter_name
            self.update_layer(adapter_name, *args, **options)

        def _get_in_out_features(self, module: Any) -> tuple[int, int]:
            return module.in_channels, module.out_channels

        def update_layer(
            self, adapter_name: str, r: int, lora_alpha: float, *_: Any, **__: Any
        ) -> None:
            conv = self.get_base_layer()
            self.r[adapter_name], self.lora_alpha[adapter_name] = r, lora_alpha
            self.scaling[adapter_name] = lora_alpha / r
            down = KNNConv(conv.in_channels, r, conv.kernel_size, bias=False)
            bound = 1 / math.sqrt(down.fan_in)
            nn.init.uniform_(down.weight, -bound, bound)
            up = nn.Linear(r, conv.out_channels, bias=False)
            nn.init.zeros_(up.weight)
            self.lora_A[adapter_name] = down.to(conv.weight)
            self.lora_B[adapter_name] = up.to(conv.weight)
            self.set_adapter([adapter_name])

        def _delta(self, name: str) -> Any:
            """What the adapter adds to the weight ``[V, C, D]``."""
            return self.scaling[name] * self.lora_A[name].weight @ self.lora_B[name].weight.T

        @torch.no_grad()
        def merge(self, safe_merge: bool = False, adapter_names: Any = None) -> None:
            del safe_merge
            for name in adapter_names or self.active_adapters:
                if name not in self.merged_adapters:
                    self.get_base_layer().weight += self._delta(name)
                    self.merged_adapters.append(name)

        @torch.no_grad()
        def unmerge(self) -> None:
            while self.merged_adapters:
                self.get_base_layer().weight -= self._delta(self.merged_adapters.pop())

        def forward(self, x: Tensor, *graph: Any) -> Tensor:
            out: Tensor = self.get_base_layer()(x, *graph)
            if self.merged or self.disable_adapters:
                return out
            for name in self.active_adapters:
                down = self.lora_A[name](x, *graph)
                out = out + self.scaling[name] * self.lora_B[name](down)
            return out

    return LoraKNNConv


def add_lora(
    net: nn.Module, targets: Sequence[str], *, rank: int = 8, alpha: float | None = None
) -> list[str]:
    r"""Give layers low-rank adapters, and freeze everything else.

    The weight of an adapted layer is :math:`W + \frac{\alpha}{r} B A` with a frozen W. A new
    adapter changes nothing, as B is zero.

    Args:
        net: The network, which is changed.
        targets: Names of linear maps and kNN convolutions as ``net.named_modules()`` has them, or
            patterns such as ``"layers.*.attention.q_proj"``.
        rank: Rank r of the adapters.
        alpha: Their factor; ``None``: the rank.

    Returns:
        The names of the layers that have adapters now.

    Raises:
        ValueError, TypeError: If a target matches no such layer, or an argument is of another type.
        ImportError: If peft is not installed.

    Example:
        ::

            net = fg.create_model("fovi_vit_tiny")
            add_lora(net.backbone, ["layers.0.conv", "layers.*.attention.qkv"], rank=4)
    """
    library = peft()
    rank = positive_int("rank", rank)
    alpha = float(rank) if alpha is None else positive_float("alpha", alpha)
    known = [
        name
        for name, module in net.named_modules()
        if isinstance(module, (nn.Linear, KNNConv)) and ".lora_" not in name
    ]
    chosen = matching("targets", targets, known)
    config = library.LoraConfig(r=rank, lora_alpha=alpha, target_modules=chosen)
    config._register_custom_module({KNNConv: _lora_conv()})
    library.inject_adapter_in_model(config, net, adapter_name=ADAPTER)
    return chosen


def matching(argument: str, patterns: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the names that match one of the patterns, in their order.

    Args:
        argument: What errors call the patterns.
        patterns: Names, or patterns with ``*``.
        known: The names there are.

    Raises:
        ValueError, TypeError: If a pattern matches nothing: names are listed.
    """
    if isinstance(patterns, str) or not isinstance(patterns, Sequence):
        raise TypeError(f"{argument} must be a list of names, got {shown(patterns)}")
    chosen: set[str] = set()
    for pattern in patterns:
        found = {name for name in known if fnmatchcase(name, instance(argument, pattern, str))}
        if not found:
            listed = ", ".join(known[:40]) + (", …" if len(known) > 40 else "")
            raise ValueError(f"{argument} must match one of {listed}; got {pattern!r}")
        chosen |= found
    return [name for name in known if name in chosen]


def _adapted(net: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the names of adapted layers, and the layers."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    yield from (
        (name, module) for name, module in net.named_modules() if isinstance(module, BaseTunerLayer)
    )


def merge_lora(net: nn.Module) -> None:
    """Add the adapters to the weights; until :func:`unmerge_lora` they cost nothing.

    Raises:
        ImportError: If peft is not installed.
    """
    peft()
    for _, layer in _adapted(net):
        if not layer.merged:  # peft warns
            layer.merge()


def unmerge_lora(net: nn.Module) -> None:
    """Take the adapters out of the weights again (to a rounding).

    Raises:
        ImportError: If peft is not installed.
    """
    peft()
    for _, layer in _adapted(net):
        if layer.merged:
            layer.unmerge()


def drop_lora(net: nn.Module) -> nn.Module:
    """Merge the adapters, and replace adapted layers by plain ones of the same names.

    Returns:
        ``net``, which is changed.

    Raises:
        ImportError: If peft is not installed.
    """
    merge_lora(net)
    for name, layer in list(_adapted(net)):
        parent, _, child = name.rpartition(".")
        setattr(net.get_submodule(parent), child, layer.get_base_layer())
    return net


def adapter_state(net: nn.Module) -> dict[str, Tensor]:
    """Return the adapters' weights, by their names in ``net.state_dict()``."""
    return {name: value for name, value in net.state_dict().items() if ".lora_" in name}


def save_adapters(net: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Save the adapters alone: ``adapter_model.safetensors`` and peft's ``adapter_config.json``.

    Args:
        net: A network with adapters.
        folder: Where; it is made if there is none.

    Raises:
        ValueError: If the network has no adapters.
        OSError: If the files cannot be written.
        ImportError: If peft is not installed.
    """
    library = peft()
    target = path_of("folder", folder)
    state = adapter_state(net)
    if not state:
        raise ValueError("net must have adapters (add_lora), got one without")
    layers = list(_adapted(net))
    first = layers[0][1]
    config = library.LoraConfig(
        r=first.r[ADAPTER],
        lora_alpha=first.lora_alpha[ADAPTER],
        target_modules=[name for name, _ in layers],
    )
    target.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(target))
    renamed = {PREFIX + name.replace(f".{ADAPTER}.", "."): v for name, v in state.items()}
    save_file({name: value.contiguous() for name, value in renamed.items()}, target / WEIGHTS)


def load_adapters(net: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Load adapters that :func:`save_adapters` saved; the network gets them if it has none.

    Args:
        net: A network of the same form, with the same adapters or none.
        folder: Where they are.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If they do not fit the network.
        ImportError: If peft is not installed.
    """
    library = peft()
    source = path_of("folder", folder)
    if not (source / WEIGHTS).is_file():
        raise FileNotFoundError(f"folder must have {WEIGHTS}, got {source}")
    if not adapter_state(net):
        config = library.LoraConfig.from_pretrained(str(source))
        targets = sorted(config.target_modules)
        add_lora(net, targets, rank=config.r, alpha=config.lora_alpha)
    _load_state(net, source / WEIGHTS)


def _load_state(net: nn.Module, file: Path) -> None:
    own = adapter_state(net)
    names = {PREFIX + name.replace(f".{ADAPTER}.", "."): name for name in own}
    given = load_file(file)
    if set(names) != set(given):
        odd = sorted(set(names) ^ set(given))[:5]
        raise ValueError(f"{file} must have the adapters of the network; these differ: {odd}")
    for name, value in given.items():
        here = own[names[name]]
        if here.shape != value.shape:
            raise ValueError(
                f"{file}: {name} must have shape {list(here.shape)}, got {list(value.shape)}"
            )
    net.load_state_dict({names[name]: value for name, value in given.items()}, strict=False)
