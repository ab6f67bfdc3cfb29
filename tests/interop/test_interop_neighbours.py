"""Neighbour lists of an upstream network in place of the canonical graphs."""

import pytest
import torch

import fovigraph as fg
from fovigraph.interop import use_neighbours


@pytest.fixture
def net(tiny):
    return fg.from_upstream(tiny.folder)


@pytest.fixture
def lists(tiny):
    return {name: tensor.clone() for name, tensor in tiny.neighbours.items()}


CONV, POOL, LAST = "backbone.layers.1.conv", "backbone.layers.1.pool", "backbone.layers.5"


def test_edges_are_the_given_ones(net, lists):
    use_neighbours(net, lists)
    graph = net.pyramid.graphs[2]
    given = lists[f"{CONV}.neighbours"].long()
    assert given.shape == (graph.k, graph.num_dst)
    for node in range(graph.num_dst):
        real = given[:, node][given[:, node] < graph.num_src].sort().values
        edges = graph.edge_index[0, graph.ptr[node] : graph.ptr[node + 1]]
        assert torch.equal(edges, real)


def test_a_wrapped_backbone_gets_them_too(net, lists):
    before = net.pyramid
    net.backbone = torch.nn.DataParallel(net.backbone)
    use_neighbours(net, lists)
    assert net.backbone.module.pyramid is net.pyramid is not before


def test_cells_are_the_given_ones(net, lists):
    use_neighbours(net, lists)
    for step, layer in enumerate(("0.conv", None, "1.conv")):
        if layer is None:
            continue
        graph, size = net.pyramid.graphs[step], net.pyramid.kernel_sizes[step]
        kmap = graph.kernel_map(size)
        given = {
            (int(dst), int(src)): int(cell)
            for src, cell, dst in zip(
                lists[f"backbone.layers.{layer}.neighbours"].T.flatten(),
                lists[f"backbone.layers.{layer}.cells"].T.flatten(),
                torch.arange(graph.num_dst).repeat_interleave(graph.k),
                strict=True,
            )
        }
        for dst, src, cell in zip(kmap.dst, kmap.src, kmap.cell, strict=True):
            assert given[int(dst), int(src)] == int(cell)


def test_offsets_move_across_a_border_between_cells_at_most(net, lists):
    without = {name: tensor for name, tensor in lists.items() if not name.endswith(".cells")}
    use_neighbours(net, without)
    before = [graph.offset.clone() for graph in net.pyramid.graphs]
    use_neighbours(net, lists)
    for graph, offset, size in zip(
        net.pyramid.graphs, before, net.pyramid.kernel_sizes, strict=True
    ):
        if size is None:
            assert torch.equal(graph.offset, offset)
        else:
            assert float((graph.offset - offset).abs().max()) < 0.6 * 2 / (size - 1)


def test_canonical_lists_give_the_canonical_graph(net, lists):
    """Lists in any order of neighbours, without padding where the layer has none in reach."""
    original = net.pyramid.graphs[-1]
    use_neighbours(net, lists)
    graph = net.pyramid.graphs[-1]
    assert torch.equal(graph.edge_index, original.edge_index)
    torch.testing.assert_close(graph.distance, original.distance)


def test_files_of_either_kind(net, tiny, lists, tmp_path):
    from safetensors.torch import save_file

    save_file(lists, tmp_path / "lists.safetensors")
    use_neighbours(net, tmp_path / "lists.safetensors")
    by_safetensors = net.pyramid.graphs[0].edge_index
    use_neighbours(net, str(tiny.folder / "neighbours.pth"))
    assert torch.equal(net.pyramid.graphs[0].edge_index, by_safetensors)


def test_names_may_begin_with_the_networks(net, lists):
    use_neighbours(net, {f"network.{name}": t for name, t in lists.items() if "retina" not in name})


def test_places_are_optional_and_taken_over(net, lists):
    lists["retina.cartesian"] += 1e-6
    places = lists["retina.cartesian"]
    own = net.retina.grid.clone()
    use_neighbours(net, {name: t for name, t in lists.items() if name != "retina.cartesian"})
    assert torch.equal(net.retina.grid, own)
    use_neighbours(net, lists)
    assert torch.equal(net.retina.grid, places)


def spoilt(lists, **changes):
    for name, change in changes.items():
        name = {"conv": f"{CONV}.neighbours", "cells": f"{CONV}.cells"}[name]
        lists[name] = change(lists[name])
    return lists


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.T, r"backbone.layers.1.conv: neighbours must have shape \[9, 60\]"),
        (lambda x: x + 1000, "neighbours must be from 0 to 91"),
        (lambda x: x.float(), "neighbours must be whole numbers"),
        (lambda x: x[:1].expand_as(x), "must not name a node twice, as they do for node 0"),
        (lambda x: x.flip(1), "not the nearest neighbours in this network's geometry"),
    ],
)
def test_lists_that_do_not_fit_are_refused(net, lists, change, message):
    before = net.pyramid
    with pytest.raises((ValueError, TypeError), match=message):
        use_neighbours(net, spoilt(lists, conv=change))
    assert net.pyramid is before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:4], r"cells must have shape \[9, 60\], got \[4, 60\]"),
        (lambda x: x + 36, "cells must be from 0 to 35"),
        (lambda x: 35 - x, "cells do not fit this network's geometry"),
    ],
)
def test_cells_that_do_not_fit_are_refused(net, lists, change, message):
    with pytest.raises(ValueError, match=message):
        use_neighbours(net, spoilt(lists, cells=change))


def test_missing_and_unknown_lists_are_named(net, lists):
    whole = dict(lists)
    del lists[f"{LAST}.neighbours"]
    with pytest.raises(ValueError, match=r"lacks backbone\.layers\.5\.neighbours"):
        use_neighbours(net, lists)
    with pytest.raises(ValueError, match=r"unlike the network, backbone\.layers\.1\.pool\.cells"):
        use_neighbours(net, {**whole, f"{POOL}.cells": whole[f"{POOL}.neighbours"]})


def test_places_of_another_retina_are_refused(net, lists):
    places = lists["retina.cartesian"]
    for other, message in ((places * 1.01, "up to 0.01 radii"), (places[1:], "must have shape")):
        with pytest.raises(ValueError, match=message):
            use_neighbours(net, {**lists, "retina.cartesian": other})


def test_a_file_that_is_not_there_or_holds_something_else(net, tmp_path):
    with pytest.raises(FileNotFoundError):
        use_neighbours(net, tmp_path / "none.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="must hold named tensors"):
        use_neighbours(net, tmp_path / "list.pth")
