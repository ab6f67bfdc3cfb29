"""The pyramid as a graph."""

import sys

import pytest

from fovigraph.viz import plot_pyramid, pyramid_dot, pyramid_networkx


def test_every_level_is_named_with_its_numbers(pyramid):
    figure = plot_pyramid(pyramid, "pool1", 3)
    said = "\n".join(text.get_text() for text in figure.axes[0].texts)
    for row in pyramid.rows():
        assert f"{row['level']}: {row['nodes']:,} nodes" in said
    assert f"k = 9, 9 cells, {pyramid.graphs[0].num_edges:,} edges" in said
    with pytest.raises(ValueError, match="unit must be from 0 to"):
        plot_pyramid(pyramid, 1, 10_000)


def test_networkx_has_every_unit_and_edge(pyramid):
    networkx = pytest.importorskip("networkx")
    graph = pyramid_networkx(pyramid)
    assert graph.number_of_nodes() == sum(map(len, pyramid.levels))
    assert graph.number_of_edges() == sum(g.num_edges for g in pyramid.graphs)
    below = networkx.ancestors(graph, ("pool1", 3))
    field = pyramid.receptive_field("pool1", 3).nodes.tolist()
    assert sorted(unit for level, unit in below if level == "retina") == field
    x, y = (pyramid.levels[1].cartesian[5] * pyramid.levels[1].fov / 2).tolist()
    assert (graph.nodes["conv1", 5]["x"], graph.nodes["conv1", 5]["y"]) == (x, y)
    src, dst = pyramid.graphs[0].edge_index[:, 7].tolist()
    edge = graph["retina", src]["conv1", dst]
    assert edge[0]["cell"] == int(pyramid.graphs[0].kernel_map(3).cell[7])
    assert edge[0]["kind"] == "conv"


def test_without_networkx_the_extra_is_named(pyramid, monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ImportError, match=r"pip install 'fovigraph\[viz\]'"):
        pyramid_networkx(pyramid)


def test_graphviz_has_a_box_a_level_and_an_arrow_a_step(pyramid):
    text = pyramid_dot(pyramid)
    assert text.startswith("digraph pyramid {") and text.endswith("}\n")
    assert text.count("->") == len(pyramid.graphs)
    assert "retina -> conv1" in text
    assert f"{len(pyramid.levels[2])} nodes" in text
