"""Graphs kept on disk: read instead of made, made again where they cannot be read."""

import importlib
import logging
import os

import pytest
import torch

import fovigraph as fg

knn = importlib.import_module("fovigraph.graph.knn_graph")
stored = importlib.import_module("fovigraph.graph.stored")

GEOMETRY = ("edge_index", "distance", "offset", "relative_distance")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """An empty cache; every graph is worth keeping, and all that is said is said again."""
    monkeypatch.setenv("FOVIGRAPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(knn, "LEAST", 1)
    stored._say.cache_clear()
    return tmp_path / "cache" / "graphs"


@pytest.fixture
def made(monkeypatch):
    """Notes how often neighbours were searched."""
    calls, nearest = [], knn._nearest
    monkeypatch.setattr(knn, "_nearest", lambda *args: (calls.append(args), nearest(*args))[1])
    return calls


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in GEOMETRY)


def test_a_graph_is_made_once_and_read_from_then_on(folder, made):
    array = fg.SensorArray.matched(16)
    first = fg.knn_graph(array, array.strided(2), k=9)
    again = fg.knn_graph(fg.SensorArray.matched(16), array.strided(2), k=9)
    assert len(made) == 1 and same(first, again)
    assert again.edge_index.dtype == torch.int64
    assert len(list(folder.iterdir())) == 1


def test_every_difference_makes_another_graph(folder, made):
    array, other = fg.SensorArray.matched(16), fg.SensorArray.matched(16, cmf_a=1.0)
    square = fg.SensorArray.matched(16, layout="logpolar_image")
    dst = array.strided(2)
    fg.knn_graph(array, dst, k=9)
    fg.knn_graph(array, dst, k=8)
    fg.knn_graph(array, array, k=9)
    fg.knn_graph(array, dst, k=9, metric="visual")
    fg.knn_graph(other, other.strided(2), k=9)
    fg.knn_graph(square, square.strided(2), k=9)
    assert len(made) == len(list(folder.iterdir())) == 6


def test_small_graphs_are_not_kept_and_nothing_is_if_switched_off(folder, monkeypatch):
    array = fg.SensorArray.matched(16)
    monkeypatch.setattr(knn, "LEAST", 1 << 16)
    fg.knn_graph(array, array.strided(2), k=9)
    monkeypatch.setattr(knn, "LEAST", 1)
    monkeypatch.setenv("FOVIGRAPH_CACHE", "off")
    fg.knn_graph(array, array.strided(2), k=9)
    assert not folder.exists()


@pytest.mark.parametrize("damage", ["cut", "noise", "values", "empty"])
def test_a_damaged_file_is_said_once_and_made_again(damage, folder, made, caplog):
    array = fg.SensorArray.matched(16)
    first = fg.knn_graph(array, array.strided(2), k=9)
    [path] = folder.iterdir()
    whole = path.read_bytes()
    if damage == "values":  # a node that there is not
        edges = first.edge_index.to(torch.int32)
        edges[0, 0] = 10**6
        content = {name: getattr(first, name).contiguous() for name in GEOMETRY}
        stored.save_file(content | {"edge_index": edges}, path)
    else:
        path.write_bytes({"cut": whole[:-100], "noise": b"x" * 300, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        again = fg.knn_graph(array, array.strided(2), k=9)
    assert same(first, again) and len(made) == 2
    assert len(caplog.records) == 1 and "made again" in caplog.text
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_said_once(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FOVIGRAPH_CACHE", str(tmp_path / "file"))
    array = fg.SensorArray.matched(16)
    with caplog.at_level(logging.WARNING):
        fg.knn_graph(array, array.strided(2), k=9)
        fg.knn_graph(array, array.strided(2), k=9)
    assert len(caplog.records) == 1 and "FOVIGRAPH_CACHE" in caplog.text


def test_what_was_not_used_for_longest_goes_first(folder, monkeypatch):
    array = fg.SensorArray.matched(16)
    for k in (5, 6):
        fg.knn_graph(array, array, k=k)
    old, new = sorted(folder.iterdir(), key=lambda path: path.stat().st_size)
    os.utime(old, (1, 1)), os.utime(new, (2, 2))
    fg.knn_graph(array, array, k=5)  # is used, and so is newer now
    monkeypatch.setattr(stored, "MOST", 2 * new.stat().st_size)
    fg.knn_graph(array, array, k=4)
    assert old.exists() and not new.exists() and len(list(folder.iterdir())) == 2
