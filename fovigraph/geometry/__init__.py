"""Where an eye samples the visual field, and where those samples lie on the cortex."""

from fovigraph.geometry.array import SensorArray
from fovigraph.geometry.choosing import cmf_a_of_nodes, cmf_a_of_pixels
from fovigraph.geometry.coordinates import (
    cartesian_to_polar,
    complex_log,
    first_ring,
    log_radius,
    polar_to_cartesian,
    row_column_to_xy,
    xy_to_row_column,
)
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
    "cartesian_to_polar",
    "cmf_a_of_nodes",
    "cmf_a_of_pixels",
    "complex_log",
    "first_ring",
    "log_radius",
    "magnification",
    "polar_to_cartesian",
    "register_layout",
    "row_column_to_xy",
    "sensor_manifold",
    "xy_to_row_column",
]
