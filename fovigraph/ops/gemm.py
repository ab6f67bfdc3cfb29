"""Dense matrix products, by the fastest library at hand."""

from __future__ import annotations

import torch
from torch import Tensor

_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
"""On many CPUs oneDNN multiplies float32 1.5 to 2.5 times as fast as torch's default."""


def gemm(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b`` for two matrices; they need not be contiguous."""
    if _ONEDNN and a.dtype == torch.float32 and a.device.type == "cpu" and a.numel() and b.numel():
        return torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
    return a @ b
