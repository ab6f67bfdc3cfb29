"""Function transforms (``torch.func``), forward-mode AD and derivatives of gradients.

Torch cannot look into the fused operators, and so can neither batch nor differentiate them itself.
Where that is asked for, the same is computed by :mod:`fovigraph.ops.plain`, which it can look into.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def transformed(*grads: Tensor) -> bool:
    """Whether a transform of ``torch.func`` or forward-mode AD is active.

    Args:
        grads: What a backward pass was given: ``torch.autograd.grad`` may have batched them.
    """
    batched = any(map(torch._C._functorch.is_legacy_batchedtensor, grads))
    return batched or forward_ad._current_level >= 0 or _inside_functorch()


@torch.compiler.assume_constant_result  # torch.compile guards the stack of transforms by itself
def _inside_functorch() -> bool:
    return torch._C._functorch.peek_interpreter_stack() is not None


def gradients(
    function: Callable[..., Any], inputs: Sequence[Tensor], grads: Any
) -> tuple[Tensor, ...]:
    """Return the gradients of a plain function's inputs, differentiable if gradients are enabled.

    Args:
        function: Its inputs to its output, or to a tuple of outputs.
        inputs: Where the gradients are taken.
        grads: Gradients of the outputs; an output whose gradient is ``None`` has none.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():  # views, as one input may depend on another
        leaves = [x.view_as(x) if x.requires_grad else x.detach().requires_grad_() for x in inputs]
        outputs = function(*leaves)
        if isinstance(outputs, tuple):
            outputs = [y for y, grad in zip(outputs, grads, strict=True) if grad is not None]
            grads = [grad for grad in grads if grad is not None]
        return torch.autograd.grad(
            outputs, leaves, grads, create_graph=again, materialize_grads=True
        )


def differentiable(backward: Any, plain: Callable[..., Any], operands: int) -> None:
    """Give an operator that computes gradients derivatives of its own: those of its plain form.

    Args:
        backward: The operator, of ``torch.library.custom_op``.
        plain: Takes the same arguments and returns the same, in operations that torch knows.
        operands: How many of the arguments have derivatives; they come first.
    """

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:operands])
        ctx.rest = inputs[operands:]
        ctx.set_materialize_grads(False)

    def derivatives(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        found: Sequence[Tensor | None] = [None] * operands
        if any(grad is not None for grad in grads):
            found = gradients(lambda *xs: plain(*xs, *ctx.rest), ctx.saved_tensors, grads)
        return *found, *(_no_gradient(value) for value in ctx.rest)

    backward.register_autograd(derivatives, setup_context=setup_context)


def _no_gradient(value: Any) -> list[None] | None:
    """What the gradient of an argument without one must look like: a list for a list of tensors."""
    if isinstance(value, list) and value and isinstance(value[0], Tensor):
        return [None] * len(value)
    return None
