"""What every launch needs to know: the chip, the precision, the sizes of blocks."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

TRITON = tuple(int(part) for part in triton.__version__.split(".")[:2])

LIMIT = 2**31 - 2**12
"""Kernels count in int32 within a row and over programs, and up to a block further; positions in
memory are int64."""


class Chip(NamedTuple):
    """What a GPU has."""

    processors: int
    shared_bytes: int
    """Shared memory that one program may use."""
    cache_bytes: int
    """Second-level cache."""
    reads_shared: bool
    """Whether matrix units read operands from shared memory (as Hopper's do), not registers."""


@cache
def chip(device: torch.device) -> Chip:
    """Describe a GPU; or something small for Triton's interpreter, which runs on the CPU."""
    if device.type != "cuda":
        return Chip(2, 1 << 16, 1 << 20, reads_shared=False)
    properties = torch.cuda.get_device_properties(device)
    return Chip(
        properties.multi_processor_count,
        getattr(properties, "shared_memory_per_block_optin", 99 << 10),
        getattr(properties, "L2_cache_size", 0) or 4 << 20,
        reads_shared=properties.major in (9, 10),
    )


class Dot(NamedTuple):
    """How tiles are multiplied.

    float32 is multiplied exactly on plain arithmetic units, which hold few sums, or as TF32 on
    matrix units, as bfloat16 and float16 are. Sums are float32 always.
    """

    precision: str
    """For float32, what ``torch.backends.cuda.matmul`` says: "ieee" or "tf32"."""
    side: int
    """The longest side of the first operand's tile; the second's is up to 128."""
    step: int
    """How far along the contraction one step goes: 128 bytes for matrix units."""
    size: int
    """Bytes of an operand's number."""

    @classmethod
    def of(cls, x: Tensor) -> Dot:
        """Choose by the dtype of the operands."""
        if x.dtype != torch.float32:
            return cls("ieee", 128, 64, 2)
        return cls("tf32", 128, 32, 4) if _tf32_allowed() else cls("ieee", 64, 16, 4)


def _tf32_allowed() -> bool:
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # torch 2.9 and later, where the other may refuse
        return matmul.fp32_precision == "tf32"
    return matmul.allow_tf32


def launch(kernel: Any, programs: int, *args: Any, **constants: Any) -> None:
    """Run a kernel on the device of its first argument.

    Raises:
        ValueError: If the programs are too many to be numbered.
    """
    check_counts("programs", programs)
    if programs:
        with torch.cuda.device_of(args[0]):
            kernel[(programs,)](*args, enable_fp_fusion=True, **constants)


def check_counts(what: str, count: int) -> None:
    """Refuse what a kernel could not count in int32."""
    if count >= LIMIT:
        raise ValueError(f"{what} must be fewer than {LIMIT} for a GPU kernel, got {count}")


def power_of_two(size: int, least: int, most: int) -> int:
    """Return the power of two that covers ``size``, between ``least`` and ``most``."""
    return max(least, min(most, triton.next_power_of_2(size)))


def tiles(size: int, block: int) -> int:
    """How many blocks cover ``size``, which kernels count in int32."""
    check_counts("numbers along one axis", size)
    return -(-size // block)


def warps(gpu: Chip, area: int) -> int:
    """Choose the warps of a program whose tile of sums has this area.

    A thread has room for 128 sums where operands need no registers, and for 64 where they do.
    """
    return 8 if area > 128 * (128 if gpu.reads_shared else 64) else 4


def stages(gpu: Chip, dot: Dot, block_m: int, block_n: int, block_k: int, indirect: bool) -> int:
    """Choose Triton's ``num_stages``: how far reading runs ahead of multiplying.

    From two to four steps' operands are in shared memory, as many as let two programs share a
    multiprocessor (the largest tiles have one to themselves).

    Args:
        gpu: What the chip has.
        dot: How tiles are multiplied.
        block_m, block_n, block_k: Sides of the tile of sums, and the length of a step.
        indirect: Whether a step reads indices before what they point to. From Triton 3.5 on such
            reading takes stages of its own, so that n steps' operands need 2n − 1.
    """
    share = 2 if block_m * block_n <= 128 * 128 else 1
    step_bytes = (block_m + block_n) * block_k * dot.size
    steps = max(2, min(4, gpu.shared_bytes // share // step_bytes))
    return 2 * steps - 1 if indirect and TRITON >= (3, 5) else steps
