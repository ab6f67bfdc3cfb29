"""What a network needs of its backbone: a class to derive from, and builders by name."""

import pytest
import torch
from torch import nn

import fovigraph as fg
from fovigraph.models import Backbone, build_backbone


class Pooled(Backbone):
    """A backbone of somebody's own."""

    def __init__(self, retina):
        super().__init__()
        self.pyramid = fg.GraphPyramid(retina, [fg.Step("pool", side=4)])
        self.num_features = 3 * len(self.pyramid.levels[-1])
        self.pool = fg.nn.KNNPool("max")

    def forward(self, x):
        return self.pool(x, self.pyramid.graphs[0])


def test_backbones_are_told_by_their_class(retina):
    net = fg.KNNAlexNet(fg.GraphPyramid(retina, fg.KNNAlexNet.steps([1], [9])), [4])
    assert isinstance(net, Backbone)
    assert isinstance(Pooled(retina), Backbone)
    assert not isinstance(nn.Linear(2, 2), Backbone)
    assert not isinstance(fg.FoviNet(fg.load_config("fovi_tiny")), Backbone)


def test_a_backbone_of_ones_own_takes_part_in_a_network(retina):
    backbone = Pooled(retina)
    x = torch.rand(2, len(retina), 3)
    assert backbone(x).flatten(1).shape == (2, backbone.num_features)
    net = fg.FoviNet(fg.load_config("fovi_tiny", ["projector.channels=[]"]))
    net.backbone = Pooled(net.retina.array)
    net.head = fg.models.LinearProbe(net.backbone.num_features, 10)
    assert net.pyramid is net.backbone.pyramid
    assert net(torch.rand(1, 3, 32, 32)).logits.shape == (1, 10)


def test_forward_is_for_the_subclass_to_define(retina):
    with pytest.raises(NotImplementedError, match="Backbone must call assemble in its constructor"):
        Backbone()(torch.rand(1, 2, 3))


def test_a_pyramid_is_seen_through_wrappers():
    net = fg.FoviNet(fg.load_config("fovi_tiny"))
    pyramid = net.pyramid
    net.backbone = nn.DataParallel(net.backbone)
    assert net.pyramid is pyramid


def test_building_by_name_needs_a_section_and_a_retina(retina):
    section = fg.load_config("fovi_tiny").backbone
    with pytest.raises(TypeError, match="config must be the section of a configuration, got"):
        build_backbone({"name": "alexnet"}, retina)
    with pytest.raises(TypeError, match="retina must be a SensorArray, got 14"):
        build_backbone(section, 14)
