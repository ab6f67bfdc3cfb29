"""A family that a user adds: a strided residual block with a shortcut, and a pre-norm block.

All of the package goes by what the blocks say of themselves.
"""

from dataclasses import dataclass

import pytest
import torch
from families import check_compiles
from torch import nn

import fovigraph as fg
from fovigraph import viz
from fovigraph.models import Backbone, BackboneConfig, Block, register
from fovigraph.models.cost import describe
from fovigraph.nn import BatchNorm, KNNConv, LayerNorm

# ---- the family


class Residual(Block):
    fusible = (("conv1", "norm1", "relu1"), ("conv2", "norm2"), ("conv3", "norm3"))

    def __init__(self, plan, channels, out_channels):
        super().__init__()
        start = plan.level
        steps = plan.conv(k=9, stride=2), plan.conv(k=9)
        steps += (plan.between(start, plan.level, k=1),)
        for i, step in enumerate(steps, 1):
            self.runs_on[f"conv{i}"] = step
            width = out_channels if i == 2 else channels
            setattr(self, f"conv{i}", KNNConv(width, out_channels, step.kernel_size, bias=False))
            setattr(self, f"norm{i}", BatchNorm(out_channels))
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x, pyramid):
        y = self.relu1(self.norm1(self.run("conv1", x, pyramid)))
        y = self.norm2(self.run("conv2", y, pyramid))
        return self.relu2(y + self.norm3(self.run("conv3", x, pyramid)))


class PreNorm(Block):
    def __init__(self, channels):
        super().__init__()
        self.norm, self.mlp = LayerNorm("channels", channels), nn.Linear(channels, channels)

    def forward(self, x, pyramid):
        return x + self.mlp(self.norm(x))


@dataclass(frozen=True)
class ToyConfig(BackboneConfig):
    name: str = "toy"
    width: int = 4


class Toy(Backbone):
    @classmethod
    def from_config(cls, config, retina, in_channels=3):
        net, plan, width = cls(), fg.Plan(retina), config.width
        blocks = [Residual(plan, in_channels, width), PreNorm(width), Residual(plan, width, width)]
        net.assemble(blocks, plan, in_channels=in_channels, out_channels=width)
        return net


# ---- what it can do


@pytest.fixture
def toy(monkeypatch):
    from fovigraph.models import _registry

    monkeypatch.setattr(_registry, "FAMILIES", dict(_registry.FAMILIES))
    return register("toy", ToyConfig)(Toy)


@pytest.fixture
def net(toy):
    config = {
        "retina": {"side": 16},
        "backbone": {"name": "toy"},
        "projector": {"channels": []},
        "head": {"num_classes": 3},
    }
    net = fg.FoviNet(config).eval()
    for norm in (m for m in net.modules() if isinstance(m, BatchNorm)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return net


def samples(net):
    return torch.randn(2, len(net.retina.array), 3)


def test_its_intermediates_are_its_blocks(net):
    x = samples(net)
    seen = net.backbone.intermediates(x)
    assert [(name, each.level) for name, each in seen.items()] == [
        *(("layers.0", 2), ("layers.1", 2), ("layers.2", 4)),
    ]
    by_hand = net.backbone.layers[0](x, net.pyramid)
    assert seen["layers.0"].features.equal(by_hand)
    assert seen["layers.2"].features.equal(net.backbone(x))
    out, blocks = net.backbone.forward_intermediates(x, ["layers.1"])
    assert list(blocks) == ["layers.1"] and out.equal(net.backbone(x))


def test_a_pass_for_features_stops_early(net):
    net.backbone.layers[2].forward = None
    seen = net.features(torch.rand(2, 3, 32, 32), layers=["layers.1"])
    assert list(seen) == ["layers.1"]
    assert seen["layers.1"].features.shape == (2, 4, 60, 4)
    with pytest.raises(ValueError, match=r"layers\[0\] must be one of 'layers.0', .* got 'layer1'"):
        net.features(torch.rand(2, 3, 32, 32), layers=["layer1"])
    with pytest.raises(TypeError, match=r"layers must be a list of names, got 'layers\.0'"):
        net.features(torch.rand(2, 3, 32, 32), layers="layers.0")


def test_its_cost_has_the_shortcut_in_its_block(net):
    levels = {row["level"]: row for row in describe(net)["levels"]}
    graphs = [net.pyramid.graphs[0], net.pyramid.graphs[1], net.pyramid.between(0, 2, 1)]
    widths = [(3, 4), (4, 4), (3, 4)]
    flops = [2 * g.num_edges * a * b for g, (a, b) in zip(graphs, widths, strict=True)]
    mlp = 2 * len(net.pyramid.levels[2]) * 4 * 4
    assert levels["conv2"]["flops"] == sum(flops) + mlp
    first = sum(p.numel() for p in net.backbone.layers[:2].parameters())
    assert levels["conv2"]["parameters"] == first
    report = describe(net)
    parts = [*report["levels"], report["projector"], report["head"]]
    for key in ("parameters", "flops"):
        assert sum(part[key] for part in parts) == report["total"][key]


def test_it_is_optimised_right(net):
    optimised = fg.optimize(net)
    assert not any(isinstance(module, BatchNorm) for module in optimised.modules())
    assert sum(isinstance(module, nn.ReLU) for module in optimised.modules()) == 2
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(optimised(images).logits, net(images).logits, rtol=1e-5, atol=1e-5)


def test_its_receptive_fields_are_where_gradients_come_from(net):
    for level in ("conv2", "conv4"):
        for unit in (0, 3):
            reached = net.pyramid.receptive_field(level, unit).nodes
            [strength] = viz.effective_fields(net.backbone, level, [unit])
            assert set(strength.nonzero().squeeze(1).tolist()) <= set(reached.tolist())
            assert strength.sum() > 0


def test_its_pyramid_goes_to_hetero_data_and_back(net):
    other = fg.GraphPyramid.from_hetero_data(net.pyramid.to_hetero_data())
    assert other.relations() == net.pyramid.relations()
    assert ("retina", "between_k1", "conv2") in other.relations()


def test_it_is_saved_and_loaded(net, tmp_path):
    net.save_pretrained(tmp_path)
    images = torch.rand(2, 3, 32, 32)
    assert fg.FoviNet.from_pretrained(tmp_path)(images).logits.equal(net(images).logits)


def test_its_levels_are_drawn_and_explored(net):
    page = viz.explorer_html(net.pyramid)
    assert all(name in page for name in net.pyramid.names)
    features = viz.level_features(net.backbone, samples(net))
    assert list(features) == ["retina", "conv2", "conv4"]
    assert viz.plot_activations(net.pyramid["conv4"], features["conv4"][0])
    assert len(viz.step_layers(net.backbone)) == 4
    for draw in (viz.plot_pyramid, viz.plot_field_sizes):
        assert draw(net.pyramid)
    with pytest.raises(ValueError, match="level must be one that a block ends on or gives"):
        viz.effective_fields(net.backbone, "conv1", [0])


def test_it_compiles_and_exports(net):
    check_compiles(net.backbone, samples(net))


def test_it_learns_with_probes(net):
    from fovigraph.train.learner import LayerProbes

    probes = LayerProbes(net, 3)
    assert [probe.in_features for probe in probes.maps] == [4, 4, 4]
