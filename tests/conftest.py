import pytest
import torch

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
