"""Backbones by name: what registers, and what is refused."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from torch import nn

import fovigraph as fg
from fovigraph.models import FAMILIES, Backbone, BackboneConfig, PoolBlock, build_backbone, register


@dataclass(frozen=True)
class ToyConfig(BackboneConfig):
    name: str = "toy"
    side: int = 4


@pytest.fixture
def toy():
    """A registered family, for one test."""

    @register("toy", ToyConfig)
    class Toy(Backbone):
        @classmethod
        def from_config(cls, config, retina, in_channels=3):
            net, plan = cls(), fg.Plan(retina)
            net.assemble(
                [PoolBlock(plan.pool(side=config.side), "max")],
                plan,
                in_channels=in_channels,
                out_channels=in_channels,
            )
            return net

    assert FAMILIES["toy"].backbone is Toy
    return Toy


def test_alexnet_is_registered():
    assert FAMILIES["alexnet"].backbone is fg.KNNAlexNet
    assert FAMILIES["alexnet"].config().name == "alexnet"


def test_a_configuration_names_a_registered_family(toy):
    net = fg.FoviNet({"backbone": {"name": "toy", "side": 2}, "projector": {"channels": []}})
    assert isinstance(net.backbone, toy)
    assert net.backbone.num_features == 6


def test_a_class_may_be_defined_again_but_not_another_of_its_name(toy):
    assert register("toy", ToyConfig)(toy) is toy
    with pytest.raises(ValueError, match="name must be new, got 'toy'"):
        register("toy", ToyConfig)(fg.KNNAlexNet)


def test_what_is_not_registered(toy):
    with pytest.raises(TypeError, match="name must be a string, got 3"):
        register(3, ToyConfig)
    with pytest.raises(TypeError, match="config must be a dataclass of BackboneConfig, got <class"):
        register("toy", dict)
    with pytest.raises(TypeError, match="config must be a dataclass of BackboneConfig, got <class"):
        register("toy", BackboneConfig)
    with pytest.raises(ValueError, match="config must have the name 'other' by default, got 'toy'"):
        register("other", ToyConfig)
    with pytest.raises(TypeError, match="backbone must be a class of Backbone, got <class"):
        register("toy", ToyConfig)(nn.Linear)


def test_a_family_says_how_it_is_built(retina):
    with pytest.raises(NotImplementedError, match="Backbone must define from_config"):
        Backbone.from_config(ToyConfig(), retina)


def test_a_name_that_is_not_registered(retina):
    with pytest.raises(ValueError, match=r"backbone\.name must be one of .*, got 'toy'"):
        build_backbone(ToyConfig(), retina)


@dataclass(frozen=True)
class ListsConfig(BackboneConfig):
    name: str = "lists"
    widths: Sequence[int] = (8, 16)
    sizes: Sequence[int] = (3, 3)

    def check(self):
        self.check_lists("widths", "sizes")


def test_lists_of_a_section_are_checked_together():
    assert ListsConfig().check_lists("widths", "sizes") == 2
    assert ListsConfig(widths=[1], sizes=[2]).check_lists("sizes") == 1
    for lists, message in [
        ({"widths": []}, r"backbone.widths must have at least one entry, got \[\]"),
        ({"sizes": [3]}, "backbone.sizes must have 2 entries like backbone.widths, got 1"),
        ({"widths": [0, 1]}, r"backbone.widths\[0\] must be at least 1, got 0"),
        ({"sizes": [1, -1]}, r"backbone.sizes\[1\] must be at least 1, got -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            ListsConfig(**lists)
