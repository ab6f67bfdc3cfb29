"""PyG's own tools on foveated networks: summaries, explainers, compilation, profiles, NetworkX."""

import re
from pathlib import Path

import pytest
import torch
import torch_geometric
from torch import nn
from torch_geometric.explain import CaptumExplainer, Explainer, GNNExplainer, ModelConfig
from torch_geometric.nn import summary
from torch_geometric.profile import count_parameters, timeit
from torch_geometric.utils import to_networkx

import fovigraph as fg
from fovigraph.models import OneView

STEPS = [fg.Step("conv", k=16, stride=2, kernel_size=8), fg.Step("pool", k=9, stride=2)]


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    overrides = ["retina.side=12", "backbone.pool_after=[0]", "fixation.count=2"]
    return fg.FoviNet(fg.load_config("fovi_tiny", overrides=overrides)).eval()


@pytest.fixture
def samples(net):
    return net.retina(torch.rand(1, 3, 64, 64), [[0.5, 0.5]])[0, 0]


def explainer(model, algorithm, mask="object"):
    config = ModelConfig("multiclass_classification", "graph", "raw")
    return Explainer(
        model, algorithm, explanation_type="model", node_mask_type=mask, model_config=config
    )


def captum(method, **options):
    pytest.importorskip("captum")
    return CaptumExplainer(method, **options)


ALGORITHMS = {
    "GNNExplainer": lambda: GNNExplainer(epochs=20),
    "integrated gradients": lambda: captum("IntegratedGradients", n_steps=8),
    "saliency": lambda: captum("InputXGradient"),
}


# ---- one view


def test_one_view_is_the_network_at_one_fixation(net):
    images = torch.rand(3, 3, 64, 64)
    out = net(images, fixations=[[0.4, 0.6]])
    samples = net.retina(images, out.fixations, out.fixation_sizes)[:, 0]
    torch.testing.assert_close(OneView(net)(samples), out.fixation_logits[:, 0])
    torch.testing.assert_close(OneView(net)(samples[1]), out.fixation_logits[1])


def test_one_view_refuses_other_samples(net, samples):
    with pytest.raises(ValueError, match=r"x must be \[\.\.\., .* nodes, channels\], got shape"):
        OneView(net)(samples[1:])


# ---- summary, profile, NetworkX, compilation


def test_summary_lists_layers_with_shapes_and_parameters(net):
    pytest.importorskip("tabulate")
    table = summary(net, torch.rand(2, 3, 64, 64), max_depth=5)
    nodes = len(net.pyramid.levels[0])
    assert "KNNConv" in table and "KNNPool" in table
    assert f"[4, {nodes}, 3], [{nodes}, {len(net.pyramid.levels[1])}]" in table
    assert f"{count_parameters(net):,}" in table


def test_profiles_run(net):
    with timeit(log=False) as timer:
        net(torch.rand(2, 3, 64, 64))
    assert timer.duration > 0
    data = net.pyramid.to_hetero_data()
    assert torch_geometric.profile.get_data_size(data) > data.num_edges * 2 * 8


def test_to_networkx_has_every_node_and_edge_with_attributes(net):
    pytest.importorskip("networkx")
    data = net.pyramid.to_hetero_data()
    graph = to_networkx(data, node_attrs=["polar"], edge_attrs=["distance"])
    assert (graph.number_of_nodes(), graph.number_of_edges()) == (data.num_nodes, data.num_edges)
    assert graph.nodes[3]["polar"] == pytest.approx(net.pyramid.levels[0].polar[3].tolist())
    first = net.pyramid.graphs[0]
    src, dst = first.edge_index[:, 5].tolist()
    edge = graph.edges[src, len(net.pyramid.levels[0]) + dst]
    assert edge["distance"] == pytest.approx(first.distance[5].item())
    assert edge["type"] == ("retina", "conv", "conv1")


@pytest.mark.filterwarnings("ignore:'torch_geometric.compile' is deprecated")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("compiler", [torch.compile, torch_geometric.compile])
@pytest.mark.parametrize("warm", [True, False], ids=["after a first call", "at once"])
def test_a_compiled_network_computes_the_same(compiler, warm):
    """In one graph after a first call, which sorts the kernel maps."""
    pyramid = fg.GraphPyramid(fg.SensorArray.matched(8), STEPS)
    net = fg.KNNAlexNet(pyramid, [4], num_classes=3).eval()
    x = torch.rand(2, len(pyramid.levels[0]), 3)
    expected = net(x) if warm else None
    compiled = compiler(net, backend="aot_eager", fullgraph=warm)
    out = compiled(x)
    torch.testing.assert_close(out, net(x) if expected is None else expected)
    out.sum().backward()
    grads = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    net(x).sum().backward()
    for ours, parameter in zip(grads, net.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad)


# ---- explainers


class Samples(nn.Module):
    """``model(x, edge_index)`` of a network that takes samples."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, edge_index):
        return self.net(x[None] if x.dim() == 2 else x)


def one_quadrant(pyramid, seen):
    """The same pyramid, without the edges that lead into V1 from nodes out of a quadrant."""
    data = pyramid.to_hetero_data()
    edges = data["retina", "conv", "conv1"]
    kept = seen[edges.edge_index[0]]
    for name in ("distance", "offset", "relative_distance"):
        edges[name] = edges[name][kept]
    edges.edge_index = edges.edge_index[:, kept]
    return fg.GraphPyramid.from_hetero_data(data)


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("quadrant", [(1, 1), (-1, 1), (1, -1)])
def test_importance_lies_in_the_one_quadrant_that_a_network_can_use(algorithm, quadrant):
    whole = fg.GraphPyramid(fg.SensorArray.matched(16), STEPS)
    seen = (whole.levels[0].cartesian * torch.tensor(quadrant) > 0).all(dim=1)
    x = torch.rand(len(whole.levels[0]), 3)
    shares = {}
    for name, pyramid in (("whole", whole), ("quadrant", one_quadrant(whole, seen))):
        torch.manual_seed(1)
        model = Samples(fg.KNNAlexNet(pyramid, [8], num_classes=4)).eval()
        explanation = explainer(model, ALGORITHMS[algorithm](), "attributes")(
            x, pyramid.graphs[0].edge_index
        )
        importance = explanation.node_mask.abs().sum(dim=1)
        assert importance.shape == (len(x),)
        shares[name] = importance[seen].sum() / importance.sum()
        if name == "quadrant":
            assert not importance[~seen].any()
            assert (importance[seen] > 0).float().mean() > 0.5
    assert shares["whole"] < 0.5


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_explainers_give_the_importance_of_the_retinas_samples(net, samples, algorithm):
    edges = net.pyramid.graphs[0].edge_index
    explanation = explainer(OneView(net), ALGORITHMS[algorithm](), "attributes")(samples, edges)
    assert explanation.node_mask.shape == samples.shape
    assert explanation.node_mask.any()


def test_an_explainers_edge_mask_weighs_the_edges_of_the_first_convolution():
    """Explainers reach single messages, which the fused path has none of."""
    pyramid = fg.GraphPyramid(fg.SensorArray.matched(8), STEPS)
    conv = fg.nn.KNNConv(3, 4, kernel_size=8)

    class FirstLayer(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv

        def forward(self, x, edge_index):
            return self.conv(x, pyramid.graphs[0]).mean(dim=0, keepdim=True)

    model = FirstLayer()
    x, edges = torch.rand(len(pyramid.levels[0]), 3), pyramid.graphs[0].edge_index
    config = ModelConfig("multiclass_classification", "graph", "raw")
    explain = Explainer(
        model, GNNExplainer(epochs=5), explanation_type="model", edge_mask_type="object",
        model_config=config,
    )  # fmt: skip
    mask = explain(x, edges).edge_mask
    assert mask.shape == (edges.shape[1],)
    assert mask.any()
    assert not conv.explain


def test_the_pages_snippets_run_top_to_bottom(tmp_path, monkeypatch):
    pytest.importorskip("peft")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs" / "pyg.md").read_text()
    names = {}
    for snippet in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(snippet, "pyg.md", "exec"), names)
    assert names["y"].shape == (4, 230, 16)
    assert names["batch"].num_graphs == 3
