"""PyG's operators on the levels of a pyramid: the table in docs/pyg.md, row by row."""

from pathlib import Path

import pytest
import torch
from torch.nn import Linear, ReLU, Sequential
from torch_geometric import nn as pyg
from torch_geometric.data import Batch, Data

import fovigraph as fg
from fovigraph.nn import OnGraph, disjoint_edges
from fovigraph.nn.on_graph import STATIC

CHANNELS, OUT = 4, 6


def mlp(inputs, outputs):
    return Sequential(Linear(inputs, outputs), ReLU(), Linear(outputs, outputs))


# How each is made, and what it takes for every edge and every node besides the features.
OPERATORS = {
    "GCNConv": (lambda: pyg.GCNConv(CHANNELS, OUT), (), ()),
    "SAGEConv": (lambda: pyg.SAGEConv(CHANNELS, OUT), (), ()),
    "GraphConv": (lambda: pyg.GraphConv(CHANNELS, OUT), (), ()),
    "GINConv": (lambda: pyg.GINConv(mlp(CHANNELS, OUT)), (), ()),
    "GINEConv": (lambda: pyg.GINEConv(mlp(CHANNELS, OUT), edge_dim=3), ("edge_attr",), ()),
    "EdgeConv": (lambda: pyg.EdgeConv(mlp(2 * CHANNELS, OUT)), (), ()),
    "ChebConv": (lambda: pyg.ChebConv(CHANNELS, OUT, K=3), (), ()),
    "TAGConv": (lambda: pyg.TAGConv(CHANNELS, OUT), (), ()),
    "SGConv": (lambda: pyg.SGConv(CHANNELS, OUT), (), ()),
    "LEConv": (lambda: pyg.LEConv(CHANNELS, OUT), (), ()),
    "MFConv": (lambda: pyg.MFConv(CHANNELS, OUT), (), ()),
    "GATConv": (lambda: pyg.GATConv(CHANNELS, OUT, edge_dim=3), ("edge_attr",), ()),
    "GATv2Conv": (lambda: pyg.GATv2Conv(CHANNELS, OUT, edge_dim=3), ("edge_attr",), ()),
    "TransformerConv": (lambda: pyg.TransformerConv(CHANNELS, OUT, edge_dim=3), ("edge_attr",), ()),
    "PointNetConv": (lambda: pyg.PointNetConv(mlp(CHANNELS + 3, OUT)), (), ("pos",)),
    "PointTransformerConv": (lambda: pyg.PointTransformerConv(CHANNELS, OUT), (), ("pos",)),
    "GMMConv": (lambda: pyg.GMMConv(CHANNELS, OUT, dim=2, kernel_size=3), ("pseudo",), ()),
    "NNConv": (lambda: pyg.NNConv(CHANNELS, OUT, mlp(3, CHANNELS * OUT)), ("edge_attr",), ()),
    "RGCNConv": (lambda: pyg.RGCNConv(CHANNELS, OUT, num_relations=9), ("edge_type",), ()),
    "GatedGraphConv": (lambda: pyg.GatedGraphConv(OUT, num_layers=2), (), ()),
}
LEVELS = ("retina", "conv1", "pool1")


@pytest.fixture(scope="module")
def pyramid():
    steps = [fg.Step("conv", k=9, stride=2), fg.Step("pool", k=4, stride=2)]
    return fg.GraphPyramid(fg.SensorArray.matched(16), steps)


@pytest.fixture(params=LEVELS)
def level(request):
    return request.param


@pytest.fixture(params=OPERATORS)
def name(request):
    return request.param


def inputs(pyramid, level, name):
    """The level's graph, and what the operator takes for its edges and nodes."""
    graph = pyramid.lateral(level, 5)
    pos = pyramid.levels[pyramid.level_index(level)].cortical.float()
    known = {
        "edge_attr": ("edge_attr", graph.edge_attr),
        "pseudo": ("edge_attr", (graph.offset + 1) / 2),
        "edge_type": ("edge_type", graph.kernel_map(3).cell),
        "pos": ("pos", pos),
    }
    _, edge, node = OPERATORS[name]
    return graph, dict(known[key] for key in edge), dict(known[key] for key in node)


def image_by_image(operator, x, graph, edge, node):
    """What PyG itself computes, one graph after another."""
    return torch.stack([operator(x=one, edge_index=graph.edge_index, **edge, **node) for one in x])


def test_every_operator_runs_on_every_level_forward_and_backward(pyramid, level, name):
    graph, edge, node = inputs(pyramid, level, name)
    operator = OPERATORS[name][0]()
    x = torch.randn(3, graph.num_src, CHANNELS, requires_grad=True)
    leaves = [x, *operator.parameters()]
    expected = image_by_image(operator, x, graph, edge, node)
    pull = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, leaves, pull)
    layouts = ("disjoint", "static") if isinstance(operator, STATIC) else ("disjoint",)
    for layout in layouts:
        out = OnGraph(operator, layout)(x, graph, edge=edge, node=node)
        assert out.shape == (3, graph.num_dst, OUT)
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
        for ours, theirs in zip(torch.autograd.grad(out, leaves, pull), wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_static_batch_is_refused_where_the_operator_has_none(name):
    operator = OPERATORS[name][0]()
    if isinstance(operator, STATIC):
        assert OnGraph(operator, "static").layout == "static"
    else:
        with pytest.raises(ValueError, match=rf"layout must be 'disjoint' for {name}, .* static"):
            OnGraph(operator, "static")


def test_those_refused_would_indeed_fail_or_differ(pyramid, name):
    graph, edge, node = inputs(pyramid, "pool1", name)
    operator = OPERATORS[name][0]()
    if isinstance(operator, STATIC):
        return
    with pytest.raises((RuntimeError, AssertionError, IndexError)):
        operator(
            x=torch.randn(3, graph.num_src, CHANNELS), edge_index=graph.edge_index, **edge, **node
        )


def test_the_table_in_the_documentation_is_this_one():
    page = (Path(__file__).parents[2] / "docs" / "pyg.md").read_text()
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| `")]
    table = {row[0].strip(" `"): row[2].strip() for row in rows if "Conv`" in row[0]}
    static = {name: isinstance(make(), STATIC) for name, (make, _, _) in OPERATORS.items()}
    assert table == {name: "yes" if yes else "no" for name, yes in static.items()}


def test_it_is_what_a_pyg_batch_computes(pyramid):
    graph = pyramid.lateral("conv1", 5)
    x = torch.randn(3, graph.num_src, CHANNELS)
    data = [Data(x=one, edge_index=graph.edge_index, edge_attr=graph.edge_attr) for one in x]
    batch = Batch.from_data_list(data)
    assert disjoint_edges(graph.edge_index, 3, graph.size()).equal(batch.edge_index)
    operator = pyg.GATv2Conv(CHANNELS, OUT, edge_dim=3)
    expected = operator(batch.x, batch.edge_index, batch.edge_attr).view(3, -1, OUT)
    out = OnGraph(operator)(x, graph, edge={"edge_attr": graph.edge_attr})
    torch.testing.assert_close(out, expected)


def test_disjoint_edges_of_a_graph_between_levels_shift_both_ends(graph):
    edges = disjoint_edges(graph.edge_index, 2, graph.size())
    half = graph.num_edges
    assert edges[:, :half].equal(graph.edge_index)
    assert edges[:, half:].equal(graph.edge_index + torch.tensor(graph.size())[:, None])


def test_any_leading_dimensions_and_none_are_taken(pyramid):
    graph = pyramid.lateral("conv1", 5)
    x = torch.randn(2, 3, graph.num_src, CHANNELS)
    layer = OnGraph(pyg.TransformerConv(CHANNELS, OUT))
    out = layer(x, graph)
    assert out.shape == (2, 3, graph.num_src, OUT)
    torch.testing.assert_close(layer(x[1, 2], graph), out[1, 2])
    torch.testing.assert_close(layer(x[1, 2], graph.edge_index), out[1, 2])


def test_further_arguments_are_passed_on(pyramid):
    graph = pyramid.lateral("conv1", 5)
    x = torch.randn(graph.num_src, CHANNELS)
    layer = OnGraph(pyg.GATv2Conv(CHANNELS, OUT))
    _, (edges, weight) = layer(x, graph, return_attention_weights=True)
    assert edges.shape[1] == len(weight)


def test_what_does_not_fit_is_refused(pyramid, graph):
    lateral = pyramid.lateral("conv1", 5)
    layer, x = OnGraph(pyg.GATv2Conv(4, 6, edge_dim=3)), torch.randn(2, lateral.num_src, 4)
    edges = lateral.num_edges
    with pytest.raises(ValueError, match=rf"edge\['edge_attr'\] must have .* {edges} edges"):
        layer(x, lateral, edge={"edge_attr": lateral.edge_attr[1:]})
    with pytest.raises(ValueError, match=r"node\['pos'\] must have one entry for each of the"):
        layer(x, lateral, node={"pos": torch.rand(3, 3)})
    with pytest.raises(ValueError, match="graph must stay within one level, got one from"):
        layer(torch.randn(2, graph.num_src, 4), graph)
    with pytest.raises(ValueError, match="x must have as many nodes"):
        layer(x[:, 1:], lateral)
    with pytest.raises(ValueError, match=r"layout must be one of .* got 'batch'"):
        OnGraph(pyg.GCNConv(4, 6), "batch")


def test_what_is_of_the_wrong_type_is_refused_by_name(pyramid):
    lateral = pyramid.lateral("conv1", 5)
    layer, x = OnGraph(pyg.GCNConv(4, 6)), torch.randn(2, lateral.num_src, 4)
    with pytest.raises(TypeError, match="operator must be a Module, got"):
        OnGraph(pyg.GCNConv)
    for wrong in (None, [1.0], x.numpy(), (x, None)):
        with pytest.raises(TypeError, match=r"x must be a torch.Tensor"):
            layer(wrong, lateral)
    for wrong in (x.double(), x.long()):
        with pytest.raises(TypeError, match=r"x must be torch.float32 like the operator's param"):
            layer(wrong, lateral)
    with pytest.raises(TypeError, match="edge must be a mapping from names to tensors, got"):
        layer(x, lateral, edge=[lateral.edge_attr])
    with pytest.raises(TypeError, match=r"edge\['edge_weight'\] must be a torch.Tensor, got"):
        layer(x, lateral, edge={"edge_weight": lateral.distance.tolist()})
    with pytest.raises(TypeError, match="the names in node must be a str, got 1"):
        layer(x, lateral, node={1: x[0]})
    with pytest.raises(ValueError, match="x is on cpu and the operator's parameters on meta"):
        OnGraph(pyg.GCNConv(4, 6).to("meta"))(x, lateral)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"edge_index": [[0], [1]]}, TypeError, "edge_index must be an int64 torch.Tensor, got"),
        ({"edge_index": torch.zeros(2, 3)}, TypeError, "edge_index must be torch.int64, got"),
        ({"edge_index": torch.tensor([[0], [9]])}, ValueError, "edge_index must name nodes below"),
        ({"batch": 2.0}, TypeError, "batch must be a whole number of at least 0, got 2.0"),
        ({"batch": -1}, ValueError, "batch must be at least 0, got -1"),
        ({"batch": 10**30}, ValueError, "batch must be at most"),
        ({"size": 4}, TypeError, r"size must be \(num_src, num_dst\), two whole numbers"),
        ({"size": (4,)}, ValueError, r"size must be \(num_src, num_dst\), two whole numbers"),
    ],
)
def test_disjoint_copies_of_what_is_no_graph_are_refused(change, error, message):
    right = {"edge_index": torch.tensor([[0], [1]]), "batch": 2, "size": (3, 3)}
    with pytest.raises(error, match=message):
        disjoint_edges(**right | change)


def test_it_prints_its_layout():
    assert "layout='static'" in repr(OnGraph(pyg.GCNConv(4, 6), "static"))
