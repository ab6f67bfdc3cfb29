"""Backbones by name."""

from __future__ import annotations

from collections.abc import Callable

from omegaconf import DictConfig

from fovigraph._checks import instance, one_of
from fovigraph.geometry import SensorArray
from fovigraph.graph import GraphPyramid
from fovigraph.models.alexnet import KNNAlexNet
from fovigraph.models.backbone import Backbone


def _alexnet(config: DictConfig, retina: SensorArray) -> KNNAlexNet:
    steps = KNNAlexNet.steps(
        config.strides,
        config.k,
        config.pool_after,
        kernel_multiplier=config.kernel_multiplier,
        pool=config.pool,
        pool_k=config.pool_k,
        pool_stride=config.pool_stride,
        out_side=config.out_side,
    )
    pyramid = GraphPyramid(retina, steps, metric=config.metric)
    return KNNAlexNet(pyramid, list(config.channels), norm=config.norm, conv=config.conv)


BUILDERS: dict[str, Callable[[DictConfig, SensorArray], Backbone]] = {"alexnet": _alexnet}


def build_backbone(config: DictConfig, retina: SensorArray) -> Backbone:
    """Build the backbone that a configuration's ``backbone`` section names.

    Args:
        config: The section, of the schema :data:`fovigraph.config.BACKBONES` has for its name.
        retina: The lowest level.

    Raises:
        ValueError, TypeError: If the section does not describe a backbone, or an argument is of
            another type.
    """
    instance("config", config, DictConfig, allowed="the section of a configuration")
    instance("retina", retina, SensorArray)
    return BUILDERS[one_of("backbone.name", config.name, BUILDERS)](config, retina)
