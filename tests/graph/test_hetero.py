"""A pyramid as HeteroData, and exactly back."""

import io

import pytest
import torch
from torch_geometric.data import Batch, Data, HeteroData

from fovigraph import GraphPyramid, SensorArray, Step

STEPS = [
    Step("conv", k=16, stride=2),
    Step("conv", k=9, kernel_size=5),
    Step("conv", k=9),
    Step("pool", k=4, stride=2, mode="mean"),
    Step("pool", side=1),
]
PYRAMIDS = {
    "matched": lambda: GraphPyramid(SensorArray.matched(12, fov=30.0, cmf_a=0.3), STEPS),
    "by rings": lambda: GraphPyramid(SensorArray(9, fov=1 / 3), STEPS[:4]),
    "visual": lambda: GraphPyramid(SensorArray.matched(12), STEPS, metric="visual"),
    "legacy": lambda: GraphPyramid(SensorArray.matched(10, field_geometry="legacy"), STEPS),
    "log-polar": lambda: GraphPyramid(SensorArray.matched(12, layout="logpolar_cylinder"), STEPS),
    "without steps": lambda: GraphPyramid(SensorArray(3), []),
}


@pytest.fixture(params=PYRAMIDS)
def pyramid(request):
    return PYRAMIDS[request.param]()


@pytest.fixture
def data():
    return PYRAMIDS["matched"]().to_hetero_data(lateral=6, up=3)


def assert_same_data(data, other):
    assert data.metadata() == other.metadata()
    for store, same in zip(data.stores, other.stores, strict=True):
        assert list(store.keys()) == list(same.keys())
        for key, value in store.items():
            assert value.equal(same[key]) if isinstance(value, torch.Tensor) else value == same[key]


def test_the_round_trip_is_exact(pyramid):
    data = pyramid.to_hetero_data(lateral=6, up=3)
    other = GraphPyramid.from_hetero_data(data)
    assert (other.levels, other.names, other.steps, other.metric, other.kernel_sizes) == (
        *(pyramid.levels, pyramid.names, pyramid.steps, pyramid.metric, pyramid.kernel_sizes),
    )
    for graph, same in zip(pyramid.graphs, other.graphs, strict=True):
        assert (graph.src, graph.dst, graph.k, graph.metric) == (
            *(same.src, same.dst, same.k, same.metric),
        )
        for name, tensor in graph.fixed_tensors().items():
            assert tensor.equal(getattr(same, name))
    assert_same_data(data, other.to_hetero_data(lateral=6, up=3))


def test_the_round_trip_is_exact_through_a_file(data):
    file = io.BytesIO()
    torch.save(data, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    again = GraphPyramid.from_hetero_data(loaded).to_hetero_data(lateral=6, up=3)
    assert_same_data(data, again)


def test_graphs_that_were_shared_are_shared_again(data):
    graphs = GraphPyramid.from_hetero_data(data).graphs
    assert graphs[1] is graphs[2]
    assert len(set(graphs)) == 4


def test_graphs_found_elsewhere_are_taken_as_they_are(data):
    edges = data["retina", "conv", "conv1"]
    kept = torch.arange(edges.edge_index.shape[1]) % 3 > 0
    for name in ("distance", "offset", "relative_distance", "cell"):
        edges[name] = edges[name][kept]
    edges.edge_index = edges.edge_index[:, kept]
    graph = GraphPyramid.from_hetero_data(data).graphs[0]
    assert graph.edge_index.equal(edges.edge_index)
    assert graph.kernel_map(4).cell.equal(edges.cell)


def test_what_is_done_to_the_data_is_not_done_to_the_graphs(data):
    pyramid = PYRAMIDS["matched"]()
    for value in pyramid.to_hetero_data(lateral=6, up=3).stores:
        for tensor in value.values():
            if isinstance(tensor, torch.Tensor):
                tensor.zero_()
    assert_same_data(pyramid.to_hetero_data(lateral=6, up=3), data)
    read = GraphPyramid.from_hetero_data(data)
    for edges in data.edge_stores:
        for tensor in edges.values():
            tensor.zero_()
    assert_same_data(read.to_hetero_data(), pyramid.to_hetero_data())


def test_features_in_the_data_are_left_alone(data):
    data["conv1"].x = torch.rand(data["conv1"].num_nodes, 4)
    GraphPyramid.from_hetero_data(data)
    assert data["conv1"].x.shape[1] == 4


def test_every_relation_is_there_with_its_geometry(data):
    names = ("retina", "conv1", "conv2", "conv3", "pool1", "pool2")
    kinds = ("conv", "conv", "conv", "pool", "pool")
    up = list(zip(names, kinds, names[1:], strict=False))
    back = [(above, "up", below) for below, _, above in up]
    # The last level is one node, which has no neighbour.
    assert set(data.edge_types) == {*up, *back, *((name, "lateral", name) for name in names[:-1])}
    assert data.validate()
    for edge_type in data.edge_types:
        edges = data[edge_type].num_edges
        assert data[edge_type].distance.shape == data[edge_type].relative_distance.shape == (edges,)
        assert data[edge_type].offset.shape == (edges, 2)


def test_lateral_and_up_edges_are_the_pyramids(data):
    pyramid = PYRAMIDS["matched"]()
    assert data["conv1", "lateral", "conv1"].edge_index.equal(pyramid.lateral(1, 6).edge_index)
    assert data["conv1", "up", "retina"].edge_index.equal(pyramid.up(1, 3).edge_index)
    top = len(pyramid.levels[4]) - 1  # fewer than 6 neighbours there: as many as there are
    small = pyramid.to_hetero_data(lateral=10**6)
    assert small["pool1", "lateral", "pool1"].edge_index.equal(pyramid.lateral(4, top).edge_index)


def test_a_missing_relation_is_named(data):
    del data["conv3", "pool", "pool1"]
    with pytest.raises(ValueError, match=r"must have the relation \('conv3', 'pool', 'pool1'\)"):
        GraphPyramid.from_hetero_data(data)


def test_a_missing_attribute_is_named(data):
    del data["conv1", "conv", "conv2"].offset
    with pytest.raises(ValueError, match=r"'conv2'\)\] must have .* and lacks \['offset'\]"):
        GraphPyramid.from_hetero_data(data)


def test_edges_that_do_not_fit_are_refused(data):
    edges = data["retina", "conv", "conv1"]
    right = edges.edge_index
    for wrong in (
        right.flip(1),
        torch.cat((right, right[:, -1:]), dim=1),
        right + torch.tensor([[1000], [0]]),
        right - 1,
        torch.cat((right, right.new_tensor([[0], [10**4]])), dim=1),
    ):
        edges.edge_index = wrong
        with pytest.raises(ValueError, match=r"edge_index must be sorted by destination"):
            GraphPyramid.from_hetero_data(data)
    edges.edge_index = right
    edges.offset = edges.offset[1:]
    with pytest.raises(ValueError, match=r"offset must have one entry for each of the"):
        GraphPyramid.from_hetero_data(data)


def test_data_of_another_origin_and_batches_are_refused(data):
    with pytest.raises(ValueError, match=r"must come from GraphPyramid\.to_hetero"):
        GraphPyramid.from_hetero_data(HeteroData())
    batch = Batch.from_data_list([data, data])
    with pytest.raises(ValueError, match="must hold one pyramid, got a batch"):
        GraphPyramid.from_hetero_data(batch)
    one = GraphPyramid.from_hetero_data(batch.to_data_list()[1])
    assert_same_data(one.to_hetero_data(lateral=6, up=3), data)


@pytest.mark.parametrize("value", [{}, None, 3, "data", Data()], ids=repr)
def test_what_is_no_hetero_data_is_refused(value):
    with pytest.raises(TypeError, match="data must be a HeteroData, got "):
        GraphPyramid.from_hetero_data(value)


@pytest.mark.parametrize("value", ["3", 3.0, True, [3]], ids=repr)
@pytest.mark.parametrize("name", ["lateral", "up"])
def test_numbers_of_neighbours_must_be_whole(name, value):
    with pytest.raises(TypeError, match=f"{name} must be a whole number of at least 1, got"):
        PYRAMIDS["matched"]().to_hetero_data(**{name: value})
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        PYRAMIDS["without steps"]().to_hetero_data(**{name: 0})


@pytest.mark.parametrize(
    "change",
    [
        lambda recipe: "no recipe",
        lambda recipe: "[]",
        lambda recipe: "{}",
        lambda recipe: 3,
        lambda recipe: recipe.replace("cortical", "cortcal"),
        lambda recipe: recipe.replace('"fov": 30.0', '"fov": -30.0'),
        lambda recipe: recipe.replace('"kind": "conv"', '"kind": "conf"', 1),
        lambda recipe: recipe.replace('"k": [16, ', '"k": ['),
        lambda recipe: recipe.replace('"stride": 2', '"stride": 200'),
    ],
)
def test_a_recipe_that_somebody_changed_is_refused(data, change):
    data.recipe = change(data.recipe)
    with pytest.raises(
        ValueError, match=r"data\.recipe must be as GraphPyramid\.to_hetero_data wr"
    ):
        GraphPyramid.from_hetero_data(data)


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("edge_index", lambda e: e.int(), TypeError, r"\.edge_index must be torch\.int64"),
        ("distance", lambda d: d * float("nan"), ValueError, r"\.distance must be finite"),
        ("offset", lambda o: o * 9, ValueError, r"\.offset must be finite and from -1 to 1"),
        ("offset", lambda o: o[:, :1], ValueError, r"\.offset must have one entry for each"),
        ("relative_distance", lambda q: q.tolist(), TypeError, r"\.relative_distance must be"),
    ],
)
def test_attributes_that_do_not_fit_are_refused_with_their_relation(
    data, name, change, error, message
):
    edges = data["retina", "conv", "conv1"]
    edges[name] = change(edges[name])
    with pytest.raises(error, match=r"^data\[\('retina', 'conv', 'conv1'\)\]" + message):
        GraphPyramid.from_hetero_data(data)
