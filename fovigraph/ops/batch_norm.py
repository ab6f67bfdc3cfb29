"""Batch normalisation of rows on a CPU, compiled: its sums are kept in double precision.

Torch's own is slow for features with channels last and sums them in single precision, one after the
other, so that its variance is some 50 times less exact than that of features with channels first.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from fovigraph.ops import cpu
from fovigraph.ops.registration import unobserved
from fovigraph.ops.transforms import gradients, transformed

Statistics = tuple[Tensor, Tensor, Tensor]


def serves(rows: Tensor, weight: Tensor | None, bias: Tensor | None) -> bool:
    """Whether rows ``[R, C]`` are normalised here: several, on a CPU, and nobody looks at how."""
    tensors = [rows, *(tensor for tensor in (weight, bias) if tensor is not None)]
    return (
        unobserved(*tensors)
        and not transformed()
        and len(rows) > 1
        and rows.shape[1] > 0
        and cpu.serves(*tensors)
    )


def batch_norm(
    rows: Float[Tensor, "R C"], weight: Tensor | None, bias: Tensor | None, eps: float
) -> Statistics:
    """Normalise rows by their own statistics.

    Args:
        rows: ``[R, C]``, R ≥ 2, such as :func:`serves` says.
        weight, bias: ``[C]``, or ``None``.
        eps: Added to the variance.

    Returns:
        The normalised rows, ``[R, C]``; the mean and the variance (of R, not R − 1) of every
        channel, ``[C]``, double, which have no gradients.
    """
    return _BatchNorm.apply(rows, weight, bias, eps)  # type: ignore[no-any-return]


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Statistics:
        out, mean, variance = cpu.normalise(rows, weight, bias, eps)
        ctx.save_for_backward(rows, weight, bias, mean, variance)
        ctx.mark_non_differentiable(mean, variance)
        ctx.eps = eps
        return out, mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        rows, weight, bias, mean, variance = ctx.saved_tensors
        if torch.is_grad_enabled() or transformed(grad) or not unobserved(grad):
            return (*_plain(grad, rows, weight, bias, ctx.eps), None)
        grad_rows, grad_weight, grad_bias = cpu.normalise_backward(
            grad, rows, weight, mean, variance, ctx.eps
        )
        return (
            grad_rows,
            None if weight is None else grad_weight,
            None if bias is None else grad_bias,
            None,
        )


def _plain(
    grad: Tensor, rows: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> list[Tensor | None]:
    """The same gradients in operations that torch can differentiate again."""
    there = [tensor for tensor in (rows, weight, bias) if tensor is not None]

    def normalised(*tensors: Tensor) -> Tensor:
        rows, *affine = tensors
        scale = affine.pop(0) if weight is not None else None
        shift = affine.pop(0) if bias is not None else None
        return functional.batch_norm(rows, None, None, scale, shift, training=True, eps=eps)

    found = iter(gradients(normalised, there, grad))
    return [None if tensor is None else next(found) for tensor in (rows, weight, bias)]
