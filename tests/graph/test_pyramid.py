"""The graph pyramid: figures that must come out, receptive fields, export, sharing, bad input."""

import copy
import pickle

import pytest
import torch
from torch_geometric.data import HeteroData

from fovigraph import GraphPyramid, SensorArray, Step, knn_graph
from fovigraph.models import KNNAlexNet

# ---- figures, at 16 degrees and cmf_a 0.5


@pytest.fixture(scope="module")
def alexnet():
    steps = KNNAlexNet.steps([4, 1, 1, 1, 1], [121, 25, 9, 27, 9], pool_after=[1, 4])
    return GraphPyramid(SensorArray.matched(64, fov=16.0, cmf_a=0.5), steps)


@pytest.fixture(scope="module")
def fovinet():
    steps = KNNAlexNet.steps([2, 1, 1, 1, 1], [121, 25, 9, 9, 9], pool_after=[0, 1, 4], out_side=1)
    return GraphPyramid(SensorArray.matched(64, fov=16.0, cmf_a=0.5), steps)


def convolutions(pyramid):
    """(graph, side of the reference kernel) of every convolution."""
    steps = zip(pyramid.steps, pyramid.graphs, pyramid.kernel_sizes, strict=True)
    return [(graph, size) for step, graph, size in steps if step.kind == "conv"]


def test_alexnet_layers_lead_from_node_count_to_node_count(alexnet):
    assert alexnet.names == (
        *("retina", "conv1", "conv2", "pool1", "conv3", "conv4", "conv5", "pool2"),
    )
    assert [graph.size() for graph in alexnet.graphs] == [
        *[(4085, 230)],
        *[(230, 230), (230, 60)],
        *[(60, 60)],
        *[(60, 60)],
        *[(60, 60), (60, 16)],
    ]
    assert [graph.k for graph in alexnet.graphs] == [121, 25, 9, 9, 27, 9, 9]


def test_alexnet_kernel_cells(alexnet):
    assert [size**2 for _, size in convolutions(alexnet)] == [484, 100, 36, 121, 36]
    for graph, size in convolutions(alexnet):
        assert graph.kernel_map(size).num_cells == size**2


def test_fovinet_nodes_per_level(fovinet):
    counts = [len(level) for level in fovinet.levels]
    assert counts == [4085, 964, 230, 230, 60, 60, 60, 60, 16, 1]


def test_fovinet_neighbours_and_kernel_cells(fovinet):
    assert [graph.k for graph in fovinet.graphs] == [121, 9, 25, 9, 9, 9, 9, 9, 16]
    assert [size**2 for _, size in convolutions(fovinet)] == [484, 100, 36, 36, 36]
    assert [step.mode for step in fovinet.steps if step.kind == "pool"] == [
        *("max", "max", "max", "mean")
    ]


def test_fovinet_ends_in_one_node_that_sees_all_nodes_below(fovinet):
    assert fovinet.graphs[-1].edge_index.tolist() == [list(range(16)), [0] * 16]


def test_one_tutorial_layer():
    """Convolution k 49, kernel side 14, stride 1, then a pool k 9, stride 2: 964 nodes."""
    retina = SensorArray.matched(64, fov=16.0, cmf_a=0.5)
    pyramid = GraphPyramid(retina, [Step("conv", k=49, kernel_size=14), Step("pool", 9, stride=2)])
    assert [graph.size() for graph in pyramid.graphs] == [(4085, 4085), (4085, 964)]
    assert pyramid.kernel_sizes == (14, None)


# ---- structure


@pytest.fixture(scope="module")
def small():
    steps = [
        Step("conv", k=16, stride=2),
        Step("conv", k=9),
        Step("pool", k=4, stride=2),
        Step("conv", k=4, kernel_size=5),
        Step("pool", side=1),
    ]
    return GraphPyramid(SensorArray.matched(12, fov=30.0, cmf_a=2.0), steps)


def test_levels_are_the_arrays_that_the_steps_lead_to(small):
    retina = SensorArray.matched(12, fov=30.0, cmf_a=2.0)
    halved, quartered = retina.strided(2), retina.strided(4)
    last = retina.with_side(1)
    assert small.levels == (retina, halved, halved, quartered, quartered, last)
    assert len(small) == 6
    assert small.names == ("retina", "conv1", "conv2", "pool1", "conv3", "pool2")


def test_graphs_lead_from_each_level_to_the_next(small):
    for index, graph in enumerate(small.graphs):
        assert graph.src == small.levels[index]
        assert graph.dst == small.levels[index + 1]
        expected = knn_graph(graph.src, graph.dst, small.steps[index].k or graph.k)
        assert graph.edge_index.equal(expected.edge_index)


def test_the_default_kernel_has_as_many_cells_as_neighbours_or_just_more(small):
    assert small.kernel_sizes == (4, 3, None, 5, None)
    retina = SensorArray(9)
    assert GraphPyramid(retina, [Step("conv", k=10)]).kernel_sizes == (4,)


def test_a_step_without_k_spans_itself():
    """(2 · ceil(R_in / R_out))² neighbours."""
    retina = SensorArray(26)
    pyramid = GraphPyramid(retina, [Step("pool", stride=2), Step("pool", stride=4)])
    assert [level.resolution for level in pyramid.levels] == [26, 13, 3]
    assert [graph.k for graph in pyramid.graphs] == [16, 100]


def test_a_step_to_a_side_is_matched_to_it():
    pyramid = GraphPyramid(SensorArray(13), [Step("pool", k=9, side=5)])
    assert pyramid.levels[1] == SensorArray.matched(5)
    assert pyramid.levels[1].side == 5


def test_steps_between_the_same_arrays_with_the_same_k_share_a_graph(alexnet, fovinet):
    graphs = dict(zip(alexnet.names[1:], alexnet.graphs, strict=True))
    assert graphs["conv3"] is graphs["conv5"]  # k = 9
    assert graphs["conv4"] is not graphs["conv3"]  # k = 27
    graphs = dict(zip(fovinet.names[1:], fovinet.graphs, strict=True))
    assert graphs["conv3"] is graphs["conv4"] is graphs["conv5"]
    assert len({id(graph) for graph in graphs.values()}) == 7


def test_a_pyramid_without_steps_is_its_retina():
    retina = SensorArray(5)
    pyramid = GraphPyramid(retina, [])
    assert pyramid.levels == (retina,)
    assert len(pyramid.graphs) == 0
    assert pyramid.receptive_field(0, 3).nodes.tolist() == [3]


def test_the_metric_is_that_of_all_its_graphs():
    steps = [Step("conv", k=9, stride=2), Step("pool", k=4, stride=2)]
    pyramid = GraphPyramid(SensorArray(9), steps, metric="visual")
    assert pyramid.metric == "visual"
    assert [graph.metric for graph in pyramid.graphs] == ["visual", "visual"]


def test_ready_made_graphs_are_taken_as_they_are(small):
    other = GraphPyramid(small.levels[0], small.steps, graphs=list(small.graphs))
    assert all(mine is yours for mine, yours in zip(other.graphs, small.graphs, strict=True))
    assert other.levels == small.levels


def test_ready_made_graphs_must_be_one_for_each_step(small):
    with pytest.raises(ValueError, match="graphs must be one for each of the 5 steps, got 4"):
        GraphPyramid(small.levels[0], small.steps, graphs=list(small.graphs)[:-1])


def test_ready_made_graphs_must_lead_from_level_to_level(small):
    graphs = [*list(small.graphs)[:2], small.graphs[1], *list(small.graphs)[3:]]
    with pytest.raises(ValueError, match=r"graphs\[2\] must lead from SensorArray"):
        GraphPyramid(small.levels[0], small.steps, graphs=graphs)


# ---- being a module


def test_has_no_parameters_no_buffers_and_an_empty_state_dict(small):
    small.lateral("conv1", 4)
    assert not list(small.parameters())
    assert not list(small.buffers())
    assert small.state_dict() == {}


def test_its_geometry_is_known_on_the_meta_device_too(small):
    away = copy.deepcopy(small).to("meta")
    assert away.graphs[0].edge_index.is_meta
    field, expected = (pyramid.receptive_field("pool1", 2) for pyramid in (away, small))
    assert field.nodes.equal(expected.nodes)
    assert field.paths.equal(expected.paths)
    data, whole = (pyramid.to_hetero_data(lateral=3, up=2) for pyramid in (away, small))
    for edge_type in whole.edge_types:
        for name, tensor in whole[edge_type].items():
            assert data[edge_type][name].equal(tensor)
    assert away.lateral("conv1", 4).edge_index.is_meta
    back = away.to_empty(device="cpu").lateral("conv1", 4)
    assert back.edge_index.equal(small.lateral("conv1", 4).edge_index)


@pytest.mark.parametrize("context", [torch.inference_mode, lambda: torch.device("meta")])
def test_receptive_fields_data_and_graphs_beside_are_the_same_in_any_context(small, context):
    other = copy.deepcopy(small)
    with context():
        field, data = other.receptive_field("pool1", 2), other.to_hetero_data(lateral=3, up=2)
        beside = (other.lateral("conv1", 5), other.up("pool1", 2))
    assert field.paths.equal(small.receptive_field("pool1", 2).paths)
    assert not field.nodes.is_inference()
    for edge_type, edges in small.to_hetero_data(lateral=3, up=2).edge_items():
        for name, tensor in edges.items():
            assert data[edge_type][name].equal(tensor)
            assert not data[edge_type][name].is_inference()
    for graph, same in zip(beside, (small.lateral("conv1", 5), small.up("pool1", 2)), strict=True):
        for name, tensor in same.fixed_tensors().items():
            assert getattr(graph, name).equal(tensor)
            assert not getattr(graph, name).is_inference()


def test_a_cast_keeps_shared_graphs_shared_and_half_keeps_the_geometry(fovinet):
    pyramid = copy.deepcopy(fovinet).half()
    assert pyramid.graphs[4] is pyramid.graphs[5]
    for graph in pyramid.graphs:
        assert graph.offset.dtype == torch.float32


def test_survives_copying_and_pickling(small):
    for other in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert other.levels == small.levels
        assert other.names == small.names
        assert other.summary() == small.summary()
        field, expected = other.receptive_field("pool1", 2), small.receptive_field("pool1", 2)
        assert field.nodes.equal(expected.nodes)


# ---- receptive fields


def adjacency(graph):
    """Dense ``[num_src, num_dst]``: 1 where there is an edge."""
    dense = torch.zeros(graph.size(), dtype=torch.float64)
    dense[graph.edge_index[0], graph.edge_index[1]] = 1
    return dense


def paths(pyramid, bottom, top):
    """Number of paths from every node of one level to every node of another."""
    product = torch.eye(len(pyramid.levels[bottom]), dtype=torch.float64)
    for graph in pyramid.graphs[bottom:top]:
        product = product @ adjacency(graph)
    return product


@pytest.mark.parametrize(
    ("bottom", "top"), [(0, 1), (0, 2), (0, 3), (0, 5), (1, 2), (1, 4), (2, 5), (3, 3)]
)
def test_a_receptive_field_is_all_paths_down_to_a_level(small, bottom, top):
    expected = paths(small, bottom, top)
    for unit in range(0, len(small.levels[top]), 3):
        for field in (
            small.receptive_field(top, unit, source=bottom),
            small.receptive_field(small.names[top], unit, source=small.names[bottom]),
        ):
            assert field.nodes.equal(expected[:, unit].nonzero().squeeze(1))
            assert field.paths.equal(expected[field.nodes, unit])


def test_a_receptive_field_reaches_down_to_the_retina_unless_told_otherwise(alexnet):
    field = alexnet.receptive_field("conv2", 100)
    expected = adjacency(alexnet.graphs[0]) @ adjacency(alexnet.graphs[1])[:, 100]
    assert field.nodes.equal(expected.nonzero().squeeze(1))
    assert field.paths.equal(expected[field.nodes])
    assert field.paths.dtype == torch.float64


def test_receptive_fields_grow_level_by_level_and_with_eccentricity(fovinet):
    sizes = [len(fovinet.receptive_field(name, 0).nodes) for name in fovinet.names]
    assert sizes[0] == 1
    assert sizes == sorted(sizes)
    assert sizes[-1] == 4085

    def extent(unit):
        nodes = fovinet.receptive_field("conv1", unit).nodes
        return torch.pdist(fovinet.levels[0].cartesian[nodes]).max()

    halfway = int((fovinet.levels[1].eccentricity - 4).abs().argmin())
    assert extent(halfway) > 4 * extent(0)


@pytest.mark.parametrize(
    ("level", "error", "message"),
    [
        (6, ValueError, "level must be from 0 to 5, got 6"),
        (-1, ValueError, "level must be from 0 to 5, got -1"),
        ("conv4", ValueError, r"level must be one of 'conv1', .* got 'conv4' \(did you mean 'conv"),
        (1.0, TypeError, "level must be an index or a name, got 1.0"),
        (True, TypeError, "level must be an index or a name, got True"),
        (None, TypeError, "level must be an index or a name, got None"),
    ],
)
def test_a_level_that_there_is_not_is_refused(small, level, error, message):
    with pytest.raises(error, match=message):
        small.receptive_field(level, 0)
    with pytest.raises(error, match=message.replace("level", "source", 1)):
        small.receptive_field(5, 0, source=level)
    with pytest.raises(error, match=message):
        small.level_index(level)


@pytest.mark.parametrize("unit", [-1, 10**6])
def test_a_unit_that_there_is_not_is_refused(small, unit):
    last = len(small.levels[3]) - 1
    with pytest.raises(
        ValueError, match=f"unit must be from 0 to {last} at level 'pool1', got {unit}"
    ):
        small.receptive_field("pool1", unit)


@pytest.mark.parametrize("unit", [1.5, "0", None])
def test_a_unit_must_be_a_whole_number(small, unit):
    with pytest.raises(TypeError, match="unit"):
        small.receptive_field("pool1", unit)


def test_a_source_above_the_level_is_refused(small):
    with pytest.raises(ValueError, match="source must not lie above level 'conv1', got 'pool1'"):
        small.receptive_field("conv1", 0, source="pool1")


# ---- export


def test_hetero_data_is_valid_and_holds_every_level_and_graph(small):
    data = small.to_hetero_data()
    assert isinstance(data, HeteroData)
    assert data.validate()
    assert data.node_types == list(small.names)
    assert data.edge_types == [
        (below, step.kind, above)
        for below, step, above in zip(small.names, small.steps, small.names[1:], strict=False)
    ]
    assert data.num_nodes == sum(len(level) for level in small.levels)
    assert data.num_edges == sum(graph.num_edges for graph in small.graphs)


def test_hetero_data_carries_the_coordinates_of_nodes(small):
    data = small.to_hetero_data()
    for name, level in zip(small.names, small.levels, strict=True):
        assert data[name].num_nodes == len(level)
        for coordinates in ("cartesian", "polar", "cortical"):
            assert data[name][coordinates].equal(getattr(level, coordinates).float())
        assert data[name].pos.equal(data[name].cartesian)


def test_hetero_data_carries_the_geometry_and_cells_of_edges(small):
    data = small.to_hetero_data()
    for edge_type, graph, size in zip(
        data.edge_types, small.graphs, small.kernel_sizes, strict=True
    ):
        for attribute in ("edge_index", "distance", "offset", "relative_distance"):
            assert data[edge_type][attribute].equal(getattr(graph, attribute))
        if size is None:
            assert "cell" not in data[edge_type]
        else:
            assert data[edge_type].cell.equal(graph.kernel_map(size).cell)


def test_the_alexnet_pyramid_exports(alexnet):
    data = alexnet.to_hetero_data()
    assert data.validate()
    assert data["retina"].num_nodes == 4085
    assert data["retina", "conv", "conv1"].cell.max() < 484


# ---- looking at it


def test_rows_tell_nodes_resolution_neighbours_cells_and_edges(alexnet):
    rows = alexnet.rows()
    columns = ("level", "nodes", "resolution", "k", "cells", "edges")
    edges = alexnet.graphs[0].num_edges
    assert [tuple(row) for row in rows] == [columns] * len(alexnet)
    assert tuple(rows[0].values()) == ("retina", 4085, 53, None, None, None)
    assert tuple(rows[1].values()) == ("conv1", 230, 13, 121, 484, edges)
    assert rows[3]["cells"] is None
    assert [row["nodes"] for row in rows] == [len(level) for level in alexnet.levels]


def test_the_summary_is_one_aligned_line_a_level_under_a_heading(alexnet):
    heading, *lines = alexnet.summary().splitlines()
    assert heading.split() == ["level", "nodes", "resolution", "k", "cells", "edges"]
    assert len(lines) == len(alexnet)
    edges = f"{alexnet.graphs[0].num_edges:,}"
    assert lines[0].split() == ["retina", "4,085", "53"]
    assert lines[1].split() == ["conv1", "230", "13", "121", "484", edges]
    assert lines[3].split() == ["pool1", "60", "7", "9", str(alexnet.graphs[2].num_edges)]
    end_of_nodes = heading.index("nodes") + len("nodes")
    assert all(line[end_of_nodes - 1].isdigit() and line[end_of_nodes] == " " for line in lines)


def test_prints_itself_in_one_line():
    retina = SensorArray.matched(64)
    steps = [Step("conv", k=49, stride=2), Step("pool", k=9, stride=2)]
    expected = "GraphPyramid(retina 4085 → conv1 964 → pool1 230)"
    assert repr(GraphPyramid(retina, steps)) == expected


# ---- bad steps


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "cnov"}, ValueError, r"kind must be one of 'conv', 'pool', .* mean 'conv'\?"),
        ({"k": 0}, ValueError, "k must be at least 1, got 0"),
        ({"k": 9.0}, TypeError, "k must be a whole number"),
        ({"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        ({"stride": 0.5}, ValueError, "stride must be at least 1, got 0.5"),
        ({"stride": None}, TypeError, "stride must be a finite number"),
        ({"side": 0}, ValueError, "side must be at least 1, got 0"),
        ({"side": 8, "stride": 2}, ValueError, "give stride=2 or side=8, not both"),
        ({"kernel_size": 0}, ValueError, "kernel_size must be at least 1, got 0"),
        ({"kernel_size": True}, TypeError, "kernel_size must be a whole number"),
        ({"kind": "pool", "kernel_size": 3}, ValueError, "kernel_size must be None for a pool"),
        ({"kernel_size": 10**6}, ValueError, "kernel_size must be at most 1024, got 1000000"),
        ({"side": 10**9}, ValueError, "side must be at most 4096, got 1000000000"),
        ({"k": True}, TypeError, "k must be a whole number"),
        ({"kind": None}, TypeError, "kind must be one of 'conv', 'pool', got None"),
        ({"mode": "mxa"}, ValueError, r"mode must be one of .* got 'mxa' \(did you mean 'max'\?"),
        ({"kind": "pool", "mode": None}, TypeError, "mode must be one of .* got None"),
    ],
    ids=str,
)
def test_a_bad_step_is_refused_when_it_is_made(arguments, error, message):
    with pytest.raises(error, match=message):
        Step(**{"kind": "conv", **arguments})


def test_a_step_cannot_be_changed():
    with pytest.raises(AttributeError):
        Step("conv").k = 9


def test_a_stride_that_leaves_no_nodes_is_refused():
    with pytest.raises(ValueError, match="stride must leave at least one node"):
        GraphPyramid(SensorArray.matched(8), [Step("pool", k=9, stride=4)] * 2)


@pytest.mark.parametrize("steps", [[Step("pool", k=4)], []], ids=["a step", "none"])
def test_an_unknown_metric_is_refused(steps):
    with pytest.raises(ValueError, match="metric must be one of"):
        GraphPyramid(SensorArray(3), steps, metric="cortex")
    with pytest.raises(TypeError, match="metric must be one of"):
        GraphPyramid(SensorArray(3), steps, metric=None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"retina": 3}, "retina must be a SensorArray, got 3"),
        ({"retina": None}, "retina must be a SensorArray, got None"),
        ({"steps": 3}, "steps must be a list of Step, got 3"),
        ({"steps": None}, "steps must be a list of Step, got None"),
        ({"steps": torch.tensor(3)}, r"steps must be a list of Step, got tensor\(3\)"),
        ({"steps": "conv"}, r"steps\[0\] must be a Step .*, got 'c'"),
        ({"steps": [Step("conv"), "conv"]}, r"steps\[1\] must be a Step .*, got 'conv'"),
        ({"graphs": 3}, "graphs must be a list of KNNGraph, got 3"),
        ({"graphs": [None]}, r"graphs\[0\] must be a KNNGraph, got None"),
    ],
    ids=str,
)
def test_what_a_pyramid_cannot_be_made_of_is_refused(arguments, message):
    with pytest.raises(TypeError, match=message):
        GraphPyramid(**{"retina": SensorArray(3), "steps": [Step("conv", k=4)], **arguments})


def test_a_stage_leads_from_arrays_only():
    with pytest.raises(TypeError, match="level must be a SensorArray, got 3"):
        Step("conv").next_level(3)
    with pytest.raises(TypeError, match="dst must be a SensorArray, got None"):
        Step("conv").neighbours(SensorArray(3), None)


def test_levels_by_name_and_index():
    retina = SensorArray.matched(16)
    pyramid = GraphPyramid(retina, [Step("pool", k=9, stride=2)])
    assert pyramid["pool1"] is pyramid[1] is pyramid.levels[1]
    assert list(pyramid) == list(pyramid.levels)
    assert "pool1" in pyramid and retina in pyramid and "conv1" not in pyramid
    with pytest.raises(ValueError, match="level must be one of 'pool1', 'retina', got 'conv1'"):
        pyramid["conv1"]
