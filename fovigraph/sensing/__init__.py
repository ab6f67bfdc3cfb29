"""From an image and a place to look to samples on a sensor array."""

from fovigraph.sensing.calibration import CalibrationError, read_camera
from fovigraph.sensing.camera import Camera, field_rays, gaze_rotation
from fovigraph.sensing.choosing import cmf_a_of_camera
from fovigraph.sensing.fixation import (
    FIXATION_POLICIES,
    FixationPolicy,
    Fixations,
    fixation_policy,
    register_policy,
)
from fovigraph.sensing.fixation_config import FixationConfig, policy_of
from fovigraph.sensing.image import as_images, read_image
from fovigraph.sensing.inverse import InverseRetina
from fovigraph.sensing.retina import Retina
from fovigraph.sensing.retina_config import RetinaConfig

__all__ = [
    "FIXATION_POLICIES",
    "CalibrationError",
    "Camera",
    "FixationConfig",
    "FixationPolicy",
    "Fixations",
    "InverseRetina",
    "Retina",
    "RetinaConfig",
    "as_images",
    "cmf_a_of_camera",
    "field_rays",
    "fixation_policy",
    "gaze_rotation",
    "policy_of",
    "read_camera",
    "read_image",
    "register_policy",
]
