"""Plans: pyramids described where layers are made, and graphs between any two levels."""

import copy

import pytest
import torch

import fovigraph as fg
from fovigraph.graph import Connection

RETINA = fg.SensorArray.matched(16)


def planned():
    plan = fg.Plan(RETINA)
    plan.conv(k=9, stride=2)
    plan.conv(k=9)
    plan.pool("mean", side=1)
    return plan


def test_a_plan_knows_node_counts_without_a_search(monkeypatch):
    monkeypatch.setattr("fovigraph.graph.pyramid.knn_graph", None)
    plan = planned()
    assert (plan.level, plan.num_nodes) == (3, 1)
    assert [len(level) for level in plan.levels] == [230, 60, 60, 1]
    shortcut = plan.between(0, 2, k=1)
    assert (shortcut.num_src, shortcut.num_dst, shortcut.kernel_size) == (230, 60, 1)


def test_it_makes_the_pyramid_of_its_steps():
    pyramid = planned().build()
    same = fg.GraphPyramid(RETINA, pyramid.steps)
    assert pyramid.names == ("retina", "conv1", "conv2", "pool1")
    for ours, theirs in zip(pyramid.graphs, same.graphs, strict=True):
        assert ours.edge_index.equal(theirs.edge_index)


def test_steps_are_what_the_pyramid_says():
    plan = planned()
    steps = [fg.Plan(RETINA).add(step) for step in plan.steps[:1]]
    assert plan.build().connections[:1] == tuple(steps)
    assert plan.build().graph(steps[0]) is not None


def test_a_ready_pyramid_is_taken_if_it_fits():
    ready = planned().build()
    plan = fg.Plan(ready)
    steps = [plan.add(step) for step in ready.steps]
    shortcut = plan.between(0, 2, k=1)
    assert plan.build() is ready
    assert [ready.graph(step) for step in steps] == list(ready.graphs)
    assert ready.graph(shortcut) is ready.between("retina", "conv2", k=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda plan: plan.conv(k=16, stride=2), r"'conv1', must have the kernel_size 4, got 3"),
        (lambda plan: plan.conv(k=8, stride=2), r"step 0, to 'conv1', must have k=8, got 9"),
        (lambda plan: plan.conv(k=9), r"step 0, to 'conv1', must have the level SensorArray"),
        (lambda plan: plan.pool(k=9, stride=2), r"step 0, to 'conv1', must have the kind pool"),
        (lambda plan: plan.build(), "must end after 0 steps, at 'retina', got 3 steps"),
        (
            lambda plan: [plan.add(s) for s in planned().steps] and plan.conv(k=1),
            "must have a step 3, .* ends at 'pool1' after 3 steps",
        ),
    ],
)
def test_where_a_ready_pyramid_does_not_fit_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make(fg.Plan(planned().build()))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fg.Plan(3), TypeError, "start must be a SensorArray or a GraphPyramid, got 3"),
        (lambda: fg.Plan(RETINA, "cortex"), ValueError, "metric must be one of"),
        (
            lambda: fg.Plan(planned().build(), "visual"),
            ValueError,
            "metric must be 'cortical', that of the pyramid, got 'visual'",
        ),
        (lambda: planned().between(-1, 2, k=1), ValueError, "src must be at least 0, got -1"),
        (lambda: planned().between(0, 4, k=1), ValueError, "dst must be at most 3, got 4"),
        (lambda: planned().between("retina", 2, k=1), TypeError, "src must be a whole number"),
        (lambda: planned().between(0, 2, k=0), ValueError, "k must be at least 1, got 0"),
        (lambda: planned().add("conv"), TypeError, "step must be a Step, got 'conv'"),
    ],
)
def test_bad_plans_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_graphs_between_any_two_levels():
    pyramid = planned().build()
    shortcut = pyramid.between("retina", "conv2", k=1)
    nearest = fg.knn_graph(RETINA, RETINA.strided(2), k=1)
    assert shortcut.edge_index.equal(nearest.edge_index)
    assert pyramid.between(0, 2) is shortcut
    assert pyramid.between(1, 2, k=9) is pyramid.graphs[1]  # the same arrays, the same k
    within = pyramid.between("conv1", "conv1", k=9)
    assert within.edge_index.equal(pyramid.lateral("conv1", 9, self_loops=True).edge_index)
    down = pyramid.between("conv1", "retina", k=3)
    assert down.size() == (60, 230)
    assert pyramid.between(0, 1, k=10**9).k == 230


@pytest.mark.parametrize("name", ["src", "dst"])
def test_levels_that_there_are_not_are_refused(name):
    ends = {"src": 0, "dst": 1, name: 7}
    with pytest.raises(ValueError, match=f"{name} must be from 0 to 3, got 7"):
        planned().build().between(**ends)


def test_connections_of_another_pyramid_are_refused():
    pyramid = planned().build()
    with pytest.raises(ValueError, match="connection must be one of the pyramid's 3 steps"):
        pyramid.graph(Connection(0, 2, 1, 1, "between", 230, 60))
    with pytest.raises(ValueError, match="must lead from 230 to 60 nodes, as levels 'retina' and"):
        pyramid.connect(Connection(0, 2, 1, 1, "between", 230, 7))
    with pytest.raises(TypeError, match="connection must be a Connection, got 3"):
        pyramid.connect(3)


def with_shortcuts():
    plan = planned()
    plan.between(0, 2, k=1)
    plan.between(1, 1, k=4, kernel_size=3)
    return plan.build()


def test_receptive_fields_lead_through_shortcuts():
    pyramid, plain = with_shortcuts(), planned().build()
    unit = 5
    extra = pyramid.between(0, 2, k=1)
    [nearest] = extra.edge_index[0][extra.edge_index[1] == unit].tolist()
    field, without = pyramid.receptive_field("conv2", unit), plain.receptive_field("conv2", unit)
    paths = torch.zeros(2, 230, dtype=torch.float64)
    paths[0, field.nodes], paths[1, without.nodes] = field.paths, without.paths
    paths[1, nearest] += 1
    assert paths[0].equal(paths[1])
    assert pyramid.receptive_field("conv2", unit, source=1).paths.equal(
        plain.receptive_field("conv2", unit, source=1).paths
    )


def test_shortcuts_go_to_hetero_data_and_back():
    pyramid = with_shortcuts()
    data = pyramid.to_hetero_data(lateral=3, up=2)
    assert data["conv1", "between_k4", "conv1"].cell.max() < 9
    other = fg.GraphPyramid.from_hetero_data(data)
    assert other.relations() == pyramid.relations()
    for connection in pyramid.relations().values():
        ours, theirs = pyramid.graph(connection), other.graph(connection)
        for name, tensor in ours.fixed_tensors().items():
            assert tensor.equal(getattr(theirs, name))
    del data["retina", "between_k1", "conv2"]
    with pytest.raises(ValueError, match="must have the relation"):
        fg.GraphPyramid.from_hetero_data(data)


def test_data_that_release_0_1_wrote_is_read():
    data = planned().build().to_hetero_data()
    data.recipe = data.recipe.replace('"steps"', '"stages"').replace(', "between": []', "")
    assert '"stages"' in data.recipe and "between" not in data.recipe
    assert fg.GraphPyramid.from_hetero_data(data).names == planned().build().names


def test_shortcuts_survive_copying():
    other = copy.deepcopy(with_shortcuts())
    assert other.relations() == with_shortcuts().relations()
    assert all(other.graph(each).num_edges for each in other.relations().values())
