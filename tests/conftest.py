import pytest
import torch
from jaxtyping import install_import_hook
from torch.utils._python_dispatch import TorchDispatchMode

# Where shapes are annotated, calls are checked against them while the tests run.
CHECKED = (
    "fovigraph.geometry.layout",
    "fovigraph.graph.geodesic",
    "fovigraph.graph.search",
)
with install_import_hook(CHECKED, "beartype.beartype"):
    import fovigraph as fg


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Largest(TorchDispatchMode):
    """Notes the bytes of the largest tensor that an operator makes, but for views of an image."""

    def __init__(self, image):
        super().__init__()
        self.image = image.untyped_storage().data_ptr()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage.data_ptr() != self.image:
                    self.bytes = max(self.bytes, storage.nbytes())
        return out


@pytest.fixture
def largest():
    """What notes the largest tensor that is made of an image: ``with largest(image) as made``."""
    return Largest


@pytest.fixture(scope="session")
def retina():
    return fg.SensorArray.matched(14)


@pytest.fixture(scope="session")
def graph(retina):
    """A small graph that halves the resolution; some of its neighbourhoods reach into padding."""
    return fg.knn_graph(retina, retina.strided(2), k=20)
