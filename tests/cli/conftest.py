import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def small_pictures(monkeypatch):
    from fovigraph.viz import style

    monkeypatch.setattr(style, "DPI", 20)


@pytest.fixture(scope="session")
def photograph(tmp_path_factory):
    """The path of a picture of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("photograph") / "noise.png"
    Image.fromarray(pixels).save(path)
    return str(path)
