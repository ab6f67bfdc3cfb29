"""How convolutions are registered with ``torch.library``: the same for all of their forms.

An operator and its backward pass, each with what the compiler needs (shapes), what
``torch.utils.flop_counter`` needs (arithmetic) and what autograd and function transforms need
(derivatives, from the form in :mod:`fovigraph.ops.plain`).

An operator of ``torch.library`` costs hundreds of microseconds of a training step, as its many
arguments are flattened and put together again, forward and backward. That is more than a GPU needs
for a small layer. So where nobody looks at operators (:func:`unobserved`), the same functions are
called without one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils.flop_counter import register_flop_formula

from fovigraph.ops.transforms import differentiable, gradients, transformed


def register_conv(
    name: str,
    forward: Callable[..., Tensor],
    backward: Callable[..., tuple[Tensor, Tensor]],
    plain: Callable[[Tensor, Tensor, Sequence[Tensor], Tensor | None, int], Tensor],
    *,
    depthwise: bool = False,
) -> Any:
    """Register a convolution and its backward pass, and return what computes it.

    Args:
        name: What it is called in ``torch.ops.fovigraph``; the backward pass ends in ``_backward``.
        forward: ``(x [B, num_src, C], weight [cells, C, …], rows, share, bias, num_dst, relu)`` to
            ``[B, num_dst, O]``; ``rows`` are the fields of :class:`~fovigraph.graph.Triples`,
            sorted in one or several ways, and ``share`` is the factor of every triple, if they have
            any. Torch reads the operator's signature from its annotations.
        backward: ``(grad, x, weight, rows, share, needs)`` to the gradients of ``x`` and
            ``weight``, each empty if it is not needed; annotated likewise.
        plain: ``(x, weight, rows, share, num_dst)`` in operations that torch can differentiate.
        depthwise: Whether ``weight`` ``[cells, C, M]`` leads to C · M channels, not to M.

    Returns:
        The operator, or what calls ``forward`` and ``backward`` directly where nobody would notice.
    """
    conv = torch.library.custom_op(f"fovigraph::{name}", forward, mutates_args=())
    conv_backward = torch.library.custom_op(
        f"fovigraph::{name}_backward", backward, mutates_args=()
    )

    @conv.register_fake
    def _(
        x: Tensor, weight: Tensor, rows: Any, share: Any, bias: Any, num_dst: int, relu: bool
    ) -> Tensor:
        width = weight.shape[1] * weight.shape[2] if depthwise else weight.shape[2]
        return x.new_empty(x.shape[0], num_dst, width)

    @conv_backward.register_fake
    def _(
        grad: Tensor, x: Tensor, weight: Tensor, rows: Any, share: Any, needs: Sequence[bool]
    ) -> tuple[Tensor, Tensor]:
        return (
            x.new_empty(x.shape) if needs[0] else x.new_empty(0),
            weight.new_empty(weight.shape) if needs[1] else weight.new_empty(0),
        )

    def plain_backward(
        grad: Tensor, x: Tensor, weight: Tensor, rows: Any, share: Any, needs: Any
    ) -> tuple[Tensor, ...]:
        num_dst = grad.shape[1]
        return gradients(lambda x, w: plain(x, w, rows, share, num_dst), (x, weight), grad)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, rows, share, *_, relu = inputs
        ctx.save_for_backward(x, weight, share, output if relu else None, *rows)

    def derivatives(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight, share, positive, *rows = ctx.saved_tensors
        if positive is not None:
            grad = grad * ~(positive <= 0)  # NaN passes, as it does through torch.relu
        needs = list(ctx.needs_input_grad[:2])
        run: Callable[..., Any] = conv_backward
        if transformed(grad):
            run = plain_backward
        elif not torch.is_grad_enabled() and unobserved(grad, x, weight):
            run = backward
        grad_x, grad_weight = run(grad.contiguous(), x, weight, rows, share, needs)
        return (
            grad_x if needs[0] else None,
            grad_weight if needs[1] else None,
            [None] * len(rows),
            None,
            grad.sum((0, 1)) if ctx.needs_input_grad[4] else None,
            None,
            None,
        )

    conv.register_autograd(derivatives, setup_context=setup_context)
    differentiable(conv_backward, plain_backward, operands=3)
    packets = torch.ops.fovigraph

    @register_flop_formula(getattr(packets, name))  # type: ignore[untyped-decorator]
    def _(x: Any, weight: Any, rows: Any, *_: Any, **__: Any) -> int:
        return _flops(x, weight, rows)

    @register_flop_formula(getattr(packets, f"{name}_backward"))  # type: ignore[untyped-decorator]
    def _(grad: Any, x: Any, weight: Any, rows: Any, share: Any, needs: Any, **_: Any) -> int:
        return _flops(x, weight, rows) * sum(map(bool, needs))

    return directly(conv, forward, setup_context, derivatives, operands=(0, 1, 4))


def directly(
    operator: Any,
    forward: Callable[..., Any],
    setup_context: Callable[..., None],
    derivatives: Callable[..., tuple[Any, ...]],
    operands: Sequence[int],
) -> Callable[..., Any]:
    """Return what calls an operator, or what it does directly where nobody looks at operators.

    Args:
        operator: The operator of ``torch.library``.
        forward, setup_context, derivatives: What was registered with it.
        operands: Which arguments are tensors that may require a gradient, or ``None``.
    """

    class GraphOperator(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = forward(*inputs)
            setup_context(ctx, inputs, output)
            return output

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
            found = derivatives(ctx, *grads)
            return tuple(None if isinstance(grad, list) else grad for grad in found)

    def run(*inputs: Any) -> Any:
        tensors = [inputs[at] for at in operands if inputs[at] is not None]
        if not unobserved(*tensors):
            return operator(*inputs)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            return GraphOperator.apply(*inputs)
        return forward(*inputs)

    return run


def unobserved(*tensors: Tensor) -> bool:
    """Whether nothing needs to see an operator of these tensors.

    What does: ``torch.compile``, ``torch.export`` and tracing; a mode of ``__torch_dispatch__``, as
    ``torch.utils.flop_counter`` has; the profiler; a subclass of ``Tensor``; a meta tensor.
    """
    return not (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._autograd._profiler_enabled()
        or torch._C._get_tracing_state()
    ) and all(type(tensor) in (Tensor, Parameter) and not tensor.is_meta for tensor in tensors)


def _flops(x_shape: Sequence[int], weight_shape: Sequence[int], rows: Sequence[Any]) -> int:
    """Return 2 · B · E · C · O: a multiply–add of every triple, channel and output of a channel."""
    _, channels, outputs = weight_shape
    return 2 * x_shape[0] * int(rows[0][0]) * channels * outputs
