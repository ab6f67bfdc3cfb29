import pytest
import torch
from jaxtyping import install_import_hook

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


@pytest.fixture(scope="session")
def retina():
    return fg.SensorArray.matched(14)


@pytest.fixture(scope="session")
def graph(retina):
    """A small graph that halves the resolution; some of its neighbourhoods reach into padding."""
    return fg.knn_graph(retina, retina.strided(2), k=20)
