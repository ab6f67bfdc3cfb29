"""The neighbour search: k nearest, ties to the lower index, whichever library searches."""

import importlib.util
import math
import sys
import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fovigraph import SensorArray
from fovigraph.graph import search
from fovigraph.graph.search import k_nearest, select_nearest

TIE = 1e-6
few = settings(deadline=None, max_examples=40)

SEARCHES = {"scipy": search._scipy_search, "torch-cluster": search._torch_cluster_search}


@pytest.fixture(params=sorted(SEARCHES))
def library(request, monkeypatch):
    """Every library that can search."""
    if request.param == "torch-cluster":
        pytest.importorskip("torch_cluster")
    monkeypatch.setattr(search, "_search", SEARCHES[request.param]())
    return request.param


def nearest(points, query, k):
    """The rule: the k nearest; of those as far as the k-th (to a relative 1e-6), the lowest."""
    apart = [math.dist(point, query) for point in points]
    kth = sorted(apart)[k - 1]
    nearer = [i for i, d in enumerate(apart) if d < kth * (1 - TIE)]
    tied = [i for i, d in enumerate(apart) if kth * (1 - TIE) <= d <= kth * (1 + TIE)]
    return sorted(nearer + tied[: k - len(nearer)])


def assert_follows_the_rule(points, queries, k):
    index, distance = k_nearest(points, queries, k)
    assert index.tolist() == [nearest(points.tolist(), q, k) for q in queries.tolist()]
    apart = (points[index] - queries[:, None]).norm(dim=-1)
    torch.testing.assert_close(distance, apart, rtol=1e-12, atol=1e-12)


def double(values):
    return torch.tensor(values, dtype=torch.float64)


@st.composite
def lattice_points(draw):
    """Points and queries on a small integer lattice: many coincide, most distances tie."""
    dimensions = draw(st.integers(2, 3))
    place = st.tuples(*[st.integers(-2, 2)] * dimensions)
    points = draw(st.lists(place, min_size=1, max_size=60))
    queries = draw(st.lists(place, min_size=1, max_size=5))
    return double(points), double(queries), draw(st.integers(1, len(points)))


@few
@given(lattice_points())
def test_follows_the_rule_where_most_distances_tie(case):
    assert_follows_the_rule(*case)


@few
@given(lattice_points())
def test_scipy_follows_the_rule_where_most_distances_tie(case):
    before = search._search
    search._search = search._scipy_search()
    try:
        assert_follows_the_rule(*case)
    finally:
        search._search = before


@pytest.mark.parametrize("k", [1, 7, 100])
def test_finds_the_nearest_of_scattered_points(library, k):
    generator = torch.Generator().manual_seed(k)
    points, queries = (
        torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (100, 20)
    )
    assert_follows_the_rule(points, queries, k)


@pytest.mark.parametrize("layout", ["isotropic", "logpolar_cylinder", "uniform_disc"])
@pytest.mark.parametrize("k", [1, 9, 25])
def test_finds_the_nearest_on_symmetric_arrays(library, layout, k):
    src = SensorArray(9, layout=layout)
    points = torch.cat((src.cortical, src.padding_cortical))
    assert_follows_the_rule(points, src.strided(2).cortical, k)


def test_the_lowest_of_equally_distant_points_wins(library):
    circle = torch.linspace(0, 2 * math.pi, 101, dtype=torch.float64)[:-1]
    points = torch.stack((circle.cos(), circle.sin()), dim=1)
    index, distance = k_nearest(points, double([[0, 0]]), 7)
    assert index.tolist() == [[0, 1, 2, 3, 4, 5, 6]]
    torch.testing.assert_close(distance, torch.ones_like(distance))


def test_ties_are_found_however_many_there_are(library):
    """Far more than the search's first look takes in; the nearest comes last."""
    points = torch.cat((double([[1.0, 0.0]]).repeat(500, 1), double([[0.5, 0.0]])))
    index, _ = k_nearest(points, double([[0.0, 0.0], [2.0, 0.0]]), 3)
    assert index.tolist() == [[0, 1, 500], [0, 1, 2]]


@pytest.mark.parametrize(("difference", "winner"), [(0.5e-6, 0), (2e-6, 1)])
def test_distances_tie_to_a_relative_millionth(library, difference, winner):
    points = double([[1 + difference, 0], [1, 0], [5, 0]])
    index, _ = k_nearest(points, double([[0, 0]]), 1)
    assert index.item() == winner


def test_only_ties_at_the_last_place_matter(library):
    """Equal points nearer than the k-th are all in, wherever they stand."""
    points = double([[2, 0], [0, 2], [-1, 0], [1, 0], [0, -2]])
    index, _ = k_nearest(points, double([[0, 0]]), 3)
    assert index.tolist() == [[0, 2, 3]]


def test_neighbours_ascend_and_distances_go_with_them(library):
    points = double([[3, 0], [1, 0], [2, 0]])
    index, distance = k_nearest(points, double([[0, 0]]), 3)
    assert index.tolist() == [[0, 1, 2]]
    assert distance.tolist() == [[3, 1, 2]]


def test_a_query_on_a_point_is_at_distance_zero(library):
    points = double([[1, 1], [0, 0], [1, 1]])
    index, distance = k_nearest(points, points[:1], 1)
    assert (index.item(), distance.item()) == (0, 0)


def test_large_searches_are_worked_through_in_pieces(monkeypatch):
    monkeypatch.setattr(search, "_CHUNK", 50)
    array = SensorArray(9)
    assert_follows_the_rule(array.cortical, array.cortical, 9)


def test_select_nearest_tells_whether_more_ties_may_lie_beyond_its_candidates():
    near = torch.tensor([[4, 2, 7], [4, 2, 7]])
    apart = double([[1, 1, 1], [1, 1, 2]])
    index, distance, settled = select_nearest(near, apart, 2)
    assert index.tolist() == [[2, 4], [2, 4]]
    assert distance.tolist() == [[1, 1], [1, 1]]
    assert settled.tolist() == [False, True]


def test_torch_cluster_is_what_searches_where_it_is_installed():
    pytest.importorskip("torch_cluster")
    assert "torch_cluster" in search._search.__qualname__


class Broken(types.ModuleType):
    """A compiled package that was built for another torch."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise OSError("undefined symbol")


@pytest.mark.parametrize("package", [None, Broken("torch_cluster")], ids=["missing", "broken"])
def test_scipy_searches_where_torch_cluster_cannot_be_imported(monkeypatch, package):
    monkeypatch.setitem(sys.modules, "torch_cluster", package)
    spec = importlib.util.spec_from_file_location("search_again", search.__file__)
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    assert "scipy" in again._search.__qualname__
    array = SensorArray(9)
    index, distance = again.k_nearest(array.cortical, array.cortical, 9)
    expected_index, expected_distance = k_nearest(array.cortical, array.cortical, 9)
    assert index.equal(expected_index)
    assert distance.equal(expected_distance)
