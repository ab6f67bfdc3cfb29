"""A small network that the upstream package made, and copies of it to spoil."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import fovigraph as fg

TINY = Path(__file__).parents[1] / "data" / "upstream_tiny"
CONFIG, WEIGHTS, NEIGHBOURS = "resolved_config.yaml", "final_weights.pth", "neighbours.pth"


@pytest.fixture(scope="session")
def tiny():
    """The folder, its files by name, and its configuration as plain mappings."""
    content = OmegaConf.to_container(OmegaConf.load(TINY / CONFIG))
    return SimpleNamespace(
        folder=TINY,
        config=content,
        weights=torch.load(TINY / WEIGHTS)["state_dict"],
        neighbours=torch.load(TINY / NEIGHBOURS),
    )


@pytest.fixture(scope="session")
def recorded():
    """What upstream computed: `tests/make_upstream_checkpoint.py` describes the arrays."""
    with np.load(TINY / "expected.npz") as file:
        assert str(file["version"]) == "2.4.0"
        return {name: torch.from_numpy(file[name]) for name in file.files if name != "version"}


@pytest.fixture(scope="session")
def loaded():
    """The network with upstream's neighbours; not to be changed."""
    return fg.from_upstream(TINY, neighbours=TINY / NEIGHBOURS)


@pytest.fixture
def copy(tmp_path):
    """A copy of the configuration and weights, to be spoilt."""
    for name in (CONFIG, WEIGHTS):
        shutil.copy(TINY / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def configured(copy):
    """A function that changes keys of the copy's configuration, ``section__key=value``."""

    def change(*remove, **changes):
        content = OmegaConf.load(copy / CONFIG)
        for key, value in changes.items():
            OmegaConf.update(content, key.replace("__", "."), value, force_add=True)
        for key in remove:
            section, _, name = key.rpartition(".")
            OmegaConf.select(content, section).pop(name)
        OmegaConf.save(content, copy / CONFIG)
        return copy

    return change
