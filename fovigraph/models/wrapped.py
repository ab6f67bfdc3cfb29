"""Modules inside wrappers that do not change what they compute."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.nn.parallel import DistributedDataParallel


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside ``torch.compile``, ``DataParallel`` and the like, or itself."""
    while (name := _inside(module)) is not None:
        module = module.get_submodule(name)
    return module


def names_without_wrappers(net: nn.Module) -> Callable[[str], str]:
    """Return what gives a name in a network's ``state_dict`` as it is without wrappers."""
    prefixes = {}
    for path, module in net.named_modules(remove_duplicate=False):
        if (inside := _inside(module)) is not None:
            outside = f"{path}." if path else ""
            prefixes[f"{outside}{inside}."] = outside
    innermost_first = sorted(prefixes, key=len, reverse=True)

    def rename(name: str) -> str:
        for prefix in innermost_first:
            if name.startswith(prefix):
                name = prefixes[prefix] + name.removeprefix(prefix)
        return name

    return rename


def _inside(module: nn.Module) -> str | None:
    """Return what a wrapper calls the module inside it; ``None`` if it is no wrapper."""
    if "_orig_mod" in module._modules:  # torch.compile: importing its class takes a second
        return "_orig_mod"
    return "module" if isinstance(module, (nn.DataParallel, DistributedDataParallel)) else None
