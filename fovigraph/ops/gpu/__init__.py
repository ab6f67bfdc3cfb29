"""The operators on a GPU: gather–GEMM and gather–reduce kernels in Triton.

Importing this package needs no Triton, importing the modules with the kernels does: they are
imported where :func:`serves` says that they serve. ``docs/kernels.md`` explains them.
"""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch import Tensor

log = logging.getLogger(__name__)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def serves(*tensors: Tensor) -> bool:
    """Whether the kernels serve these tensors.

    They do when all are on one GPU and of one dtype that the kernels know, and Triton is there.
    All others are computed by torch's own operations, which also report what is wrong with them.
    """
    first = tensors[0]
    return (
        first.is_cuda
        and first.dtype in DTYPES
        and all(tensor.device == first.device for tensor in tensors)
        and all(tensor.dtype == first.dtype for tensor in tensors)
        and _has_triton()
    )


@cache
def _has_triton() -> bool:
    try:
        import triton.language  # noqa: F401
    except ImportError:
        log.warning("no Triton: convolution and pooling on the GPU fall back to torch, slower")
        return False
    return True


def winner_dtype(most: int | None) -> torch.dtype:
    """Return the smallest integer type that numbers so many neighbours; ``None``: any number."""
    return torch.uint8 if most is not None and most <= 256 else torch.int32
