import pytest
import torch

import fovigraph as fg


@pytest.fixture(scope="session")
def array():
    """A small foveated array."""
    return fg.SensorArray.matched(14)


@pytest.fixture(scope="session")
def pyramid(array):
    steps = [fg.Step("conv", k=9, stride=2), fg.Step("pool", k=9, stride=2)]
    return fg.GraphPyramid(array, steps)


@pytest.fixture
def image():
    """A photograph of noise, wider than high."""
    return torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)
