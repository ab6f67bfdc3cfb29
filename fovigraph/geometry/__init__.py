"""Where an eye samples the visual field, and where those samples lie on the cortex."""

from fovigraph.geometry.array import SensorArray
from fovigraph.geometry.choosing import cmf_a_of_nodes, cmf_a_of_pixels
from fovigraph.geometry.layout import LAYOUTS
from fovigraph.geometry.magnification import magnification
from fovigraph.geometry.manifold import (
    MANIFOLDS,
    LegacyManifold,
    PlanarManifold,
    SensorManifold,
    sensor_manifold,
)

__all__ = [
    "LAYOUTS",
    "MANIFOLDS",
    "LegacyManifold",
    "PlanarManifold",
    "SensorArray",
    "SensorManifold",
    "cmf_a_of_nodes",
    "cmf_a_of_pixels",
    "magnification",
    "sensor_manifold",
]
