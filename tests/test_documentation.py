"""What README, docstrings and examples show is run as it stands."""

import doctest
import importlib
import pkgutil
import re
import runpy
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import fovigraph
from fovigraph._shipped import recipe_names
from fovigraph.cli import main
from fovigraph.cli.parser import parse
from fovigraph.geometry import LAYOUTS

ROOT = Path(__file__).parents[1]
MODULES = sorted(module.name for module in pkgutil.walk_packages(fovigraph.__path__, "fovigraph."))


@pytest.fixture(autouse=True)
def _layouts_go_with_the_test():
    before = dict(LAYOUTS)
    yield
    LAYOUTS.clear()
    LAYOUTS.update(before)


def test_readmes_snippets_run_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(snippets) >= 5
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert names["y"].shape == (8, 964, 128)
    assert names["z"].shape == (8, 230, 128)
    assert names["out"].logits.shape == (2, 10)
    assert names["out"].embeddings.shape == (2, 2, 64)
    assert names["out"].fixation_logits.shape == (2, 2, 10)


def _command_lines():
    """Every command line of ours in the documents' shell blocks, as (document, words)."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for block in re.findall(r"```(?:sh|bash)\n(.*?)```", path.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if "fovigraph" in words:  # perhaps after torchrun … -m, or srun
                    yield path.name, words[words.index("fovigraph") + 1 :]


COMMAND_LINES = [pytest.param(*each, id=" ".join(each[1])) for each in _command_lines()]


@pytest.mark.parametrize(("document", "words"), COMMAND_LINES)
def test_command_lines_are_understood(document, words):
    args = parse(words)
    if args.command == "train" and args.config in recipe_names():
        pytest.importorskip("lightning")
        fovigraph.train.load_recipe(args.config, args.overrides)
    if hasattr(args, "model") and args.command != "eval":
        assert args.model in {*fovigraph.config_names(), *fovigraph.models.pretrained_names()}


DOCUMENTS = sorted({each.values[0] for each in COMMAND_LINES})


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_documents_command_lines_run_one_after_the_other(document, tmp_path, monkeypatch, capsys):
    """As they are written, but for what training costs: few scenes, and one epoch or two."""
    for package in ("skimage", "lightning", "sklearn"):
        pytest.importorskip(package)
    from fovigraph.train import recipe, scenes
    from fovigraph.viz import style

    load = recipe.load_recipe

    def load_short(name, overrides=(), **options):
        found = load(name, overrides, **options)
        epochs = 2 if options.get("run") else 1  # a run that is resumed goes on
        return replace(found, train=replace(found.train, epochs=epochs))

    monkeypatch.setattr(recipe, "load_recipe", load_short)
    monkeypatch.setattr(scenes, "COUNTS", {"train": 40, "test": 20})
    monkeypatch.setattr(style, "DPI", 20)
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "FOLDER"):
        for kind, colour in (("cat", "grey"), ("dog", "brown")):
            (tmp_path / name / kind).mkdir(parents=True)
            for i in range(10):
                image = Image.new("RGB", (64, 48), colour)
                image.save(tmp_path / name / kind / f"{i}.jpg")
    image.save(tmp_path / "photo.jpg")
    for name in ("theirs", "fovi-alexnet_a-0.5_res-64_rfmult-2_in1k"):
        shutil.copytree(ROOT / "tests" / "data" / "upstream_tiny", tmp_path / name)
    lines = [each.values[1] for each in COMMAND_LINES if each.values[0] == document]
    if document == "train.md":  # the network that others of its lines start from
        lines.insert(0, ["train", "fovi_tiny", "data.source=photos", "--out", "runs/first"])
    for words in lines:
        if "train.devices=" in " ".join(words):  # in processes of their own, at full length
            continue
        assert main(words) == 0, words
        assert capsys.readouterr().out


def test_the_page_of_layouts_runs_top_to_bottom():
    text = (ROOT / "docs" / "layouts.md").read_text()
    names: dict[str, object] = {}
    for snippet in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(snippet, "layouts.md", "exec"), names)
    assert [len(names[name]) for name in ("disc", "square", "lattice")] == [4085, 4094, 4096]
    assert names["lattice"].mask.sum() == 3228
    assert names["retina"].layout == "watson_temporal"


def test_readmes_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_docstring_examples_run(name):
    if name.startswith("fovigraph.ops.gpu."):
        pytest.importorskip("triton")
    failures, _ = doctest.testmod(importlib.import_module(name))
    assert failures == 0


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [path.name, "--quick"])
    monkeypatch.syspath_prepend(path.parent)
    runpy.run_path(str(path), run_name="__main__")
