"""Where an eye samples the visual field, and where those samples lie on the cortex."""

from fovigraph.geometry.array import SensorArray
from fovigraph.geometry.choosing import cmf_a_of_nodes, cmf_a_of_pixels
from fovigraph.geometry.lattice import Warp
from fovigraph.geometry.layout import LAYOUTS, Layout, register_layout
from fovigraph.geometry.magnification import magnification
from fovigraph.geometry.manifold import (
    MANIFOLDS,
    LegacyManifold,
    PlanarManifold,
    SensorManifold,
    sensor_manifold,
)
from fovigraph.geometry.rings import RingLayout

__all__ = [
    "LAYOUTS",
    "MANIFOLDS",
    "Layout",
    "LegacyManifold",
    "PlanarManifold",
    "RingLayout",
    "SensorArray",
    "SensorManifold",
    "Warp",
    "cmf_a_of_nodes",
    "cmf_a_of_pixels",
    "magnification",
    "register_layout",
    "sensor_manifold",
]
