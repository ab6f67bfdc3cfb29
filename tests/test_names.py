"""What the name of a network stands for, everywhere alike."""

import pytest

import fovigraph as fg
from fovigraph._names import HUB_ID, Named, what_is_named
from fovigraph.cli.networks import read_config, saved_folder
from fovigraph.models.pretrained import BUNDLED

NETWORK, CONFIGURATION = Named.NETWORK, Named.CONFIGURATION


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory, and home folder, with networks, files and folders of all kinds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("net", "fovi_tiny", "fovi_cifar10", "owner/net"):
        (tmp_path / folder).mkdir(parents=True)
        fg.save_config(fg.load_config("fovi_tiny", ["fixation.count=3"]), f"{folder}/config.yaml")
        (tmp_path / folder / "model.safetensors").write_bytes(b"")
    (tmp_path / "own.yaml").write_text("base: fovi_tiny\nfixation: {count: 3}")
    (tmp_path / "owner" / "file").write_text("base: fovi_tiny\nfixation: {count: 3}")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "network_first", "configuration_first"),
    [
        ("fovi_cifar10", NETWORK, CONFIGURATION),
        ("fovi_tiny", NETWORK, CONFIGURATION),  # there is a folder of this name
        ("fovi_alexnet", CONFIGURATION, CONFIGURATION),
        ("net", NETWORK, NETWORK),
        ("./net", NETWORK, NETWORK),
        ("~/net", NETWORK, NETWORK),
        ("owner/net", NETWORK, NETWORK),
        ("owner/file", CONFIGURATION, CONFIGURATION),
        ("own.yaml", CONFIGURATION, CONFIGURATION),
        ("~/own.yaml", CONFIGURATION, CONFIGURATION),
        ("owner/missing.yaml", CONFIGURATION, CONFIGURATION),
        ("owner/missing", NETWORK, NETWORK),  # perhaps on the Hub
        ("missing", None, None),
        ("owner/missing/net", None, None),
        ("~\0", None, None),
        ("", None, None),
    ],
)
def test_a_name_stands_for(here, name, network_first, configuration_first):
    assert what_is_named(name) is network_first
    assert what_is_named(name, configuration_first=True) is configuration_first


@pytest.mark.parametrize("name", ["net", "~/net", "owner/net", "own.yaml", "~/own.yaml"])
def test_python_and_the_command_line_read_the_same(here, name):
    assert fg.create_model(name).config == read_config(name, [])


def test_the_trained_network_of_the_package_goes_before_a_folder(here):
    assert saved_folder("fovi_cifar10") == BUNDLED / "fovi_cifar10"
    assert saved_folder("fovi_tiny").resolve() == here.resolve() / "fovi_tiny"


@pytest.mark.parametrize("name", ["owner/name", "o/n", "o-w.n_er/1.5-b", "_a/b_"])
def test_ids_on_the_hub(name):
    assert HUB_ID.fullmatch(name)


@pytest.mark.parametrize("name", ["name", "a/b/c", "-a/b", "a/-b", "a/b.", "./a", "~/a", "a/b\n"])
def test_no_ids_on_the_hub(name):
    assert not HUB_ID.fullmatch(name)
