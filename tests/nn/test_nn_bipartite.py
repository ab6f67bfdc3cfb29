"""How every layer may be called, what it refuses, and that its two paths are one."""

import numpy as np
import pytest
import torch

from fovigraph import nn

CHANNELS, SIDE = 3, 4
LAYERS = {
    "full": lambda: nn.KNNConv(CHANNELS, 5, SIDE),
    "bilinear": lambda: nn.KNNConv(CHANNELS, 5, SIDE, interpolation="bilinear"),
    "depthwise": lambda: nn.KNNDepthwiseConv(CHANNELS, SIDE, 2),
    "separable": lambda: nn.KNNSeparableConv(CHANNELS, 5, SIDE),
    "transposed": lambda: nn.KNNConvTranspose(CHANNELS, 5, SIDE),
    **{f"{mode} pool": lambda mode=mode: nn.KNNPool(mode) for mode in nn.POOL_MODES},
    "unpool": nn.KNNUnpool,
}
CONVS = ("full", "bilinear", "depthwise", "separable", "transposed")
EVERY_LAYER = pytest.mark.parametrize("name", LAYERS)


def set_fused(layer, fused):
    for module in layer.modules():
        if hasattr(module, "fused"):
            module.fused = fused
    return layer


def both_paths(layer, run):
    return [run(set_fused(layer, fused)) for fused in (True, False)]


def features(name, graph, batch=2):
    nodes = graph.num_dst if name == "transposed" else graph.num_src
    return torch.randn(batch, nodes, CHANNELS)


def raw(name, graph):
    """The same edges, and what the layer takes for each, with their size."""
    extra = {
        "bilinear": {"offset": graph.offset},
        "gaussian pool": {"relative_distance": graph.relative_distance},
        "unpool": {"distance": graph.distance},
    }
    if name in extra:
        beside = extra[name]
    else:
        beside = {"cell": graph.kernel_map(SIDE).cell} if name in CONVS else {}
    return {"graph": graph.edge_index, "size": graph.size(), **beside}


@EVERY_LAYER
def test_autocast_gives_one_type_in_both_paths_as_torchs_layers_do(name, graph):
    layer, x = LAYERS[name](), features(name, graph)
    like = torch.nn.Linear(CHANNELS, 5) if name in CONVS else torch.nn.MaxPool1d(2)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        layer = layer.double() if dtype == torch.float64 else layer.float()
        like = like.double() if dtype == torch.float64 else like.float()
        given = x.to(dtype)
        found = []
        with torch.autocast("cpu", torch.bfloat16):
            wanted = like(given).dtype
            for fused in (True, False):
                set_fused(layer, fused)
                found += [layer(given, graph), layer((given, None), **raw(name, graph))]
        exact = layer.double()(given.double(), graph)
        for low in found:
            assert low.dtype == wanted
            torch.testing.assert_close(low.double(), exact, rtol=0.05, atol=0.05)


@EVERY_LAYER
def test_what_is_not_a_number_stays_so_in_both_paths(name, graph):
    x = features(name, graph)
    x[0, 3, 1], x[1, 5, 0] = torch.nan, torch.nan
    for relu in (False, True) if name in ("full", "bilinear", "depthwise") else (False,):
        layer = LAYERS[name]()
        layer.relu = relu
        fused, plain = both_paths(layer, lambda layer: layer(x, graph))
        assert fused.isnan().any() and not fused.isnan().all()
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("name", sorted(LAYERS.keys() - {"bilinear"}))
def test_what_is_infinite_goes_where_the_definition_has_it(name, graph):
    x = features(name, graph)
    x[0, 3, 1], x[1, 5, 0] = torch.inf, -torch.inf
    fused, plain = both_paths(LAYERS[name](), lambda layer: layer(x, graph))
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("name", ["unpool", "gaussian pool"])
def test_a_distance_that_is_not_a_number_shows_in_both_paths(name, graph):
    arguments, x = raw(name, graph), features(name, graph)
    key = "distance" if name == "unpool" else "relative_distance"
    arguments[key] = arguments[key].clone()
    arguments[key][7] = torch.nan
    fused, plain = both_paths(LAYERS[name](), lambda layer: layer((x, None), **arguments))
    assert fused.isnan().any(-1).sum() == 2  # one destination of each of the two in the batch
    torch.testing.assert_close(fused, plain, equal_nan=True)


@EVERY_LAYER
@pytest.mark.parametrize("wrong", [None, 3, "x", [1.0], np.ones((2, 3)), (), (torch.ones(2, 3),)])
def test_features_of_the_wrong_type_are_refused_by_name(name, graph, wrong):
    with pytest.raises((TypeError, ValueError), match="x must be node features"):
        LAYERS[name]()(wrong, graph)
    with pytest.raises(TypeError, match=r"x must be node features, .* or a pair"):
        LAYERS[name]()((torch.ones(2, 3), [3]), graph)


@EVERY_LAYER
@pytest.mark.parametrize(
    ("size", "error"),
    [
        (5, TypeError),
        ("34", TypeError),
        ((2.0, 3.0), TypeError),
        ((True, True), TypeError),
        (torch.tensor([3, 4]), TypeError),
        ((194,), ValueError),
        ((194, 43, 1), ValueError),
        ((194, -43), ValueError),
    ],
)
def test_a_wrong_size_is_refused_by_name(name, graph, size, error):
    arguments, x = raw(name, graph), features(name, graph)
    message = r"size must be \(num_src, num_dst\), two whole numbers of at least 0, got"
    for x_and_edges in ({"x": (x, None), **arguments}, {"x": x, "graph": graph}):
        with pytest.raises(error, match=message):
            LAYERS[name]()(**{**x_and_edges, "size": size})


@EVERY_LAYER
def test_edges_that_do_not_fit_are_refused_by_name(name, graph):
    layer, x, arguments = LAYERS[name](), features(name, graph), raw(name, graph)

    def call(**change):
        return layer(**{"x": (x, None), **arguments, **change})

    edges = graph.edge_index
    for wrong in (edges.int(), edges.float(), edges[0], edges.T):
        with pytest.raises(ValueError, match=r"edge_index must be int64 of shape \[2, edges\]"):
            call(graph=wrong)
    for wrong in (edges + 10**6, edges - 5):
        with pytest.raises(ValueError, match="edge_index must name nodes below size"):
            call(graph=wrong)
    for wrong in (None, "graph", [[0], [1]], graph.kernel_map(SIDE)):
        with pytest.raises(TypeError, match="graph must be a KNNGraph or an edge_index tensor"):
            call(graph=wrong)
    with pytest.raises(ValueError, match=r"size must be .* or None for .*, got \(2, 3\)"):
        layer(x, graph, size=(2, 3))


@pytest.mark.parametrize("name", [name for name in CONVS if name != "bilinear"])
@pytest.mark.parametrize("fused", [True, False])
def test_cells_that_do_not_fit_are_refused_by_name(name, fused, graph):
    layer, x = set_fused(LAYERS[name](), fused), features(name, graph)
    arguments = {"x": (x, None), **raw(name, graph)}
    cell = arguments.pop("cell")
    for wrong in (cell.float(), cell.to(torch.uint8), cell.int(), cell > 0):
        with pytest.raises(TypeError, match=r"cell must be torch.int64, got"):
            layer(cell=wrong, **arguments)
    for wrong in (cell[1:], cell[:, None]):
        with pytest.raises(ValueError, match=rf"cell must have shape \[{len(cell)}\], got"):
            layer(cell=wrong, **arguments)
    for wrong in (cell.tolist(), cell.numpy(), 3):
        with pytest.raises(TypeError, match=r"cell must be an int64 torch.Tensor, got"):
            layer(cell=wrong, **arguments)
    for wrong in (cell - 16, cell + 16):
        with pytest.raises(ValueError, match="cell must be from 0 to 15 for kernel_size=4, got"):
            layer(cell=wrong, **arguments)
    with pytest.raises(ValueError, match="cell must be on cpu like edge_index, got it on meta"):
        layer(cell=cell.to("meta"), **arguments)


@pytest.mark.parametrize("name", ["bilinear", "gaussian pool", "unpool"])
def test_what_edges_have_beside_their_ends_must_fit_them(name, graph):
    layer, x, arguments = LAYERS[name](), features(name, graph), raw(name, graph)
    (key,) = arguments.keys() - {"graph", "size"}
    value = arguments.pop(key)
    with pytest.raises(ValueError, match=f"{key} must give the .* of each of the .* edges, got No"):
        layer((x, None), **arguments)
    with pytest.raises(ValueError, match=f"{key} must be None with a KNNGraph"):
        layer(x, graph, **{key: value})
    with pytest.raises(ValueError, match=f"{key} must have shape"):
        layer((x, None), **arguments, **{key: value[1:]})
    for wrong in (value.long(), value.tolist(), "x"):
        with pytest.raises(TypeError, match=f"{key} must be .*floating.point"):
            layer((x, None), **arguments, **{key: wrong})


@pytest.mark.parametrize("name", CONVS)
def test_features_of_another_dtype_or_device_are_refused_by_name(name, graph):
    layer, x = LAYERS[name](), features(name, graph)
    for path in (True, False):
        set_fused(layer, path)
        with pytest.raises(TypeError, match=r"x must be torch.float32 like .* got torch.float64"):
            layer(x.double(), graph)
        with pytest.raises(TypeError, match=r"x must be floating point, got torch.int64"):
            layer(x.long(), graph)
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(TypeError, match="x must be"):
            layer(x.double(), graph)
        with pytest.raises(ValueError, match="x is on meta and the graph on cpu"):
            layer(x.to("meta"), graph)


@pytest.mark.parametrize("name", sorted(LAYERS.keys() - {"bilinear"}))
def test_raw_edges_are_traced_whole(name, graph):
    """Neither torch.compile nor torch.export looks at their values, which would break the graph."""
    layer, x, arguments = LAYERS[name](), features(name, graph), raw(name, graph)
    wanted = layer((x, None), **arguments)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled((x, None), **arguments), wanted)
    exported = torch.export.export(layer, ((x, None),), arguments).module()
    torch.testing.assert_close(exported((x, None), **arguments), wanted)
