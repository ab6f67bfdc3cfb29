"""From an image and a place to look to samples on a sensor array."""

from fovigraph.sensing.fixation import (
    FIXATION_POLICIES,
    FixationPolicy,
    Fixations,
    fixation_policy,
)
from fovigraph.sensing.image import as_images, read_image
from fovigraph.sensing.inverse import InverseRetina
from fovigraph.sensing.retina import Retina

__all__ = [
    "FIXATION_POLICIES",
    "FixationPolicy",
    "Fixations",
    "InverseRetina",
    "Retina",
    "as_images",
    "fixation_policy",
    "read_image",
]
