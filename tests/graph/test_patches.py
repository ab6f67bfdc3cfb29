"""Patches: figures that must come out, and what each kind of neighbourhood promises."""

import pytest
import torch

import fovigraph as fg
from fovigraph.graph import PatchStep
from fovigraph.graph.geodesic import geodesic_distances
from fovigraph.graph.kernel_map import cell_of
from fovigraph.graph.knn_graph import points_of
from fovigraph.graph.search import select_nearest

A = 2.785765
KNN = {"patches": "knn", "overlap": 1.5}
UPSTREAM = "geodesic_from_node"


def retina(side=64, cmf_a=A, **options):
    return fg.SensorArray.matched(side, cmf_a=cmf_a, **options)


def embedded(array, metric="cortical", **options):
    return fg.GraphPyramid(array, [PatchStep(**options)], metric).graphs[0]


# ---- figures of upstream's patch embeddings, 16 degrees


@pytest.mark.parametrize(
    ("array", "metric", "options", "figures"),
    [
        ({}, UPSTREAM, {}, (3976, 44, 64, 6, 103, 6484)),
        ({"field_geometry": "legacy"}, UPSTREAM, {}, (3976, 44, 64, 6, 103, 6484)),
        ({}, "cortical", {}, (3976, 44, 64, 6, 102, 6424)),
        ({}, "visual", {}, (3976, 44, 64, 6, 118, 7454)),
        ({}, UPSTREAM, KNN, (3976, 44, 64, 6, 144, 8913)),
        ({}, UPSTREAM, KNN | {"fixed_k": True}, (3976, 44, 152, 9, 64, 9595)),
        ({"cmf_a": 60.936638}, UPSTREAM, {}, (4032, 37, 64, 5, 131, 8115)),
        (
            {"cmf_a": 60.936638, "field_geometry": "legacy"},
            UPSTREAM,
            {},
            (4032, 37, 64, 5, 131, 8116),
        ),
        ({"side": 128}, UPSTREAM, {"patch_size": 16}, (16078, 88, 64, 6, 413, 25834)),
        ({"cmf_a": 0.5}, "cortical", KNN | {"inset": False}, (4085, 53, 83, 8, 111, 8395)),
        ({"cmf_a": 0.5}, UPSTREAM, KNN | {"inset": False}, (4085, 53, 83, 8, 111, 8387)),
    ],
)
def test_nodes_patches_neighbours_and_edges(array, metric, options, figures):
    graph = embedded(retina(**array), metric, **options)
    src, dst = graph.src, graph.dst
    found = (len(src), src.resolution, len(dst), dst.resolution, graph.k, graph.num_edges)
    assert found == figures


def test_parts_of_a_partition():
    graph = embedded(retina(), UPSTREAM, patches="partition")
    assert (graph.k, graph.num_edges) == (69, 3976)
    assert graph.ptr.diff().min() == 39


def test_upstreams_largest_part_has_a_node_that_two_patches_are_equally_near_to():
    """It has 70 nodes: single precision takes one such node to the higher of two patches."""
    array = retina()
    patches = PatchStep().next_level(array)
    near, apart = geodesic_distances(
        *points_of(array), patches.degrees, patches.cortical, 4 * (3976 // 64), from_node=True
    )
    padded = len(array) + len(array.padding_polar)
    apart = torch.full((64, padded), torch.inf, dtype=torch.float64).scatter(1, near, apart)
    nearest = apart[:, :3976] <= apart[:, :3976].amin(0) * (1 + 1e-6)
    assert nearest[[47, 48], 3262].all()  # upstream's patch 48 has it, ours 47
    with_all_ties = nearest.sum(1)
    assert with_all_ties[48] == with_all_ties.max() == 70
    lower = nearest.int().argmax(0)
    assert lower.bincount().max() == 69


def test_figures_of_other_layouts():
    """Upstream draws the angles of a fixed number of nodes, and had a k of 101 to 105 there."""
    image, fixed = retina(layout="logpolar_image"), retina(layout="isotropic_fixn")
    found = [
        (len(graph.src), len(graph.dst), graph.k, graph.num_edges)
        for graph in (embedded(image), embedded(fixed, UPSTREAM))
    ]
    assert found == [(4096, 64, 116, 6608), (4096, 64, 103, 6484)]


def test_upstream_counts_masked_nodes_and_patches_as_covering():
    """With its k some nodes are in masked patches alone, which nothing comes from."""
    array = retina(layout="warped_cartesian")
    patches = PatchStep().next_level(array)
    near, apart = geodesic_distances(
        *points_of(array), patches.degrees, patches.cortical, 4 * (4096 // 64), from_node=True
    )
    every = [select_nearest(near, apart, k)[0] for k in (158, 159)]
    assert [len(index[index < 4096].unique()) for index in every] == [4090, 4096]
    assert fg.knn_graph(array, patches, 159, UPSTREAM).num_edges == 4464
    graph = embedded(array, UPSTREAM)
    assert graph.edge_index[0].unique().equal(array.valid_nodes)
    assert graph.k > 159


def test_patches_of_a_masked_array_are_of_what_is_seen():
    array = retina(24, layout="warped_cartesian")
    for patches in ("cover", "partition", "knn"):
        graph = embedded(array, patch_size=6, patches=patches)
        src, dst = graph.edge_index
        assert array.mask[src].all() and graph.dst.mask[dst].all()
        assert 0 < graph.num_edges < graph.k * len(graph.dst)


def test_patches_of_an_image_in_polar_coordinates_reach_around():
    array = retina(24, layout="logpolar_image")
    for patches in ("cover", "partition"):
        graph = embedded(array, patch_size=6, patches=patches)
        src, dst = graph.edge_index
        turn = (array.cortical[src, 1] - graph.dst.cortical[dst, 1]).abs()
        assert (turn > 0.9).any()
        assert (torch.minimum(turn, 1 - turn) < 0.3).all()
    with pytest.raises(ValueError, match="must be 'cortical' or 'visual' for layouts with a flat"):
        embedded(array, "geodesic", patch_size=6)


def test_rings_of_patches_and_padding():
    patches = PatchStep().next_level(retina())
    radii, counts = (patches.eccentricity / 8).mul(1e6).round().unique(return_counts=True)
    assert radii.tolist() == [0, 90962, 210208, 366531, 571461, 840111]
    assert counts.tolist() == [1, 6, 10, 13, 16, 18]
    other = PatchStep().next_level(retina(cmf_a=60.936638))
    assert other.eccentricity.max() / 8 == pytest.approx(0.869159, abs=2e-6)
    arrays = (retina(), retina(cmf_a=60.936638), retina(128))
    assert [len(array.padding_polar) for array in arrays] == [1812, 3638, 7550]


def test_cells_of_the_published_embedding():
    graph = embedded(retina(), UPSTREAM)
    assert graph.ptr.diff().aminmax() == (96, 103)
    cell = cell_of(graph.offset, 16)
    filled = torch.stack((graph.edge_index[1], cell)).unique(dim=1, return_counts=True)[1]
    assert filled.max() == 2
    at = [
        graph.edge_index[0][(graph.edge_index[1] == i) & (graph.distance < 1e-6)] for i in range(4)
    ]
    assert torch.cat(at).tolist() == [0, 128, 135, 141]


# ---- what neighbourhoods promise


@pytest.mark.parametrize("metric", ["cortical", "visual", "geodesic", UPSTREAM])
@pytest.mark.parametrize("layout", ["isotropic", "logpolar_cylinder", "uniform_disc"])
def test_covering_is_complete_and_no_larger_than_it_has_to_be(metric, layout):
    array = retina(24, layout=layout)
    graph = embedded(array, metric, patch_size=6)
    assert graph.edge_index[0].unique().tolist() == list(range(len(array)))
    if metric.startswith("geodesic"):
        return  # with fewer neighbours the surface is another
    fewer = fg.knn_graph(array, graph.dst, graph.k - 1, metric)
    assert len(fewer.edge_index[0].unique()) < len(array)
    assert fg.knn_graph(array, graph.dst, graph.k, metric).edge_index.equal(graph.edge_index)


@pytest.mark.parametrize("metric", ["cortical", "visual", "geodesic"])
def test_a_partition_gives_every_node_to_its_nearest_patch(metric):
    array = retina(24)
    graph = embedded(array, metric, patch_size=6, patches="partition")
    source, patch = graph.edge_index
    assert source.sort().values.tolist() == list(range(len(array)))
    assert graph.k == graph.ptr.diff().max()
    if metric == "geodesic":
        return
    ends = (array.degrees, graph.dst.degrees)
    if metric == "cortical":
        ends = (array.cortical, graph.dst.cortical)
    apart = torch.cdist(*ends)
    own = apart[source, patch]
    assert (own <= apart[source].amin(1) * (1 + 1e-6)).all()
    torch.testing.assert_close(graph.distance.double(), own, atol=1e-5, rtol=1e-5)


def test_patches_go_to_pyg_and_back():
    pyramid = fg.GraphPyramid(retina(24), [PatchStep(patch_size=6, patches="partition")])
    other = fg.GraphPyramid.from_hetero_data(pyramid.to_hetero_data())
    assert other.steps == pyramid.steps
    assert other.levels[1] == pyramid.levels[1]
    assert other.graphs[0].offset.equal(pyramid.graphs[0].offset)
    assert fg.Plan(other).add(pyramid.steps[0]) == pyramid.connections[0]


def test_arrays_by_their_scale_and_their_least_size():
    array = retina(8, at_least=True)
    assert len(retina(8)) <= 64 <= len(array)
    assert array.with_resolution(array.resolution - 1) == retina(8).with_resolution(5)
    inset = array.inset()
    assert inset != array
    scale = inset.eccentricity.max() / array.eccentricity.max()
    assert scale < 1
    assert inset.strided(2).max_val == inset.max_val == "auto"
    torch.testing.assert_close(inset.cartesian, array.cartesian * scale)
    assert fg.SensorArray(1).inset() == fg.SensorArray(1)
    assert "max_val='auto'" in repr(inset)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 25.0}, "patch_size must be at most 24, the side .* got 25"),
        ({"patch_size": 0.0}, "patch_size must be finite and above 0"),
        ({"patches": "tiles"}, "patches must be one of 'cover', 'knn', 'partition', got 'tiles'"),
        ({"overlap": 1.5}, "overlap must be 1 .* unless patches='knn', got 1.5"),
        ({"stride": 2}, "k, stride and side must not be set for patches"),
        ({"kind": "pool"}, "kind must be one of 'conv', got 'pool'"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        fg.GraphPyramid(retina(24), [PatchStep(**options)])


def test_a_retina_without_a_side_is_refused():
    with pytest.raises(ValueError, match="the retina must be matched to a side"):
        fg.GraphPyramid(fg.SensorArray(8), [PatchStep()])


# ---- masked nodes, and a cortex that runs in a circle


@pytest.mark.parametrize("patches", ["cover", "partition"])
@pytest.mark.parametrize(
    "options",
    [
        {"layout": "warped_cartesian"},
        {"layout": "warped_cartesian", "extent": "square"},
        {"layout": "logpolar_image", "extent": "square"},
        {"layout": "logpolar_image"},
    ],
)
def test_every_node_that_is_not_masked_is_in_a_patch_that_is_not(options, patches):
    graph = embedded(retina(24, **options), patches=patches, patch_size=4, inset=False)
    sources, destinations = graph.edge_index
    assert sources.unique().equal(graph.src.valid_nodes)
    assert torch.isin(destinations, graph.dst.valid_nodes).all()
    if patches == "partition":
        assert sources.bincount().max() == 1
    if options == {"layout": "logpolar_image"} and patches == "partition":
        last_spoke = destinations[sources // 24 == 23]
        assert (last_spoke // 6 == 0).all()  # as angles begin again there


def test_patches_have_the_field_of_the_retina():
    """Its extent, norm and scale, which they had not while there was only the disc."""
    array = retina(24, layout="warped_cartesian", extent="square", norm=float("inf"))
    patches = embedded(array, patches="knn", patch_size=4, inset=False).dst
    assert (patches.extent, patches.norm) == ("square", float("inf"))
    assert patches == array.with_side(6, at_least=True)


def test_no_geodesic_patches_on_a_flat_cortex():
    with pytest.raises(ValueError, match=r"metric must be 'cortical' or 'visual' for layouts with"):
        embedded(retina(12, layout="logpolar_image"), UPSTREAM, patch_size=4)
