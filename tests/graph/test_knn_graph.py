"""The kNN graph: its edges and what they carry, by the definition in plain Python."""

import copy
import io
import json
import logging
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode

import fovigraph
from fovigraph import SensorArray, knn_graph
from fovigraph.graph import KNNGraph, graph_from_neighbours, search
from fovigraph.graph.knn_graph import GEOMETRY, INTERPOLATIONS

TIE = 1e-6
TENSORS = (*GEOMETRY, "ptr")


def array(resolution, **options):
    return SensorArray(resolution, **{"fov": 30.0, "cmf_a": 2.0, **options})


GRAPHS = {
    "isotropic": (array(9), array(5), 9, "cortical"),
    "isotropic, large k": (array(7), array(4), 36, "cortical"),
    "same array": (array(6), array(6), 9, "cortical"),
    "to one node": (array(6), array(1), 16, "cortical"),
    "from one node": (array(1), array(3), 4, "cortical"),
    "one neighbour": (array(7), array(4), 1, "cortical"),
    "finer destination": (array(4), array(7), 4, "cortical"),
    "foveated": (array(8, cmf_a=0.15), array(5, cmf_a=0.15), 9, "cortical"),
    "legacy": (array(9, field_geometry="legacy"), array(5, field_geometry="legacy"), 9, "cortical"),
    "visual": (array(9), array(5), 9, "visual"),
    "visual, other field": (array(9), array(5, fov=24.0, cmf_a=0.5), 16, "visual"),
    "wider field": (array(7), array(6, fov=36.0), 9, "cortical"),
    "logpolar_cylinder": (
        array(8, layout="logpolar_cylinder"),
        array(4, layout="logpolar_cylinder"),
        9,
        "cortical",
    ),
    "uniform_disc": (
        array(9, layout="uniform_disc"),
        array(4, layout="uniform_disc"),
        9,
        "cortical",
    ),
    "uniform, visual": (array(9, layout="uniform_disc"), array(4), 9, "visual"),
}
every_graph = pytest.mark.parametrize("name", GRAPHS)


def points(of, coordinates):
    """Nodes, then padding."""
    return getattr(of, coordinates).tolist() + getattr(of, f"padding_{coordinates}").tolist()


def scaled(values, margin):
    low, high = min(values), max(values)
    return [(value - low) / (high - low + margin or 1) for value in values]


def neighbourhood(src, dst, node, k, metric):
    """Neighbours of one node, padding included, as a dictionary of columns: SPEC §4, §5 and §6."""
    field = [(x * src.fov / 2, y * src.fov / 2) for x, y in points(src, "cartesian")]
    here = tuple(x * dst.fov / 2 for x in dst.cartesian[node].tolist())
    places = field if metric == "visual" else points(src, "cortical")
    place = here if metric == "visual" else dst.cortical[node].tolist()

    apart = [math.dist(p, place) for p in places]
    k = min(k, len(src))
    kth = sorted(apart)[k - 1]
    nearer = [i for i, d in enumerate(apart) if d < kth * (1 - TIE)]
    tied = [i for i, d in enumerate(apart) if kth * (1 - TIE) <= d <= kth * (1 + TIE)]
    index = sorted(nearer + tied[: k - len(nearer)])

    u, v = [], []
    for i in index:
        angle = math.atan2(field[i][1] - here[1], field[i][0] - here[0])
        u.append(apart[i] * math.cos(angle))
        v.append(apart[i] * math.sin(angle))
    return {
        "index": index,
        "distance": [apart[i] for i in index],
        "relative_distance": scaled([apart[i] for i in index], 0),
        "offset": [
            (2 * a - 1, 2 * b - 1) for a, b in zip(scaled(u, 1e-6), scaled(v, 1e-6), strict=True)
        ],
    }


def real_edges(src, dst, k, metric, column):
    """One column of every neighbourhood in turn, without padding."""
    out = []
    for node in range(len(dst)):
        near = neighbourhood(src, dst, node, k, metric)
        out += [x for i, x in zip(near["index"], near[column], strict=True) if i < len(src)]
    return out


def receivers(src, dst, k, metric):
    out = []
    for node in range(len(dst)):
        near = neighbourhood(src, dst, node, k, metric)["index"]
        out += [node] * sum(i < len(src) for i in near)
    return out


# ---- edges


@every_graph
def test_edges_are_the_nearest_real_neighbours_sorted_by_destination_then_source(name):
    case = GRAPHS[name]
    graph = knn_graph(*case)
    assert graph.edge_index.tolist() == [real_edges(*case, "index"), receivers(*case)]
    assert graph.edge_index.dtype == torch.int64


@every_graph
def test_distance_is_measured_by_the_metric(name):
    case = GRAPHS[name]
    expected = torch.tensor(real_edges(*case, "distance"))
    torch.testing.assert_close(knn_graph(*case).distance, expected, rtol=1e-6, atol=1e-6)


@every_graph
def test_relative_distance_is_scaled_within_the_neighbourhood_padding_included(name):
    case = GRAPHS[name]
    expected = torch.tensor(real_edges(*case, "relative_distance"))
    torch.testing.assert_close(knn_graph(*case).relative_distance, expected, rtol=1e-6, atol=1e-6)


@every_graph
def test_offset_is_visual_direction_and_length_scaled_within_the_neighbourhood(name):
    case = GRAPHS[name]
    expected = torch.tensor(real_edges(*case, "offset"))
    torch.testing.assert_close(knn_graph(*case).offset, expected, rtol=1e-6, atol=1e-6)


@every_graph
def test_offsets_lie_in_the_kernel(name):
    offset = knn_graph(*GRAPHS[name]).offset
    assert offset.min() >= -1
    assert offset.max() <= 1


@every_graph
@pytest.mark.parametrize("kernel_size", [1, 3, 6, 11])
def test_cells_are_the_grid_points_nearest_to_the_offsets(name, kernel_size):
    """Ties, to single precision, go to the lower cell."""
    case = GRAPHS[name]
    grid = [2 * i / (kernel_size - 1) - 1 for i in range(kernel_size)] if kernel_size > 1 else [-1]

    def closest(x):
        steps = [abs(x - g) * (kernel_size - 1) / 2 for g in grid]
        return next(i for i, s in enumerate(steps) if s <= min(steps) + 2e-5)

    expected = [closest(u) * kernel_size + closest(v) for u, v in real_edges(*case, "offset")]
    kernel_map = knn_graph(*case).kernel_map(kernel_size)
    assert kernel_map.cell.tolist() == expected
    assert kernel_map.num_cells == kernel_size**2


def test_padding_takes_part_in_the_search_and_has_no_edges():
    src, dst = array(9), array(5)
    graph = knn_graph(src, dst, k=16)
    edges = graph.edge_index[1].bincount(minlength=len(dst))
    inner, outer = dst.eccentricity < 4, dst.eccentricity > 14.9
    assert (edges[inner] == 16).all()
    assert (edges[outer] < 16).all()
    assert graph.edge_index[0].max() < len(src)


def test_padding_shapes_the_neighbourhood_that_it_is_dropped_from():
    """At the right edge of the field, what is left of a neighbourhood is its left part."""
    src = array(9)
    graph = knn_graph(src, src, k=25)
    rightmost = int(src.cartesian[:, 0].argmax())
    u = graph.offset[graph.edge_index[1] == rightmost, 0]
    assert u.min() == pytest.approx(-1)
    assert u.max() < 0.5  # with padding gone first, it would be 1


def test_offset_u_points_right_and_v_up():
    src = array(9)
    graph = knn_graph(src, src.with_resolution(1), k=19)
    seen = src.cartesian[graph.edge_index[0]]
    to_right, to_top = seen[:, 0].argmax(), seen[:, 1].argmax()
    assert graph.offset[to_right, 0] == graph.offset[:, 0].max()
    assert graph.offset[to_top, 1] == graph.offset[:, 1].max()


def test_a_node_is_its_own_nearest_neighbour():
    src = array(6)
    graph = knn_graph(src, src, k=1)
    assert graph.edge_index.tolist() == [list(range(len(src)))] * 2
    assert not graph.distance.any()
    assert not graph.relative_distance.any()
    assert (graph.offset == -1).all()


def test_a_node_between_equally_near_neighbours_takes_the_lowest():
    """All of the first ring, and with it the tie at its end, is equally far from the centre."""
    src = array(6)
    graph = knn_graph(src, src.with_resolution(1), k=4)
    assert graph.edge_index[0].tolist() == [0, 1, 2, 3]


def test_nodes_win_over_equally_near_padding():
    """In the visual field the first padding ring lies as far outside of the edge as the last ring
    but one lies inside, both with a node at the angle 0.
    """
    src = array(6)
    edge = int(src.cartesian[:, 0].argmax())
    inside = int((src.polar_angle == 0).nonzero()[-2])
    outside = src.padding_cartesian[0]
    assert (outside + src.cartesian[inside] - 2 * src.cartesian[edge]).norm() < 1e-12
    graph = knn_graph(src, src, k=2, metric="visual")
    assert graph.edge_index[0][graph.edge_index[1] == edge].tolist() == [inside, edge]


def test_a_graph_is_the_same_every_time():
    one, two = (knn_graph(array(9), array(5), k=16) for _ in range(2))
    for name in TENSORS:
        assert getattr(one, name).equal(getattr(two, name)), name


# ---- k


def test_k_is_capped_at_the_source_nodes_and_says_so(caplog):
    src = array(3)
    with caplog.at_level(logging.INFO, logger="fovigraph"):
        graph = knn_graph(src, array(2), k=1000)
    assert graph.k == len(src)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.name.startswith("fovigraph.")
    message = record.getMessage()
    assert "k=1000" in message
    assert f"k={len(src)}" in message


def test_a_k_that_fits_is_not_spoken_of(caplog):
    src = array(3)
    with caplog.at_level(logging.DEBUG, logger="fovigraph"):
        assert knn_graph(src, array(2), k=len(src)).k == len(src)
    assert not caplog.records


@pytest.mark.parametrize("k", [0, -1])
def test_k_must_be_at_least_one(k):
    with pytest.raises(ValueError, match=f"k must be at least 1, got {k}"):
        knn_graph(array(3), array(2), k)


def test_more_edges_than_there_may_be_are_refused_with_the_limit():
    src = SensorArray(4096, layout="logpolar_cylinder")
    with pytest.raises(ValueError, match=r"k must be at most 16, which gives 268,435,456 .*got 17"):
        knn_graph(src, src, 17)


@pytest.mark.parametrize("value", [None, 3, "retina", [1], torch.ones(3, 2)], ids=repr)
@pytest.mark.parametrize("name", ["src", "dst"])
def test_arrays_must_be_arrays(name, value):
    arrays = {"src": array(3), "dst": array(2), name: value}
    with pytest.raises(TypeError, match=f"{name} must be a SensorArray, got "):
        knn_graph(**arrays, k=4)
    with pytest.raises(TypeError, match=f"{name} must be a SensorArray, got "):
        graph_from_neighbours(**arrays, neighbours=torch.zeros(3, 1).long())


@pytest.mark.parametrize(
    "value", [None, [[0]], 3, "0", torch.ones(3, 1, dtype=torch.bool)], ids=str
)
def test_given_neighbours_must_be_a_tensor_of_whole_numbers(value):
    with pytest.raises(TypeError, match="neighbours must be"):
        graph_from_neighbours(array(6), array(2), value)


@pytest.mark.parametrize("k", [9.0, "9", None, True, math.nan, math.inf])
def test_k_must_be_a_whole_number(k):
    with pytest.raises(TypeError, match="k must be a whole number"):
        knn_graph(array(3), array(2), k)


# ---- metrics and surfaces


@pytest.mark.parametrize(
    ("metric", "hint"),
    [("cortcal", r" \(did you mean 'cortical'\?"), ("taxicab", "$")],
)
def test_an_unknown_metric_is_refused_with_the_known_ones_and_the_nearest(metric, hint):
    known = "'cortical', 'geodesic', 'geodesic_from_node', 'visual'"
    with pytest.raises(ValueError, match=f"metric must be one of {known}, got {metric!r}{hint}"):
        knn_graph(array(3), array(2), 4, metric)


@pytest.mark.parametrize(
    "other",
    [
        array(3, cmf_a=0.5),
        array(3, field_geometry="legacy"),
        array(3, layout="uniform_disc"),
        array(3, layout="logpolar_cylinder"),
    ],
    ids=str,
)
@pytest.mark.parametrize("metric", ["cortical", "geodesic"])
def test_arrays_on_different_surfaces_are_refused_where_nearness_is_measured_on_them(other, metric):
    with pytest.raises(ValueError, match=r"src and dst must lie on the same .* metric='visual'"):
        knn_graph(array(4), other, 4, metric)


def test_logpolar_arrays_of_different_fields_lie_on_different_cylinders():
    src, dst = (array(4, layout="logpolar_cylinder", fov=fov) for fov in (30.0, 20.0))
    with pytest.raises(ValueError, match="same cortical surface"):
        knn_graph(src, dst, 4)


def test_nearness_in_the_visual_field_does_not_depend_on_the_surface():
    planar = knn_graph(array(9), array(5), 9, "visual")
    legacy = knn_graph(array(9, field_geometry="legacy"), array(5), 9, "visual")
    assert planar.edge_index.equal(legacy.edge_index)
    assert planar.distance.equal(legacy.distance)


# ---- neighbours found elsewhere


def found(name):
    """The neighbours of every node, padding included, in another order than the graph's."""
    src, dst, k, metric = GRAPHS[name]
    rows = [neighbourhood(src, dst, node, k, metric)["index"][::-1] for node in range(len(dst))]
    return src, dst, torch.tensor(rows), metric


@every_graph
def test_given_neighbours_make_the_graph_that_finds_them(name):
    given, expected = graph_from_neighbours(*found(name)), knn_graph(*GRAPHS[name])
    assert given.edge_index.equal(expected.edge_index)
    assert given.k == expected.k
    for buffer in ("distance", "offset", "relative_distance"):
        mine, yours = getattr(given, buffer), getattr(expected, buffer)
        torch.testing.assert_close(mine, yours, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("neighbours", "error", "message"),
    [
        ([[0, 1]], ValueError, r"neighbours must have shape \[3, k\], .* got \[1, 2\]"),
        ([0, 1, 2], ValueError, "neighbours must have shape"),
        ([[0.0]] * 3, TypeError, "neighbours must be whole numbers"),
        ([[0, -1]] * 3, ValueError, "neighbours must be from 0 to .* got -1 to 0"),
        ([[0, 9999]] * 3, ValueError, "neighbours must be from 0 to .* got 0 to 9999"),
        (
            [[3, 5, 4], [3, 5, 3], [3, 5, 4]],
            ValueError,
            "must not name a node twice.* node 1 of dst",
        ),
    ],
    ids=str,
)
def test_bad_given_neighbours_are_refused(neighbours, error, message):
    src, dst = array(6), array(2)
    assert len(dst) == 3
    with pytest.raises(error, match=message):
        graph_from_neighbours(src, dst, torch.tensor(neighbours))


# ---- one graph with and without torch-cluster


CASES = [
    ({"resolution": 26}, 13, 49, "cortical"),
    ({"resolution": 13, "fov": 65.0, "cmf_a": 0.15}, 13, 9, "cortical"),
    ({"resolution": 13, "field_geometry": "legacy"}, 7, 25, "cortical"),
    ({"resolution": 13}, 7, 9, "visual"),
    ({"resolution": 12, "layout": "logpolar_cylinder"}, 6, 16, "cortical"),
    ({"resolution": 12, "layout": "uniform_disc"}, 6, 16, "visual"),
    ({"resolution": 12, "layout": "uniform_disc"}, 6, 9, "cortical"),
]


def edges_of(options, resolution, k, metric):
    src = SensorArray(**options)
    return knn_graph(src, src.with_resolution(resolution), k, metric).edge_index.tolist()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_scipy_and_torch_cluster_give_the_same_graph_edge_for_edge(monkeypatch, case):
    pytest.importorskip("torch_cluster")
    monkeypatch.setattr(search, "_search", search._torch_cluster_search())
    expected = edges_of(*case)
    monkeypatch.setattr(search, "_search", search._scipy_search())
    assert edges_of(*case) == expected


WITHOUT_TORCH_CLUSTER = """
import json, sys
sys.modules["torch_cluster"] = None
from fovigraph import SensorArray, knn_graph
from fovigraph.graph import search
assert "scipy" in search._search.__qualname__
graphs = []
for options, resolution, k, metric in json.load(sys.stdin):
    src = SensorArray(**options)
    graphs.append(knn_graph(src, src.with_resolution(resolution), k, metric).edge_index.tolist())
json.dump(graphs, sys.stdout)
"""


def test_where_torch_cluster_cannot_be_imported_the_graphs_are_the_same():
    root = str(Path(fovigraph.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH_CLUSTER],
        input=json.dumps(CASES),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [edges_of(*case) for case in CASES]


# ---- being a module


@pytest.fixture
def small():
    return knn_graph(array(7), array(4), k=9)


def assert_same_graph(one, two):
    for name in TENSORS:
        assert getattr(one, name).equal(getattr(two, name)), name
    assert (one.src, one.dst, one.k, one.metric) == (two.src, two.dst, two.k, two.metric)
    assert one.kernel_map(6).cell.equal(two.kernel_map(6).cell)


def test_a_node_has_at_most_k_edges(small):
    geometry = {name: getattr(small, name) for name in GEOMETRY}
    most = int(small.ptr.diff().max())
    assert KNNGraph(small.src, small.dst, most, "cortical", **geometry).k == most
    with pytest.raises(ValueError, match=f"k must be at least {most}, .* got {most - 1}"):
        KNNGraph(small.src, small.dst, most - 1, "cortical", **geometry)


def changed(graph, **tensors):
    """The same graph with other tensors, by the constructor."""
    geometry = {name: getattr(graph, name) for name in GEOMETRY}
    return KNNGraph(graph.src, graph.dst, graph.k, graph.metric, **{**geometry, **tensors})


def test_a_graph_can_be_made_of_its_parts(small):
    assert_same_graph(changed(small), small)
    assert changed(small).edge_index is small.edge_index


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("edge_index", lambda e: e.flip(1), ValueError, "edge_index must be sorted by dest"),
        ("edge_index", lambda e: e + 10**6, ValueError, "name nodes of .* sources and .* dest"),
        ("edge_index", lambda e: e - 1, ValueError, "edge_index must be .* name nodes of"),
        ("edge_index", lambda e: e[:, [0, 0, *range(2, e.shape[1])]], ValueError, "repeats"),
        ("edge_index", lambda e: e.int(), TypeError, r"edge_index must be torch\.int64, got torch"),
        ("edge_index", lambda e: e.float(), TypeError, r"edge_index must be torch\.int64"),
        ("edge_index", lambda e: e.tolist(), TypeError, "edge_index must be an int64 torch"),
        ("edge_index", lambda e: e.T, ValueError, r"edge_index must have shape \[2, E\], got"),
        ("edge_index", lambda e: e.to("meta"), ValueError, "edge_index must have values, got"),
        ("distance", lambda d: d[:3], ValueError, r"distance must have one entry .* shape \[3\]"),
        (
            "distance",
            lambda d: d - 100,
            ValueError,
            "distance must be finite and at least 0, got -100",
        ),
        ("distance", lambda d: d + math.inf, ValueError, "distance must be finite .* got inf"),
        ("distance", lambda d: d.long(), TypeError, "distance must be floating point, got"),
        ("distance", lambda d: None, TypeError, "distance must be a floating-point torch.Tensor"),
        ("offset", lambda o: o[:, 0], ValueError, "offset must have one entry for each of"),
        (
            "offset",
            lambda o: o * math.nan,
            ValueError,
            "offset must be finite and from -1 to 1, got nan",
        ),
        (
            "offset",
            lambda o: o * 2,
            ValueError,
            "offset must be finite and from -1 to 1, got -2 to",
        ),
        ("relative_distance", lambda q: q + 1, ValueError, "relative_distance must be .* 0 to 1"),
        ("relative_distance", lambda q: q.to("meta"), ValueError, "must be on cpu like edge_index"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(small, name, change, error, message):
    with pytest.raises(error, match=message):
        changed(small, **{name: change(getattr(small, name))})


def test_arrays_numbers_and_names_that_are_none_are_refused(small):
    geometry = {name: getattr(small, name) for name in GEOMETRY}
    right = {"src": small.src, "dst": small.dst, "k": 9, "metric": "cortical", **geometry}
    for name, value, error in (
        *(("src", 3, TypeError), ("dst", None, TypeError), ("k", 9.0, TypeError)),
        *(("k", 10**100, ValueError), ("metric", "typo", ValueError), ("metric", 3, TypeError)),
    ):
        with pytest.raises(error, match=f"{name} must be"):
            KNNGraph(**{**right, name: value})


def test_has_no_parameters_no_buffers_and_an_empty_state_dict(small):
    assert not list(small.parameters())
    assert not list(small.buffers())
    assert small.state_dict() == {}


def test_knows_its_sizes_and_prints_itself(small):
    assert small.size() == (small.num_src, small.num_dst) == (len(array(7)), len(array(4)))
    assert small.num_edges == small.edge_index.shape[1]
    assert repr(small) == (
        f"KNNGraph({small.num_src} → {small.num_dst} nodes, k=9, {small.num_edges} edges)"
    )
    assert repr(knn_graph(array(7), array(4), 9, "visual")).endswith("edges, metric='visual')")


def test_geometry_is_kept_in_single_precision(small):
    for buffer in (small.distance, small.offset, small.relative_distance):
        assert buffer.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a network"])
def test_casting_to_half_leaves_the_geometry_as_it_is(small, dtype, nested):
    before = copy.deepcopy(small)
    if nested:
        network = torch.nn.Sequential(small, torch.nn.Linear(2, 2)).to(dtype)
        assert network[1].weight.dtype == dtype
    else:
        assert small.to(dtype) is small
    assert small.offset.dtype == torch.float32
    assert_same_graph(small, before)


def test_half_leaves_the_geometry_as_it_is(small):
    before = copy.deepcopy(small)
    assert_same_graph(small.half(), before)


def test_double_takes_the_geometry_along(small):
    before = copy.deepcopy(small)
    small.double()
    assert small.offset.dtype == small.distance.dtype == torch.float64
    assert small.edge_index.dtype == torch.int64
    assert small.offset.float().equal(before.offset)
    assert small.kernel_map(6).cell.equal(before.kernel_map(6).cell)


def test_a_deep_copy_is_the_same_graph_and_shares_nothing(small):
    small.kernel_map(6)
    other = copy.deepcopy(small)
    assert_same_graph(small, other)
    other.offset.zero_()
    assert small.offset.any()
    assert other.kernel_map(6) is not small.kernel_map(6)


def test_survives_pickling(small):
    small.kernel_map(6)
    other = pickle.loads(pickle.dumps(small))
    assert isinstance(other, KNNGraph)
    assert_same_graph(small, other)


def test_what_is_pickled_does_not_grow_with_use(small):
    """Kernel maps are made anew where they are needed."""
    size = len(pickle.dumps(small))
    small.kernel_map(6)
    assert len(pickle.dumps(small)) == size


def test_survives_saving_by_torch(small):
    file = io.BytesIO()
    torch.save(small, file)
    file.seek(0)
    assert_same_graph(small, torch.load(file, weights_only=False))


def test_it_comes_back_from_the_meta_device_with_its_values(small):
    before = copy.deepcopy(small)
    small.kernel_map(6)
    assert small.to("meta").kernel_map(6).cell.is_meta
    assert small.edge_index.is_meta
    assert_same_graph(small.to("cpu"), before)
    assert_same_graph(small.to("meta").to_empty(device="cpu"), before)
    assert_same_graph(copy.deepcopy(small.to("meta")).to_empty(device="cpu"), before)


CONTEXTS = {
    "inference mode": torch.inference_mode,
    "another device": lambda: torch.device("meta"),
    "fake tensors": lambda: FakeTensorMode(allow_non_fake_inputs=True),
}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_made_and_first_used_in_any_context_it_is_the_same_and_can_be_trained_on(
    context, interpolation
):
    def maps(graph):
        kernel_map = graph.kernel_map(6, interpolation)
        ways = (kernel_map.by_dst, kernel_map.by_src, kernel_map.by_cell)
        shares = (kernel_map.share, kernel_map.share_by_cell)
        turned = kernel_map.transposed
        return [
            *(tensor for way in ways for tensor in way),
            *(share for share in shares if share is not None),
            *(turned.dst, turned.src, turned.cell, turned.by_cell.edge),
            *graph.fixed_tensors().values(),
        ]

    with CONTEXTS[context]():
        graph = knn_graph(array(7), array(4), k=9)
        found = maps(graph)
    for mine, yours in zip(found, maps(knn_graph(array(7), array(4), k=9)), strict=True):
        assert type(mine) is torch.Tensor
        assert not mine.is_inference()
        assert mine.equal(yours)
        assert mine.dtype == yours.dtype


def test_a_kernel_map_first_used_in_a_transform_is_an_ordinary_one(small):
    torch.func.grad(lambda x: x * len(small.kernel_map(6).by_cell.ptr))(torch.tensor(1.0))
    for tensor in (small.kernel_map(6).cell, small.kernel_map(6).by_cell.edge):
        assert copy.deepcopy(tensor).numpy().shape == (small.num_edges,)


# ---- kernel maps


def test_a_kernel_map_is_the_graph_with_cells(small):
    kernel_map = small.kernel_map(6)
    assert kernel_map.src.equal(small.edge_index[0])
    assert kernel_map.dst.equal(small.edge_index[1])
    assert (kernel_map.num_src, kernel_map.num_dst) == small.size()
    assert kernel_map.num_cells == 36
    assert len(kernel_map) == small.num_edges


def test_kernel_maps_are_made_once_for_each_size(small):
    assert small.kernel_map(6) is small.kernel_map(6)
    assert small.kernel_map(5) is not small.kernel_map(6)
    assert small.kernel_map(5).num_cells == 25


@pytest.mark.parametrize(
    ("size", "error"), [(0, ValueError), (-1, ValueError), (10**6, ValueError), (3.5, TypeError)]
)
def test_a_bad_kernel_size_is_refused(small, size, error):
    with pytest.raises(error, match="kernel_size must be"):
        small.kernel_map(size)


@pytest.mark.parametrize(("value", "error"), [("cubic", ValueError), (None, TypeError)])
def test_an_unknown_interpolation_is_refused(small, value, error):
    with pytest.raises(error, match="interpolation must be one of 'bilinear', 'nearest', got"):
        small.kernel_map(3, value)


def test_no_two_neighbours_share_a_cell_of_a_grid_of_twice_the_resolution():
    """Why the kernel grid is taken twice as fine as the neighbourhood (AlexNet's second layer)."""
    level = SensorArray.matched(16)
    kernel_map = knn_graph(level, level, k=25).kernel_map(10)
    pairs = torch.stack((kernel_map.dst, kernel_map.cell))
    assert pairs.unique(dim=1).shape == pairs.shape
