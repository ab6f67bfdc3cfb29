"""Kernel maps: which cell an offset falls in, and the triples sorted three ways."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fovigraph.graph import KernelMap, nearest_cell

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


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-2, ValueError), (2.0, TypeError)])
def test_a_bad_kernel_size_is_refused(size, error):
    with pytest.raises(error, match="kernel_size"):
        nearest_cell(torch.zeros(1, 2), size)


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


def test_knows_its_length_and_prints_itself():
    assert len(small_map()) == 3
    assert repr(small_map()) == "KernelMap(6 → 3 nodes, 4 cells, 3 triples)"
