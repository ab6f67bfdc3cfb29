"""The GPU kernels without a GPU: what they compute, that they compile, when they serve."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fovigraph import ops
from fovigraph.graph import KernelMap
from fovigraph.ops import gpu

ON_CPU_ONLY = pytest.mark.skipif(
    torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1",
    reason="tested on the GPU itself",
)


@ON_CPU_ONLY
def test_kernels_in_tritons_interpreter():
    pytest.importorskip("triton")
    tests = Path(__file__).with_name("test_ops_gpu.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def kernel_map(num_dst, num_src, num_cells, edges):
    dst = torch.arange(edges) * num_dst // edges
    src, cell = torch.arange(edges) % num_src, torch.arange(edges) % num_cells
    sizes = {"num_dst": num_dst, "num_src": num_src, "num_cells": num_cells}
    return KernelMap.from_edges(torch.stack((src, dst)), cell, **sizes)


@pytest.fixture
def compiled(monkeypatch):
    """Compile kernels for a GPU that is not there instead of launching them; give their PTX."""
    pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    from fovigraph.ops.gpu import conv, launch, outer, reduce

    class Driver:
        def get_current_target(self):
            return GPUTarget("cuda", 90, 32)

        def get_current_device(self):
            return 0

        def get_current_stream(self, device):
            return 0

    chip = launch.Chip(132, 227 << 10, 50 << 20, reads_shared=True)
    code, run = {}, JITFunction.run

    def compile_only(kernel, *args, warmup, **rest):
        made = run(kernel, *args, warmup=True, **rest)
        assert made.metadata.shared <= chip.shared_bytes
        code[kernel.fn.__name__] = made.asm["ptx"]
        return made

    for module in (conv, launch, outer, reduce):
        monkeypatch.setattr(module, "chip", lambda device: chip)
    monkeypatch.setattr(gpu, "serves", lambda *tensors: True)
    monkeypatch.setattr(JITFunction, "run", compile_only)
    before = vars(driver).copy()
    driver.set_active(Driver())
    yield code
    vars(driver).update(before)


@ON_CPU_ONLY
@pytest.mark.parametrize("channels", [3, 96])
def test_matrix_units_and_asynchronous_copies_are_used(compiled, channels):
    edges = kernel_map(99, 9, 9, 2200)  # gradients of 99 nodes: more than the cache holds
    x = torch.empty(2048, 9, channels, dtype=torch.bfloat16, requires_grad=channels > 3)
    weight = torch.empty(9, channels, 96, dtype=torch.bfloat16, requires_grad=True)
    bias = torch.empty(96, dtype=torch.bfloat16)
    out = ops.knn_conv(x, weight, edges, bias, relu=True)
    out.backward(torch.empty(2048, 99, 96, dtype=torch.bfloat16))
    outer = "node_outer_kernel" if channels == 3 else "cell_outer_kernel"
    for name in ("gather_gemm_kernel", outer):
        assert "wgmma.mma_async" in compiled[name]
        assert "cp.async" in compiled[name]


@ON_CPU_ONLY
@pytest.mark.parametrize("dtype", gpu.DTYPES)
def test_kernels_compile_where_every_size_is_one(compiled, dtype):
    """Triton makes constants of arguments that are 1."""
    edges = kernel_map(1, 1, 1, 1)
    x = torch.empty(1, 1, 1, dtype=dtype, requires_grad=True)
    weight = torch.empty(1, 1, 1, dtype=dtype, requires_grad=True)
    bias = torch.empty(1, dtype=dtype)
    for relu in (False, True):
        ops.knn_conv(x, weight, edges, bias, relu).sum().backward()
        ops.knn_depthwise_conv(x, weight, edges, bias, relu).sum().backward()
    for reduce in ("max", "mean"):
        ops.knn_pool(x, edges.src, edges.by_dst.ptr, reduce).sum().backward()
    assert set(compiled) == {
        "cell_outer_kernel",
        "gather_gemm_kernel",
        "gather_max_kernel",
        "gather_product_kernel",
        "gather_sum_kernel",
        "gather_won_kernel",
    }


def test_kernels_serve_one_gpus_tensors_of_one_dtype(monkeypatch):
    class Features:
        def __init__(self, device, dtype=torch.float32):
            self.device, self.dtype = torch.device(device), dtype
            self.is_cuda = self.device.type == "cuda"

    monkeypatch.setattr(gpu, "_has_triton", lambda: True)
    first = Features("cuda:0")
    assert gpu.serves(first, Features("cuda:0"))
    assert not gpu.serves(Features("cpu"))
    assert not gpu.serves(first, Features("cuda:1"))
    assert not gpu.serves(first, Features("cuda:0", torch.bfloat16))
    assert not gpu.serves(Features("cuda:0", torch.float64))


def test_a_gpu_without_triton_is_reported_once(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "triton.language", None)
    gpu._has_triton.cache_clear()
    with caplog.at_level(logging.WARNING, logger="fovigraph"):
        assert not gpu._has_triton()
        assert not gpu._has_triton()
    gpu._has_triton.cache_clear()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no Triton" in caplog.text
