"""What ``import fovigraph`` gives, and what it costs."""

import subprocess
import sys

import pytest

import fovigraph as fg

MODULES = ("data", "geometry", "graph", "interop", "models", "nn", "ops", "sensing", "train")


@pytest.mark.parametrize("name", [*fg.__all__, *MODULES])
def test_every_name_is_there_and_listed(name):
    assert getattr(fg, name) is not None
    assert name in dir(fg)


def test_pictures_too():
    pytest.importorskip("matplotlib")
    assert callable(fg.viz.plot_sampling) and "viz" in dir(fg)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'FoviNat'"):
        fg.FoviNat  # noqa: B018
    with pytest.raises(ImportError):
        exec("from fovigraph import FoviNat")


def test_everything_is_imported_when_it_is_first_used():
    program = """
import sys
import fovigraph as fg
assert "torch" not in sys.modules
from fovigraph import FoviNet
assert fg.FoviNet is FoviNet and "matplotlib" not in sys.modules and "lightning" not in sys.modules
from fovigraph import *
assert SensorArray is fg.SensorArray and "matplotlib" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_needs_no_network_does_not_wait_for_torch():
    program = """
import sys
from fovigraph.cli import main
for command in (["--version"], ["--help"], ["train", "--help"], ["plot", "--help"]):
    assert main(command) == 0
from fovigraph import config
from fovigraph.config import ConfigError, config_names, load_config
assert "fovi_tiny" in config_names() and "FoviConfig" in dir(config)
import fovigraph as fg
assert "fovi_tiny" in fg.list_models() and "fovi_cifar10" in fg.list_models(pretrained=True)
assert "torch" not in sys.modules and "torch_geometric" not in sys.modules
assert isinstance(load_config("fovi_tiny"), config.FoviConfig) and "torch" in sys.modules
try:
    config.FoviConfg
except AttributeError as error:
    assert "has no attribute 'FoviConfg'" in str(error)
else:
    raise SystemExit("a name that is not there")
"""
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
