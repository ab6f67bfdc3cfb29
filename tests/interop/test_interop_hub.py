"""Networks on the Hugging Face Hub, by a stand-in for huggingface_hub; nothing goes out."""

import json
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import fovigraph as fg
from fovigraph.interop import convert

COMMIT = "c" * 40


class Hub:
    """One repository, ``fovi-pytorch/tiny``, of files in a folder."""

    def __init__(self, folder, cache):
        self.folder, self.cache = folder, cache
        self.online = True
        self.asked = []

    def snapshot_download(self, repo_id, *, revision, cache_dir, allow_patterns):
        self.asked.append((repo_id, revision, tuple(allow_patterns)))
        target = Path(cache_dir or self.cache) / COMMIT
        if not self.online:
            if target.exists():
                return str(target)
            raise LocalEntryNotFoundError
        if repo_id != "fovi-pytorch/tiny":
            raise RepositoryNotFoundError
        if revision not in (None, "main", COMMIT):
            raise RevisionNotFoundError
        target.mkdir(parents=True, exist_ok=True)
        for file in self.folder.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, target / file.name)
        return str(target)


class RepositoryNotFoundError(Exception):
    pass


class RevisionNotFoundError(Exception):
    pass


class LocalEntryNotFoundError(Exception):
    pass


@pytest.fixture
def hub(copy, tmp_path_factory, monkeypatch):
    hub = Hub(copy, tmp_path_factory.mktemp("cache"))
    module = SimpleNamespace(snapshot_download=hub.snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return hub


@pytest.mark.parametrize("name", ["tiny", "fovi-pytorch/tiny"])
def test_an_id_or_the_name_of_a_published_network(hub, name):
    net = fg.from_upstream(name)
    assert len(net.retina.array) == 964
    assert {repo for repo, _, _ in hub.asked} == {"fovi-pytorch/tiny"}


def test_a_folder_comes_first(hub, tiny, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny.folder, tmp_path / "tiny")
    fg.from_upstream("tiny")
    assert not hub.asked


def test_one_file_of_weights_is_fetched_of_several(hub):
    shutil.copy(hub.folder / "final_weights.pth", hub.folder / "model.pth")
    (hub.folder / "optimiser.pth").write_bytes(b"large")
    fg.from_upstream("tiny")
    assert {path.name for path in (hub.cache / COMMIT).iterdir()} == {
        "resolved_config.yaml",
        "final_weights.pth",
    }


def test_shards_are_fetched_by_the_index(hub, tiny):
    (hub.folder / "final_weights.pth").unlink()
    torch.save(tiny.weights, hub.folder / "part.pth")
    index = {"weight_map": dict.fromkeys(tiny.weights, "part.pth")}
    (hub.folder / "state_dict.index.json").write_text(json.dumps(index))
    fg.from_upstream("tiny")
    assert hub.asked[-1] == ("fovi-pytorch/tiny", None, ("part.pth",))


def test_revision_and_cache_are_passed_on(hub, tmp_path):
    fg.from_upstream("tiny", revision=COMMIT, cache_dir=tmp_path / "mine")
    assert {revision for _, revision, _ in hub.asked} == {COMMIT}
    assert (tmp_path / "mine" / COMMIT / "final_weights.pth").is_file()


def test_what_is_in_the_cache_needs_no_network(hub):
    fg.from_upstream("tiny")
    hub.online = False
    hub.asked.clear()
    fg.from_upstream("tiny")
    assert len(hub.asked) == 1


def test_no_network_and_not_in_the_cache(hub):
    hub.online = False
    with pytest.raises(FileNotFoundError, match="there is no network, and it is not in the cache"):
        fg.from_upstream("tiny")


def test_half_in_the_cache_and_no_network(hub):
    fg.from_upstream("tiny")
    (hub.cache / COMMIT / "final_weights.pth").unlink()
    hub.online = False
    with pytest.raises(FileNotFoundError, match="or there is no network"):
        fg.from_upstream("tiny")


def test_no_such_repository(hub):
    with pytest.raises(FileNotFoundError, match=r"no folder 'nobody/none'.*no such repository"):
        fg.from_upstream("nobody/none")


class GatedRepoError(RepositoryNotFoundError):
    pass


class HfHubHTTPError(Exception):
    response = SimpleNamespace(status_code=401)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            GatedRepoError("403 Client Error.\n\nCannot"),
            "its owner must grant access first",
        ),
        (RepositoryNotFoundError(), "no such repository, or it is private: a token"),
        (HfHubHTTPError("401 Unauthorized"), "access is refused: a token"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("load", [fg.from_upstream, fg.FoviNet.from_pretrained, convert])
def test_without_a_token(hub, tmp_path, monkeypatch, error, message, load):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(sys.modules["huggingface_hub"], "snapshot_download", refuse)
    more = (tmp_path / "net",) if load is convert else ()
    with pytest.raises(FileNotFoundError, match=message) as caught:
        load("fovi-pytorch/gated", *more)
    assert "HF_TOKEN, or `hf auth login`" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("net*"))


def test_no_such_revision(hub):
    with pytest.raises(FileNotFoundError, match="at revision 'v9': there is no such revision"):
        fg.from_upstream("tiny", revision="v9")


def test_a_repository_without_weights(hub):
    (hub.folder / "final_weights.pth").unlink()
    with pytest.raises(FileNotFoundError, match="has no weights"):
        fg.from_upstream("tiny")


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'fovigraph\[hub\]'"):
        fg.from_upstream("some-network")
