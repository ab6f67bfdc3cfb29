"""Agreement with the upstream package (fovi 2.4.0), on results recorded from it.

`tests/data/*.npz` were written by `benchmarks/make_golden.py`, which documents them. Upstream works
in single precision, so what it says is right to about 1e-5 where this package says it in double.
What samples an image is compared in `sensing/test_retina.py`.
"""

import functools
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fovigraph import SensorArray, knn_graph, ops
from fovigraph.graph import KernelMap, graph_from_neighbours
from fovigraph.nn import KNNConv, KNNPool

DATA = Path(__file__).parent / "data"
SURFACES = ("planar", "legacy")
surfaces = pytest.mark.parametrize("surface", SURFACES)
combinations = pytest.mark.parametrize("index", range(6))


def recorded(name):
    """The arrays of a file as tensors, integers as int64."""
    with np.load(DATA / f"{name}.npz") as file:
        assert str(file["version"]) == "2.4.0"
        arrays = {key: file[key] for key in file.files if key != "version"}
    return {
        key: torch.from_numpy(a.astype(np.int64) if a.dtype.kind in "iu" else a)
        for key, a in arrays.items()
    }


@pytest.fixture(scope="module")
def geometry():
    return recorded("geometry")


@pytest.fixture(scope="module")
def recorded_graphs():
    return recorded("graphs")


@pytest.fixture(scope="module")
def layers():
    return recorded("layers")


def array(fov, cmf_a, rings, surface="planar"):
    return SensorArray(int(rings), fov=fov, cmf_a=cmf_a, field_geometry=surface)


# ---- coordinates


def node_counts_within_rounding(fov, cmf_a, rings, relative=1e-5):
    """Fewest and most nodes if the spacing around every ring were off by a little."""
    step = math.log1p(fov / 2 / cmf_a) / (rings - 1)
    radii = [cmf_a * math.expm1(step * i) for i in range(rings + 1)]
    ratios = [4 * math.pi * radii[i] / (radii[i + 1] - radii[i - 1]) for i in range(1, rings)]
    return tuple(
        1 + sum(math.ceil(ratio * (1 + off)) for ratio in ratios) for off in (-relative, relative)
    )


def test_node_counts_of_random_arrays_are_equal_but_where_a_spacing_divides_exactly(geometry):
    differ = 0
    for (fov, cmf_a, rings), count in zip(
        geometry["random"].tolist(), geometry["random_count"].tolist(), strict=True
    ):
        own = len(array(fov, cmf_a, rings))
        if own != count:
            differ += 1
            fewest, most = node_counts_within_rounding(fov, cmf_a, int(rings))
            assert abs(own - count) == 1
            assert fewest <= min(own, count) < max(own, count) <= most
    assert differ <= 3


def test_arrays_matched_to_an_image_have_the_same_rings_and_nodes():
    for side, rings, count in zip(
        *(x.tolist() for x in recorded("matching").values()), strict=True
    ):
        matched = SensorArray.matched(side, fov=16.0, cmf_a=0.5)
        assert (matched.resolution, len(matched)) == (rings, count)


@combinations
def test_visual_coordinates(geometry, index):
    own = array(*geometry["combinations"][index].tolist())
    assert len(own) == geometry[f"count{index}"]
    expected = geometry[f"cartesian{index}"].double()
    torch.testing.assert_close(own.cartesian, expected, rtol=0, atol=1e-5)


@surfaces
@combinations
def test_cortical_coordinates(geometry, index, surface):
    own = array(*geometry["combinations"][index].tolist(), surface)
    expected = geometry[f"cortical_{surface}{index}"].double()
    torch.testing.assert_close(own.cortical, expected, rtol=0, atol=1e-5)


@combinations
def test_padding(geometry, index):
    """Upstream's gap between the last rings, a difference of rounded radii, is taken many times
    over as the padding's angle, so its error is larger here.
    """
    own = array(*geometry["combinations"][index].tolist()).padding_cartesian
    torch.testing.assert_close(own, geometry[f"padding{index}"].double(), rtol=0, atol=1e-4)


# ---- neighbourhoods


ALL = [(index, surface) for index in range(7) for surface in SURFACES]
every_graph = pytest.mark.parametrize(("index", "surface"), ALL)


@pytest.fixture(scope="module")
def compare(recorded_graphs):
    """Returns one recorded graph beside the package's own over the same arrays."""

    @functools.cache
    def beside(index, surface):
        fov, cmf_a, rings_src, rings_dst, k, kernel_size = recorded_graphs["graphs"][index].tolist()
        src, dst = (array(fov, cmf_a, rings, surface) for rings in (rings_src, rings_dst))
        metric = "visual" if recorded_graphs["visual"][index] else "cortical"
        graph = knn_graph(src, dst, int(k), metric)
        neighbor = recorded_graphs[f"neighbor{index}_{surface}"]
        edge, listed = common_edges(graph, neighbor)
        return SimpleNamespace(
            graph=graph,
            neighbor=neighbor,
            edge=edge,  # which of the graph's edges upstream has too, [E]
            cell=graph.kernel_map(int(kernel_size)).cell[edge],
            all_cells=recorded_graphs[f"cell{index}_{surface}"],
            expected_cell=recorded_graphs[f"cell{index}_{surface}"][listed],
            expected_distance=recorded_graphs.get(f"distance{index}_{surface}"),
            listed=listed,  # where these stand in upstream's list, [N, k]
            tied=ties_at_the_last_place(src, dst, graph.k, metric),
            kernel_size=int(kernel_size),
        )

    return beside


def common_edges(graph, neighbor):
    """Which of a graph's edges are in neighbour lists, and which entries of the lists they are."""
    src, dst = graph.edge_index
    points = graph.num_src + len(graph.src.padding_polar)
    number = src + dst * points
    listed = neighbor + torch.arange(len(neighbor))[:, None] * points
    edge = torch.isin(number, listed)
    in_order = number[edge]
    flat = listed.flatten()
    entry = flat.argsort()[torch.searchsorted(flat.sort().values, in_order)]
    return edge, (entry // neighbor.shape[1], entry % neighbor.shape[1])


def border_distance(offset, kernel_size):
    """How far offsets are from the nearest border between two cells, in cells."""
    position = (offset.double() + 1) / 2 * (kernel_size - 1)
    return (position.frac() - 0.5).abs().amin(dim=1)


def ties_at_the_last_place(src, dst, k, metric):
    """Whether the k-th and (k + 1)-th distances of every node of dst tie, to a relative 1e-5."""
    if metric == "visual":
        points, queries = (src.cartesian, src.padding_cartesian), dst.cartesian
    else:
        points, queries = (src.cortical, src.padding_cortical), dst.cortical
    apart = (torch.cat(points)[None] - queries[:, None]).norm(dim=-1).sort(dim=1).values
    return apart[:, k] <= apart[:, k - 1] * (1 + 1e-5)


@every_graph
def test_neighbours_are_the_same_but_at_nodes_with_a_tie_at_the_last_place(compare, index, surface):
    both = compare(index, surface)
    assert both.graph.k == both.neighbor.shape[1]
    src, dst = both.graph.edge_index
    for node, neighbors in enumerate(both.neighbor):
        own = set(src[dst == node].tolist())
        upstream = set(neighbors[neighbors < both.graph.num_src].tolist())
        assert own == upstream or both.tied[node], f"node {node}"


@surfaces
@pytest.mark.parametrize("index", [0, 2, 4])
def test_distances_to_the_accuracy_of_upstreams(compare, index, surface):
    both = compare(index, surface)
    expected = both.expected_distance[both.listed]
    tolerance = torch.where(expected < 1, 0.025, 1e-4)
    assert ((both.graph.distance[both.edge] - expected).abs() <= tolerance).all()


@every_graph
def test_cells_differ_only_on_the_border_between_two(compare, index, surface):
    """At nodes without a tie at the last place: there, other neighbours mean another scale."""
    both = compare(index, surface)
    differ = (both.cell != both.expected_cell) & ~both.tied[both.listed[0]]
    offset = both.graph.offset[both.edge][differ]
    assert (border_distance(offset, both.kernel_size) < 1e-4).all()


@surfaces
def test_at_least_999_of_1000_cells_are_the_same(compare, surface):
    """Over all common neighbours at nodes without a tie at the last place."""
    graphs = [compare(index, surface) for index in range(7)]
    same = torch.cat([(g.cell == g.expected_cell)[~g.tied[g.listed[0]]] for g in graphs])
    assert len(same) > 10_000
    assert same.double().mean() >= 0.999


@every_graph
def test_given_upstreams_neighbours_cells_differ_only_on_the_border_between_two(
    compare, index, surface
):
    both = compare(index, surface)
    graph = graph_from_neighbours(both.graph.src, both.graph.dst, both.neighbor, both.graph.metric)
    edge, listed = common_edges(graph, both.neighbor)
    assert edge.all()
    differ = graph.kernel_map(both.kernel_size).cell != both.all_cells[listed]
    assert (border_distance(graph.offset[differ], both.kernel_size) < 1e-4).all()


# ---- layers, given upstream's own neighbours


def edges(neighbor, num_src):
    """Neighbour lists as an edge_index without padding, and which entries those edges are."""
    real = neighbor < num_src
    receiver = torch.arange(len(neighbor))[:, None].expand_as(neighbor)
    return torch.stack((neighbor[real], receiver[real])), real


@pytest.fixture(params=SURFACES)
def convolution(request, layers, recorded_graphs):
    """Inputs in this package's layout, edges with cells, and upstream's results."""
    surface = request.param
    edge_index, real = edges(recorded_graphs[f"neighbor0_{surface}"], 230)
    return SimpleNamespace(
        x=nodes_first(layers["x"]).requires_grad_(),
        weight=cells_first(layers["weight"], 3),
        bias=layers["bias"],
        cotangent=nodes_first(layers["cotangent"]),
        edge_index=edge_index,
        cell=recorded_graphs[f"cell0_{surface}"][real],
        output=nodes_first(layers[f"conv_{surface}"]),
        grad_x=nodes_first(layers[f"grad_x_{surface}"]),
        grad_weight=cells_first(layers[f"grad_weight_{surface}"], 3),
        grad_bias=layers[f"grad_bias_{surface}"],
    )


def nodes_first(features):
    """Upstream's [B, C, N] as [B, N, C]."""
    return features.transpose(1, 2).contiguous()


def cells_first(weight, in_channels):
    """Upstream's [C_out, C_in · cells] as [cells, C_in, C_out]."""
    return weight.unflatten(1, (in_channels, -1)).permute(2, 1, 0).contiguous()


def assert_close(own, upstream):
    """To 1e-5 of the largest value."""
    atol = 1e-5 * upstream.abs().max().item()
    torch.testing.assert_close(own, upstream, rtol=1e-5, atol=atol)


def test_a_convolution_over_a_kernel_map(convolution):
    c = convolution
    kernel_map = KernelMap.from_edges(
        c.edge_index, c.cell, num_src=230, num_dst=60, num_cells=len(c.weight)
    )
    weight = c.weight.requires_grad_()
    y = ops.knn_conv(c.x, weight, kernel_map)
    assert_close(y + c.bias, c.output)
    (y * c.cotangent).sum().backward()
    assert_close(c.x.grad, c.grad_x)
    assert_close(weight.grad, c.grad_weight)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "messages"])
def test_a_convolution_layer_over_raw_edges(convolution, fused):
    c = convolution
    layer = KNNConv(3, 8, kernel_size=10)
    layer.fused = fused
    layer.load_state_dict({"weight": c.weight, "bias": c.bias})
    y = layer((c.x, None), c.edge_index, c.cell, size=(230, 60))
    assert_close(y, c.output)
    (y * c.cotangent).sum().backward()
    assert_close(c.x.grad, c.grad_x)
    assert_close(layer.weight.grad, c.grad_weight)
    assert_close(layer.bias.grad, c.grad_bias)


@surfaces
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "messages"])
@pytest.mark.parametrize("mode", ["max", "mean", "sum"])
def test_a_pool_over_raw_edges(layers, surface, mode, fused):
    edge_index, _ = edges(layers[f"pool_neighbor_{surface}"], 230)
    pool = KNNPool(mode)
    pool.fused = fused
    y = pool((nodes_first(layers["x"]), None), edge_index, size=(230, 60))
    assert_close(y, nodes_first(layers[f"pool_{mode}_{surface}"]))


@surfaces
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "messages"])
def test_a_gaussian_pool_over_raw_edges_to_the_accuracy_of_upstreams_distances(
    layers, surface, fused
):
    neighbor = layers[f"pool_neighbor_{surface}"]
    src, dst = (array(16.0, 0.5, rings, surface) for rings in (13, 7))
    points = torch.cat((src.cortical, src.padding_cortical))
    distance = (points[neighbor] - dst.cortical[:, None]).norm(dim=-1)
    nearest, farthest = distance.aminmax(dim=1, keepdim=True)
    edge_index, real = edges(neighbor, 230)
    relative = ((distance - nearest) / (farthest - nearest))[real].float()
    pool = KNNPool("gaussian", sigma=layers["gaussian_sigma"].item())
    pool.fused = fused
    y = pool((nodes_first(layers["x"]), None), edge_index, relative, size=(230, 60))
    expected = nodes_first(layers[f"pool_gaussian_{surface}"])
    torch.testing.assert_close(y, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("index", range(3))
def test_a_dense_kernel_loads_into_the_same_cells(layers, index):
    kernel, size = layers[f"kernel{index}"], int(layers["loaded_size"][index])
    dense = torch.nn.Conv2d(3, 4, kernel.shape[-1], bias=False)
    dense.load_state_dict({"weight": kernel})
    layer = KNNConv(3, 4, kernel_size=size, bias=False)
    layer.load_conv2d(dense)
    assert_close(layer.weight.detach(), cells_first(layers[f"loaded{index}"], 3))
