"""What the benchmark on a GPU counts and prints; its times need the GPU."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture
def gpu_benchmark(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu

    yield gpu
    for name in ("gpu", "common"):
        sys.modules.pop(name, None)


def test_floors_count_every_product_and_every_number_once(gpu_benchmark):
    spec = gpu_benchmark.ConvSpec(2, 3, k=4, kernel_size=5, side_in=8, side_out=4)
    layer = {"nodes_in": 7, "nodes_out": 11, "triples": 13}
    x, y, weight = 10 * 7 * 2, 10 * 11 * 3, 25 * 2 * 3
    flop, moved = gpu_benchmark.floors(spec, layer, 10, 2, backward=False, first=False)
    assert flop == 2 * 10 * 13 * 2 * 3
    assert moved == 2 * (x + y + weight)
    trained = gpu_benchmark.floors(spec, layer, 10, 4, backward=True, first=False)
    assert trained == (3 * flop, 4 * (3 * x + 2 * y + 3 * weight))
    first = gpu_benchmark.floors(spec, layer, 10, 4, backward=True, first=True)
    assert first == (2 * flop, 4 * (2 * x + 2 * y + 3 * weight))


def test_rows_compare_times_with_the_larger_floor(gpu_benchmark, capsys):
    layers = [{"nodes_in": 9, "nodes_out": 9, "triples": 81}] * len(gpu_benchmark.NETWORK)
    rows = [{"layer": str(spec), "ours": {"seconds": 2e-3}} for spec in gpu_benchmark.NETWORK]
    rows[0] |= {"peer": {"error": "out of memory"}, "dense": {"seconds": 1e-3}}
    rows.append({"layer": "backbone", "ours": {"seconds": 2e-2}})
    ceilings = {"copy": 1e9, "bfloat16": 1e12}
    gpu_benchmark.add_floors(rows, layers, 4, "bfloat16", False, ceilings)
    for floor in ("arithmetic", "bytes"):
        assert rows[-1][floor] == pytest.approx(sum(row[floor] for row in rows[:-1]))
    cells = gpu_benchmark.cells(rows[0])
    assert cells[1:6] == [2, None, 1, None, 2]
    assert cells[10] == max(rows[0]["arithmetic"], rows[0]["bytes"]) / 2e-3
    gpu_benchmark.report(rows)
    assert "3→96, k 121, 484 cells, peer: out of memory" in capsys.readouterr().out
