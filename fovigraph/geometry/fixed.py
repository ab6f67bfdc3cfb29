"""Tensors that follow from how a thing was made, and that nothing else may change.

Geometry is the same on every machine, in every context of torch's and after every cast: it is
computed by functions that are :func:`isolated`, and modules keep it as :class:`FixedTensors`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

P = ParamSpec("P")
T = TypeVar("T")

_thread = threading.local()


def isolated(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function compute the same whatever context of torch's it is called in.

    Its tensors are on the CPU unless it says otherwise, of torch's usual default dtype, and can be
    trained on: they are neither inference tensors nor traced, fake or wrapped by a transform. Where
    ``torch.compile`` or ``torch.export`` traces, the function is traced like any other.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.compiler.is_compiling() or getattr(_thread, "is_isolated", False):
            return function(*args, **kwargs)
        with ExitStack() as stack:
            stack.callback(setattr, _thread, "is_isolated", False)
            _thread.is_isolated = True
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
            # There is no public way out of the modes and transforms that others have entered.
            stack.enter_context(_disable_current_modes())
            stack.enter_context(torch._C._DisableFuncTorch())
            if torch.get_default_device().type != "cpu":  # as the context slows every call down
                stack.enter_context(torch.device("cpu"))
            if (default := torch.get_default_dtype()) != torch.float32:
                stack.callback(torch.set_default_dtype, default)
                torch.set_default_dtype(torch.float32)
            return function(*args, **kwargs)

    return run


class FixedTensors(nn.Module):
    """A module with tensors that are neither parameters nor buffers, so that nothing rewrites them.

    What walks over parameters and buffers (averages, broadcasts, stacks or loads them) does not see
    them. Moving or casting the module takes them along: to its device, and between single and
    double precision, but not to half precision or to integers. On the meta device they are empty
    like all else, and come back with their values, also by ``to_empty``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._fixed: tuple[str, ...] = ()
        self._values_off_meta: dict[str, Tensor | None] | None = None

    @isolated
    def fix(self, **tensors: Tensor | None) -> None:
        """Set tensors, each as the attribute of its name; inference tensors are copied."""
        for name, tensor in tensors.items():
            setattr(self, name, None if tensor is None else ordinary(tensor))
        self._fixed = (*self._fixed, *tensors)

    def fixed_tensors(self) -> dict[str, Any]:
        """Return the tensors by name, with their values while the module is on the meta device."""
        return self._values_off_meta or {name: getattr(self, name) for name in self._fixed}

    @isolated
    def _move(self, fn: Callable[[Tensor], Tensor]) -> None:
        values = self.fixed_tensors()
        on_meta = False
        for name, tensor in values.items():
            if tensor is not None:
                moved = _moved(tensor, fn)
                on_meta = moved.is_meta
                setattr(self, name, moved)
        self._values_off_meta = values if on_meta else None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FixedTensors:
        super()._apply(fn, recurse)
        self._move(fn)
        return self


def ordinary(tensor: Tensor) -> Tensor:
    """Return a tensor that can be trained on: of an inference tensor, a copy."""
    if torch.compiler.is_compiling() or not tensor.is_inference():
        return tensor
    with torch.inference_mode(False):
        return tensor.clone()


def _moved(tensor: Tensor, fn: Callable[[Tensor], Any]) -> Tensor:
    """Return a tensor where ``fn``, given to ``nn.Module._apply``, would put one of its kind."""
    like = fn(torch.empty(0, dtype=tensor.dtype, device=tensor.device))
    casts = tensor.is_floating_point() and like.dtype in (torch.float32, torch.float64)
    return tensor.to(like.device, like.dtype if casts else tensor.dtype)
