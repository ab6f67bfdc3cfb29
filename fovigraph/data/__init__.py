"""What the eye sees as PyG data: a transform, a dataset, and batches taken apart again."""

from fovigraph.data.foveate import Foveate, static_batch
from fovigraph.data.images import FoveatedDataset
from fovigraph.sensing.image import as_image

__all__ = ["Foveate", "FoveatedDataset", "as_image", "static_batch"]
