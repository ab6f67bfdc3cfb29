"""Upstream's neighbourhoods found again by its own arithmetic."""

from pathlib import Path

import pytest
import torch

import fovigraph as fg
from fovigraph.interop import recomputed_neighbours, use_neighbours
from fovigraph.interop.recomputed import _cortical, _padding
from fovigraph.sensing.places import places

WIDE = {"retina": {"side": 40}, "backbone": {"channels": [2] * 5}, "projector": {"channels": []}}


@pytest.fixture(scope="module")
def found(tiny):
    return recomputed_neighbours(fg.from_upstream(tiny.folder))


def same(ours, theirs):
    """Share of columns that hold the same neighbours."""
    return float((ours.sort(0).values == theirs.long().sort(0).values).all(0).float().mean())


def test_they_are_those_that_upstream_had(found, tiny):
    assert found.keys() == tiny.neighbours.keys()
    names = [name for name in found if name.endswith("neighbours")]
    nodes = torch.tensor([found[name].shape[1] for name in names])
    shares = torch.tensor([same(found[name], tiny.neighbours[name]) for name in names])
    # All of them on the machine that recorded them; others may round otherwise.
    assert float((shares * nodes).sum() / nodes.sum()) >= 0.9
    places = tiny.neighbours["retina.cartesian"]
    torch.testing.assert_close(found["retina.cartesian"], places, rtol=0, atol=1.2e-7)
    for name in names:
        if same(found[name], tiny.neighbours[name]) == 1 and name.endswith("conv.neighbours"):
            ours, theirs = found[name].sort(0), tiny.neighbours[name].long().sort(0)
            cells = name.replace("neighbours", "cells")
            ours = found[cells].gather(0, ours.indices)
            theirs = tiny.neighbours[cells].long().gather(0, theirs.indices)
            assert float((ours == theirs).float().mean()) >= 0.99


def test_a_network_loaded_with_them_answers_as_upstreams(tiny, found, recorded):
    net = fg.from_upstream(tiny.folder, neighbours="recomputed")
    with torch.no_grad():
        logits = net(recorded["images"], recorded["fixations"]).fixation_logits
    given = fg.from_upstream(tiny.folder, neighbours=found)
    for ours, theirs in zip(net.pyramid.graphs, given.pyramid.graphs, strict=True):
        assert torch.equal(ours.edge_index, theirs.edge_index)
        assert torch.equal(ours.offset, theirs.offset)
    if all(same(found[name], x) == 1 for name, x in tiny.neighbours.items() if "neigh" in name):
        theirs = recorded["fixation_logits"]
        assert float((logits - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


def test_a_file_of_that_name_is_named_as_a_path(tiny, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = {name: tensor for name, tensor in found.items() if "cells" not in name}
    torch.save(other, "recomputed")
    net = fg.from_upstream(tiny.folder, neighbours=Path("recomputed").absolute())
    known = fg.from_upstream(tiny.folder, neighbours=other)
    assert torch.equal(net.pyramid.graphs[0].offset, known.pyramid.graphs[0].offset)
    with pytest.raises(FileNotFoundError):
        fg.from_upstream(tiny.folder, neighbours="./recompute")


@pytest.mark.parametrize("geometry", ["planar", "legacy"])
@pytest.mark.parametrize("metric", ["cortical", "visual"])
def test_they_differ_from_the_canonical_ones_at_ties_alone(geometry, metric):
    content = {**WIDE, "retina": {"side": 40, "field_geometry": geometry}}
    net = fg.FoviNet({**content, "backbone": {**WIDE["backbone"], "metric": metric}})
    usual, lists = net.pyramid.graphs, recomputed_neighbours(net)
    use_neighbours(net, lists)
    at_ties = 0
    for before, after in zip(usual, net.pyramid.graphs, strict=True):
        for node in range(before.num_dst):
            ours, theirs = (
                graph.distance[slice(*graph.ptr[node : node + 2])] for graph in (before, after)
            )
            if len(ours) == len(theirs):
                torch.testing.assert_close(
                    ours.sort().values, theirs.sort().values, rtol=1e-3, atol=1e-4
                )
        pairs = (set(map(tuple, graph.edge_index.T.tolist())) for graph in (before, after))
        at_ties += len(set.symmetric_difference(*pairs))
    assert 0 < at_ties < 0.1 * sum(graph.num_edges for graph in usual)


@pytest.mark.parametrize("geometry", ["planar", "legacy"])
@pytest.mark.parametrize("side", [1, 2, 24])
def test_single_precision_is_near_the_truth(geometry, side):
    array = fg.SensorArray.matched(side, field_geometry=geometry)
    nodes = places(array)
    padding = _padding(array, nodes)
    assert padding.shape == array.padding_cartesian.shape
    torch.testing.assert_close(padding.double(), array.padding_cartesian, rtol=0, atol=2e-5)
    for part, truth in ((nodes, array.cortical), (padding, array.padding_cortical)):
        cortical = _cortical(part, array)
        assert cortical.dtype == torch.float32
        torch.testing.assert_close(cortical.double(), truth, rtol=0, atol=2e-3)


def test_nothing_around_them_changes_them(tiny, found):
    net = fg.from_upstream(tiny.folder).to(torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            again = recomputed_neighbours(net)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(again[name], found[name]) for name in found)


def test_the_surface_needs_its_extra(tiny):
    pytest.importorskip("pygeodesic")
    content = {**WIDE, "backbone": {**WIDE["backbone"], "metric": "geodesic", "out_side": None}}
    content["backbone"] |= {"strides": [1] * 5, "pool_after": []}
    net = fg.FoviNet({**content, "retina": {"side": 8}})
    lists = recomputed_neighbours(net)
    for graph, canonical in zip(list(lists)[1::2], net.pyramid.graphs, strict=True):
        assert lists[graph].shape == (canonical.k, canonical.num_dst)
        nearest = lists[graph][0]
        assert float((nearest == torch.arange(canonical.num_dst)).float().mean()) > 0.9


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: recomputed_neighbours(None), TypeError, "net must be a FoviNet, got None"),
        (
            lambda: recomputed_neighbours(
                fg.FoviNet({**WIDE, "retina": {"side": 20, "layout": "uniform_disc"}})
            ),
            ValueError,
            r"retina\.layout of 'isotropic', .* got 'uniform_disc'",
        ),
    ],
)
def test_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()
