"""Networks that are uploaded to the Hugging Face Hub, here to a stand-in for it."""

from __future__ import annotations

import shutil
import sys
from types import SimpleNamespace

import pytest
import torch

import fovigraph as fg


@pytest.fixture
def net():
    return fg.FoviNet(fg.load_config("fovi_tiny", ["head.num_classes=2"])).eval()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """What was asked of the Hub, whose repository is a folder."""
    asked = {"folder": tmp_path / "repository"}

    class HfApi:
        def __init__(self, token):
            asked["token"] = token

        def create_repo(self, repo_id, *, private, exist_ok):
            asked["made"] = (repo_id, private, exist_ok)

        def upload_folder(self, *, folder_path, **options):
            asked.update(options)
            shutil.copytree(folder_path, asked["folder"])
            return SimpleNamespace(commit_url=f"hub/{options['repo_id']}/commit/1")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=HfApi))
    return asked


def test_what_is_uploaded_loads_again(net, hub):
    assert net.push_to_hub("me/eye", private=True, token="t") == "hub/me/eye/commit/1"
    assert hub["made"] == ("me/eye", True, True)
    assert (hub["repo_id"], hub["token"], hub["revision"]) == ("me/eye", "t", None)
    names = {path.name for path in hub["folder"].iterdir()}
    assert names == {"README.md", "config.yaml", "model.safetensors"}
    again = fg.FoviNet.from_pretrained(hub["folder"])
    images = torch.rand(1, 3, 40, 40)
    assert torch.equal(again(images).logits, net(images).logits)
    card = (hub["folder"] / "README.md").read_text()
    assert 'from_pretrained("me/eye")' in card


def test_a_card_of_ones_own(net, hub):
    net.push_to_hub("me/eye", card="# Mine", revision="next", commit_message="More")
    assert (hub["folder"] / "README.md").read_text() == "# Mine"
    assert (hub["revision"], hub["commit_message"]) == ("next", "More")


def test_what_is_no_repository(net, hub):
    with pytest.raises(ValueError, match=r"repo_id must be 'owner/name', got 'eye'"):
        net.push_to_hub("eye")
    with pytest.raises(TypeError, match="repo_id"):
        net.push_to_hub(3)
    assert "made" not in hub


def test_nothing_is_uploaded_of_a_network_that_cannot_be_saved(net, hub):
    with torch.no_grad():
        next(net.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        net.push_to_hub("me/eye")
    assert "made" not in hub


def test_without_huggingface_hub(net, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'fovigraph\[hub\]'"):
        net.push_to_hub("me/eye")
