"""Kernel maps: which cell an offset falls in, and the triples sorted three ways."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fovigraph.graph import KernelMap, nearest_cell
from fovigraph.graph.kernel_map import bilinear_cells

few = settings(deadline=None, max_examples=40)


def grid(size):
    """linspace(−1, 1, size)."""
    return [2 * i / (size - 1) - 1 for i in range(size)] if size > 1 else [-1.0]


def nearest_grid_point(u, v, size, tie=1e-4):
    """By brute force over all cells; those as near as the nearest tie, the lowest wins."""

    def closest(x):
        apart = [abs(x - g) * (size - 1) / 2 for g in grid(size)]
        return next(i for i, d in enumerate(apart) if d <= min(apart) + tie)

    return closest(u) * size + closest(v)


# ---- cells


coordinates = st.floats(-1, 1)


@few
@given(st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=20), st.integers(1, 25))
def test_the_cell_is_the_nearest_grid_point(offsets, size):
    far_from_ties = [
        (u, v)
        for u, v in offsets
        if all(abs((x + 1) / 2 * (size - 1) % 1 - 0.5) > 1e-4 for x in (u, v))
    ]
    got = nearest_cell(torch.tensor(far_from_ties, dtype=torch.float64).view(-1, 2), size)
    assert got.tolist() == [nearest_grid_point(u, v, size) for u, v in far_from_ties]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [2, 3, 6, 10, 14, 22])
def test_a_tie_goes_to_the_lower_cell(size, dtype):
    """Every midpoint between grid points, in both coordinates, in single precision too."""
    points = grid(size)
    midpoints = [(a + b) / 2 for a, b in pairwise(points)]
    offsets = [(u, v) for u in midpoints for v in midpoints]
    expected = [i * size + j for i in range(size - 1) for j in range(size - 1)]
    assert nearest_cell(torch.tensor(offsets, dtype=dtype), size).tolist() == expected
    assert [nearest_grid_point(u, v, size) for u, v in offsets] == expected


@pytest.mark.parametrize("size", [1, 2, 5, 14])
def test_grid_points_are_their_own_cells_with_v_running_fastest(size):
    points = torch.cartesian_prod(*[torch.tensor(grid(size))] * 2).view(-1, 2)
    assert nearest_cell(points, size).tolist() == list(range(size**2))


def test_corners_of_the_kernel_are_its_corner_cells():
    corners = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    assert nearest_cell(corners, 4).tolist() == [0, 3, 12, 15]


def test_a_kernel_of_side_one_has_one_cell():
    assert nearest_cell(torch.rand(10, 2) * 2 - 1, 1).tolist() == [0] * 10


@pytest.mark.parametrize("shape", [(), (0,), (4, 3)])
def test_cells_keep_leading_dimensions(shape):
    cells = nearest_cell(torch.zeros(*shape, 2), 3)
    assert cells.shape == shape
    assert cells.dtype == torch.int64


@pytest.mark.parametrize(
    ("size", "error"),
    [(0, ValueError), (-2, ValueError), (1025, ValueError), (2.0, TypeError), (True, TypeError)],
)
@pytest.mark.parametrize("cells", [nearest_cell, bilinear_cells])
def test_a_bad_kernel_size_is_refused(cells, size, error):
    with pytest.raises(error, match="kernel_size must be"):
        cells(torch.zeros(1, 2), size)


@pytest.mark.parametrize(
    ("offset", "error", "message"),
    [
        ([[0.0, 0.0]], TypeError, r"offset must be a.* torch\.Tensor.*, got \[\[0\.0, 0\.0\]\]"),
        (None, TypeError, "offset must be a.*, got None"),
        (torch.zeros(2, dtype=torch.complex64), TypeError, "offset must be .*complex64"),
        (torch.zeros(5, 3), ValueError, r"offset must have shape \[\.\.\., 2\], got \[5, 3\]"),
        (
            torch.tensor([[0.0, math.nan]]),
            ValueError,
            "offset must be numbers, got .* NaN",
        ),
    ],
)
@pytest.mark.parametrize("cells", [nearest_cell, bilinear_cells])
def test_offsets_that_are_no_places_are_refused(cells, offset, error, message):
    with pytest.raises(error, match=message):
        cells(offset, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_values_are_not_looked_at_nan_stays_nan_in_cells_that_there_are(dtype, monkeypatch):
    monkeypatch.setattr("fovigraph.graph.kernel_map.may_inspect", lambda values: False)
    offset = torch.tensor([[math.nan, 0.3], [0.2, -0.4]], dtype=dtype)
    cell, share = bilinear_cells(offset, 3)
    assert cell.min() >= 0
    assert cell.max() < 9
    assert share[0].isnan().all()
    assert share[1].sum() == pytest.approx(1)
    edge_index = torch.tensor([[0, 1], [0, 0]])
    kernel_map = KernelMap.bilinear(edge_index, offset, 3, num_dst=1, num_src=2)
    assert kernel_map.share.isnan().sum() == 4


# ---- triples


@st.composite
def kernel_maps(draw):
    num_dst, num_src, num_cells = (draw(st.integers(1, 8)) for _ in range(3))
    triple = st.tuples(*(st.integers(0, n - 1) for n in (num_dst, num_src, num_cells)))
    triples = draw(st.lists(triple, max_size=40))
    dst, src, cell = torch.tensor(triples, dtype=torch.int64).view(-1, 3).unbind(1)
    sizes = {"num_dst": num_dst, "num_src": num_src, "num_cells": num_cells}
    return triples, KernelMap.from_edges(torch.stack((src, dst)), cell, **sizes)


def listed(triples):
    return list(zip(triples.dst.tolist(), triples.src.tolist(), triples.cell.tolist(), strict=True))


@few
@given(kernel_maps())
def test_every_order_holds_the_same_triples(case):
    triples, kernel_map = case
    for ordered in (kernel_map, kernel_map.by_dst, kernel_map.by_src, kernel_map.by_cell):
        assert sorted(listed(ordered)) == sorted(triples)


@few
@given(kernel_maps())
def test_row_pointers_delimit_what_shares_a_key(case):
    _, kernel_map = case
    for name, rows in (
        ("dst", kernel_map.num_dst),
        ("src", kernel_map.num_src),
        ("cell", kernel_map.num_cells),
    ):
        ordered = getattr(kernel_map, f"by_{name}")
        assert len(ordered.ptr) == rows + 1
        assert (ordered.ptr[0], ordered.ptr[-1]) == (0, len(kernel_map))
        counts = ordered.ptr.diff()
        keys = torch.arange(rows).repeat_interleave(counts)
        assert getattr(ordered, name).equal(keys)


@few
@given(kernel_maps())
def test_sorting_keeps_the_order_of_what_shares_a_key(case):
    """So sums run in the same order every time."""
    triples, kernel_map = case
    assert listed(kernel_map) == sorted(triples, key=lambda triple: triple[0])
    by_dst = listed(kernel_map)
    assert listed(kernel_map.by_src) == sorted(by_dst, key=lambda triple: triple[1])
    assert listed(kernel_map.by_cell) == sorted(by_dst, key=lambda triple: triple[2])


def small_map():
    edge_index, cell = torch.tensor([[5, 0, 2], [1, 0, 1]]), torch.tensor([3, 1, 0])
    return KernelMap.from_edges(edge_index, cell, num_dst=3, num_src=6, num_cells=4)


def test_orders_are_made_once():
    kernel_map = small_map()
    assert kernel_map.by_src is kernel_map.by_src
    assert kernel_map.by_cell is kernel_map.by_cell


def test_turning_edges_round_swaps_their_ends_alone():
    triples = small_map().by_src
    turned = triples.reversed()
    assert turned.dst is triples.src
    assert turned.src is triples.dst
    assert turned.cell is triples.cell
    assert turned.ptr is triples.ptr


# ---- what is no kernel map


TRIPLES = {
    "dst": torch.tensor([0, 1, 1, 2]),
    "src": torch.tensor([3, 0, 2, 3]),
    "cell": torch.tensor([8, 0, 4, 1]),
    "num_dst": 3,
    "num_src": 4,
    "num_cells": 9,
    "share": torch.tensor([1.0, 0.5, 0.5, 1.0]),
}


def test_right_triples_are_taken_as_they_are():
    kernel_map = KernelMap(**TRIPLES)
    assert kernel_map.dst is TRIPLES["dst"]
    assert kernel_map.share is TRIPLES["share"]
    empty = torch.zeros(0, dtype=torch.int64)
    assert len(KernelMap(empty, empty, empty, num_dst=0, num_src=0, num_cells=1)) == 0


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("dst", torch.tensor([1, 0, 1, 2]), ValueError, "dst must be ascending, .*from_edges"),
        ("dst", torch.tensor([-1, 1, 1, 2]), ValueError, "below num_dst=3, got -1 to 2"),
        ("dst", torch.tensor([0, 1, 1, 3]), ValueError, "dst must be .* num_dst=3, got 0 to 3"),
        ("src", torch.tensor([3, 0, 2, 4]), ValueError, "src must be .* num_src=4, got 0 to 4"),
        ("src", torch.tensor([3, 0, 2]), ValueError, r"src must have shape \[4\], got \[3\]"),
        ("cell", torch.tensor([9, 0, 4, 1]), ValueError, "below num_cells=9, got 0 to 9"),
        ("cell", torch.tensor([8, 0, -4, 1]), ValueError, "cell must be at least 0 .* got -4"),
        ("cell", torch.tensor([8.0, 0.0, 4.0, 1.0]), TypeError, r"cell must be torch\.int64, got"),
        ("cell", TRIPLES["cell"].to(torch.uint8), TypeError, r"int64, got torch\.uint8"),
        ("dst", TRIPLES["dst"].int(), TypeError, r"dst must be torch\.int64, got torch\.int32"),
        ("dst", [0, 1, 1, 2], TypeError, r"dst must be an int64 torch\.Tensor, got \[0, 1, 1, 2\]"),
        ("dst", TRIPLES["dst"][:, None], ValueError, r"dst must have shape \[E\], got \[4, 1\]"),
        ("src", TRIPLES["src"].to("meta"), ValueError, "src must be on cpu like dst, got .* meta"),
        ("share", TRIPLES["share"][:2], ValueError, r"share must have shape \[4\], got \[2\]"),
        ("share", TRIPLES["share"].long(), TypeError, "share must be floating point, got"),
        ("share", TRIPLES["share"] / 0, ValueError, "share must be finite, got inf"),
        ("num_dst", 3.0, TypeError, "num_dst must be a whole number"),
        ("num_dst", -3, ValueError, "num_dst must be at least 0, got -3"),
        ("num_src", True, TypeError, "num_src must be a whole number"),
        ("num_src", 1 << 40, ValueError, "num_src must be at most 2147483648, got 1099511627776"),
        ("num_cells", 0, ValueError, "num_cells must be at least 1, got 0"),
        ("num_cells", 10**12, ValueError, "num_cells must be at most 1048576, got 1000000000000"),
    ],
    ids=lambda value: "" if isinstance(value, torch.Tensor) else None,
)
def test_triples_that_are_no_kernel_map_are_refused_by_name(name, value, error, message):
    with pytest.raises(error, match=message):
        KernelMap(**{**TRIPLES, name: value})


EDGES = torch.tensor([[5, 0, 2], [1, 0, 1]])


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"edge_index": EDGES.int()}, TypeError, r"edge_index must be torch\.int64, got"),
        ({"edge_index": EDGES[:, None]}, ValueError, r"edge_index must have shape \[2, E\], got"),
        ({"edge_index": EDGES - 1}, ValueError, r"edge_index\[1\] must be .* got -1 to 0"),
        ({"num_src": 5}, ValueError, r"edge_index\[0\] must be .* num_src=5, got 0 to 5"),
        ({"cell": torch.tensor([3, 1])}, ValueError, r"cell must have shape \[3\], got \[2\]"),
        ({"cell": torch.tensor([3, 1, 4])}, ValueError, "cell must be .* num_cells=4, got 1 to 4"),
        ({"cell": None}, TypeError, "cell must be an int64"),
    ],
    ids=str,
)
def test_edges_that_are_no_kernel_map_are_refused_by_name(changed, error, message):
    right = {"edge_index": EDGES, "cell": torch.tensor([3, 1, 0])}
    sizes = {"num_dst": 3, "num_src": 6, "num_cells": 4}
    with pytest.raises(error, match=message):
        KernelMap.from_edges(**{**right, **sizes, **changed})


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"offset": torch.zeros(2, 2)}, ValueError, r"offset must have shape \[3, 2\], got \[2, 2"),
        (
            {"offset": torch.full((3, 2), math.nan)},
            ValueError,
            "offset must be numbers, got .* NaN",
        ),
        ({"offset": torch.zeros(3, 2).long()}, TypeError, "offset must be floating point"),
        ({"num_dst": 1}, ValueError, r"edge_index\[1\] must be .* num_dst=1, got 0 to 1"),
        ({"kernel_size": 3.0}, TypeError, "kernel_size must be a whole number"),
    ],
    ids=str,
)
def test_edges_that_are_no_bilinear_map_are_refused_by_name(changed, error, message):
    right = {"edge_index": EDGES, "offset": torch.zeros(3, 2), "kernel_size": 3}
    with pytest.raises(error, match=message):
        KernelMap.bilinear(**{**right, "num_dst": 3, "num_src": 6, **changed})


def test_a_map_made_under_inference_mode_can_be_trained_on():
    with torch.inference_mode():
        edge_index, cell = EDGES.clone(), torch.tensor([3, 1, 0])
        sizes = {"num_dst": 3, "num_src": 6, "num_cells": 4}
        kernel_map = KernelMap.from_edges(edge_index, cell, **sizes)
        assert not kernel_map.by_src.ptr.is_inference()
    for triples in (kernel_map.by_dst, kernel_map.by_src, kernel_map.by_cell):
        assert not any(tensor.is_inference() for tensor in triples)


def test_knows_its_length_and_prints_itself():
    assert len(small_map()) == 3
    assert repr(small_map()) == "KernelMap(6 → 3 nodes, 4 cells, 3 triples)"
