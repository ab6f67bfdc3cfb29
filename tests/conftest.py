import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from shapes import SHAPES, check_shapes
from torch.utils._python_dispatch import TorchDispatchMode

import fovigraph as fg
from fovigraph.geometry import LAYOUTS
from fovigraph.models import FAMILIES
from fovigraph.sensing.fixation import FIXATION_POLICIES

SHAPES += check_shapes()

# Not among the user's files; kept between runs, as compiling takes some seconds.
os.environ.setdefault("FOVIGRAPH_CACHE", str(Path(__file__).parents[1] / ".pytest_cache/fovigraph"))

torch.manual_seed(0)  # random parameters are named alike in every process of pytest-xdist
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: a thread each
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def _fresh_compiler():
    """Forgets what other files compiled: torch recompiles a function a few times at most."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _registries():
    """Takes out of the registries what a test, or an example of a docstring, put in."""
    registries = [FAMILIES, LAYOUTS, FIXATION_POLICIES]
    before = [dict(each) for each in registries]
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


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


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """Chromium without a window, 1400 pixels wide, driven by selenium."""
    webdriver = pytest.importorskip("selenium.webdriver")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"):
        options.add_argument(option)
    options.add_argument("--disable-background-networking")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chromium = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    chromium.set_script_timeout(20)
    yield chromium
    chromium.quit()
