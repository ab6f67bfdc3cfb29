"""The compiled kernels against torch's own operations, and what happens where there are none."""

import importlib
import logging
import os
import subprocess
import sys

import pytest
import torch

import fovigraph as fg
from fovigraph.graph import KernelMap
from fovigraph.ops import cpu
from fovigraph.ops.cpu import build

pool = importlib.import_module("fovigraph.ops.knn_pool")
conv = importlib.import_module("fovigraph.ops.knn_conv")

compiled = pytest.mark.skipif(build.library() is None, reason="no C++ compiler with OpenMP")


def kernel_map_of(num_dst, num_src, num_cells, edges):
    """Random triples; the last destination, source and cell have none, some are there twice."""
    dst = torch.randint(0, num_dst - 1, (edges,)).repeat(2)
    src = torch.randint(0, num_src - 1, (edges,)).repeat(2)
    cell = torch.randint(0, num_cells - 1, (edges,)).repeat(2)
    sizes = {"num_dst": num_dst, "num_src": num_src, "num_cells": num_cells}
    return KernelMap.from_edges(torch.stack((src, dst)), cell, **sizes)


def both(function, *args, **options):
    """What the compiled kernels make, and torch's own operations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "serves", lambda *_: True)
        found = function(*args, **options)
        patch.setattr(cpu, "serves", lambda *_: False)
        return found, function(*args, **options)


@compiled
@pytest.mark.parametrize("batch", [1, 2, 5, 6, 13])
@pytest.mark.parametrize(
    ("channels", "out_channels"), [(1, 1), (3, 40), (8, 7), (16, 32), (33, 19), (600, 9)]
)
def test_all_three_passes_are_the_definition(batch, channels, out_channels):
    kernel_map = kernel_map_of(9, 12, 5, 60)
    by_dst, by_src, by_cell = kernel_map.by_dst, kernel_map.by_src, kernel_map.by_cell
    x = torch.randn(batch, 12, channels, dtype=torch.float64)
    weight = torch.randn(5, channels, out_channels, dtype=torch.float64)
    bias = torch.randn(out_channels, dtype=torch.float64)
    grad = torch.randn(batch, 9, out_channels, dtype=torch.float64)
    turned = by_src.reversed(), by_cell.reversed()
    for found, expected in (
        both(conv.gather_gemm, x, weight, by_dst, by_cell),
        both(conv.gather_gemm, x, weight, by_dst, by_cell, bias, relu=True),
        both(conv.gather_gemm, grad, weight.mT, *turned),
        both(conv.gather_outer, x, grad, by_dst, by_cell),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        assert found.is_contiguous()


@compiled
@pytest.mark.parametrize(
    ("batch", "channels", "gather", "outer"),
    [
        (1, 64, "gather_by_cell", "outer_by_cell"),
        (64, 96, "gather_by_node", "outer_by_cell"),
        (4, 3, "gather_by_node", "outer_by_cell"),
        (8, 3, "gather_by_node", "outer_by_node"),
    ],
)
def test_few_images_share_the_weights_of_a_cell(batch, channels, gather, outer, monkeypatch):
    chosen = []
    monkeypatch.setattr(cpu, "_call", lambda name, *_: chosen.append(name))
    monkeypatch.setattr(cpu, "serves", lambda *_: True)
    rows = (kernel_map := kernel_map_of(9, 12, 5, 60)).by_dst, kernel_map.by_cell
    x, weight = torch.randn(batch, 12, channels), torch.randn(5, channels, 32)
    conv.gather_outer(x, conv.gather_gemm(x, weight, *rows), *rows)
    assert chosen == [gather, outer]


POOL = [("max", False), ("mean", False), ("sum", False), ("sum", True)]


@compiled
@pytest.mark.parametrize(("reduce", "weighted"), POOL)
@pytest.mark.parametrize("channels", [1, 7, 64, 150])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pooling_is_the_definition(reduce, weighted, channels, dtype):
    rows = kernel_map_of(9, 12, 5, 60).by_dst
    weight = torch.rand(len(rows.src), dtype=dtype) if weighted else None
    x = torch.randint(-3, 3, (3, 12, channels), dtype=dtype)  # many are equal
    x[0, :4], x[1, 3] = torch.nan, torch.inf
    args = rows.src, rows.ptr, reduce, weight
    (out, winner), (expected, won) = both(pool._forward, x, *args)
    torch.testing.assert_close(out, expected, equal_nan=True)
    assert torch.equal(winner, won)
    grad = torch.randn_like(out)
    found, expected = both(pool._gradient, grad, winner, *args, 12)
    torch.testing.assert_close(found, expected)


@compiled
def test_single_precision_is_as_close_as_it_can_be():
    kernel_map = kernel_map_of(40, 40, 9, 400)
    x, weight = torch.randn(8, 40, 64), torch.randn(9, 64, 48)
    args = kernel_map.by_dst, kernel_map.by_cell
    exact = conv.gather_gemm(x.double(), weight.double(), *args)
    found = conv.gather_gemm(x, weight, *args)
    torch.testing.assert_close(found, exact.float(), rtol=1e-5, atol=1e-4)


@compiled
def test_the_number_of_threads_changes_no_bit():
    kernel_map = kernel_map_of(40, 40, 9, 400)
    args = kernel_map.by_dst, kernel_map.by_cell
    threads, made = torch.get_num_threads(), {}
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            made[count] = []
            for batch, channels in ((1, 64), (8, 64), (9, 3)):
                generator = torch.Generator().manual_seed(batch)
                x = torch.randn(batch, 40, channels, generator=generator)
                weight = torch.randn(9, channels, 48, generator=generator)
                out = conv.gather_gemm(x, weight, *args)
                made[count] += [out, conv.gather_outer(x, out, *args)]
    finally:
        torch.set_num_threads(threads)
    for count in (2, 5):
        assert all(torch.equal(a, b) for a, b in zip(made[1], made[count], strict=True))


@compiled
@pytest.mark.parametrize("batch", [1, 8])
def test_what_is_not_a_number_stays(batch):
    kernel_map = kernel_map_of(9, 12, 5, 60)
    x, weight = torch.randn(batch, 12, 20), torch.randn(5, 20, 7)
    x[:, :2], x[:, 3] = torch.nan, torch.inf
    args = x, weight, kernel_map.by_dst, kernel_map.by_cell, torch.zeros(7)
    found, expected = both(conv.gather_gemm, *args, relu=True)
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=1e-4, atol=1e-4)
    assert found.isnan().any()


@compiled
def test_a_layer_uses_them_and_may_be_used_after_a_fork():
    code = """
import os, torch, fovigraph as fg
from fovigraph.ops import cpu
torch.set_num_threads(2)
graph = fg.knn_graph(fg.SensorArray(4), fg.SensorArray(4).strided(2), k=4)
layer, x = fg.nn.KNNConv(3, 4, 3), torch.ones(8, graph.num_src, 3)
calls, call = [], cpu._call
cpu._call = lambda name, *args: (calls.append(name), call(name, *args))
first = layer(x, graph)
first.sum().backward()
assert calls == ["gather_by_node", "outer_by_node"], calls
child = os.fork()
if child == 0:
    torch.set_num_threads(1)
    os._exit(0 if torch.equal(layer(x, graph), first) else 1)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = {**os.environ, build.SWITCH: "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, timeout=100
    )
    assert done.returncode == 0


def test_only_numbers_that_they_know_are_served(monkeypatch):
    x = torch.ones(1)
    monkeypatch.setattr(cpu, "library", object)
    assert cpu.serves(x, x) and cpu.serves(x.double(), x.double())
    assert not cpu.serves(x, x.double()) and not cpu.serves(x.half(), x.half())
    assert not cpu.serves(x.to("meta"), x.to("meta"))
    monkeypatch.setattr(cpu, "library", lambda: None)
    assert not cpu.serves(x, x)


def test_they_can_be_switched_off(monkeypatch):
    monkeypatch.setenv(build.SWITCH, "0")
    assert build.library.__wrapped__() is None


def test_without_a_compiler_torch_serves_and_says_so_at_most_quietly(monkeypatch, caplog):
    monkeypatch.setenv(build.SWITCH, "1")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with caplog.at_level(logging.INFO):
        assert build.library.__wrapped__() is None
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "no C++ compiler" in caplog.text


@compiled
def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv(build.SWITCH, "1")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FOVIGRAPH_CACHE", str(tmp_path / "file"))
    assert build.library.__wrapped__() is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@compiled
def test_a_damaged_library_is_compiled_again(monkeypatch, tmp_path):
    monkeypatch.setenv(build.SWITCH, "1")
    monkeypatch.setenv("FOVIGRAPH_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "FLAGS", ("-O0", *build.FLAGS[1:]))  # compiles faster
    path = build._compiled()
    path.unlink()  # the loader knows what it has loaded by its place
    path.write_bytes(b"not a library")
    assert build.library.__wrapped__() is not None
    assert path.stat().st_size > 1000
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@compiled
def test_networks_are_the_same_with_and_without(monkeypatch):
    net = fg.FoviNet(fg.load_config("fovi_tiny")).double().eval()
    images = torch.rand(2, 3, 40, 40, dtype=torch.float64)
    found, expected = both(lambda: net(images, [(0.5, 0.5)]).logits)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
