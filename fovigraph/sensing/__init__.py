"""From an image and a place to look to samples on a sensor array."""

from fovigraph.sensing.fixation import (
    FIXATION_POLICIES,
    FixationPolicy,
    Fixations,
    fixation_policy,
)
from fovigraph.sensing.fixation_config import FixationConfig, policy_of
from fovigraph.sensing.image import as_images, read_image
from fovigraph.sensing.inverse import InverseRetina
from fovigraph.sensing.retina import Retina
from fovigraph.sensing.retina_config import RetinaConfig

__all__ = [
    "FIXATION_POLICIES",
    "FixationConfig",
    "FixationPolicy",
    "Fixations",
    "InverseRetina",
    "Retina",
    "RetinaConfig",
    "as_images",
    "fixation_policy",
    "policy_of",
    "read_image",
]
