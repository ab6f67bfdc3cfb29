"""Imports point one way: between modules there is no cycle, between packages the drawing holds."""

import re
from itertools import pairwise
from pathlib import Path

import grimp
import networkx as nx
import pytest

CONTRIBUTING = Path(__file__).parent.parent / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def imports():
    """Every import of one module by another, those within functions included."""
    graph = grimp.build_graph("fovigraph", exclude_type_checking_imports=True, cache_dir=None)
    return nx.DiGraph(
        (module, imported)
        for module in graph.modules - {"fovigraph.__main__"}  # runs the command line
        for imported in graph.find_modules_directly_imported_by(module)
    )


def layers():
    """Names of the packages as CONTRIBUTING draws them, the lowest first."""
    [drawing] = re.findall(r"^    (geometry ← .*)$", CONTRIBUTING.read_text("utf-8"), re.MULTILINE)
    return [part.split(", ") for part in drawing.split(" ← ")]


def package(module):
    """``"nn"`` of ``"fovigraph.nn.norm"``; empty for the root and for private modules."""
    name = module.removeprefix("fovigraph").lstrip(".").partition(".")[0]
    return "" if name.startswith("_") else name


def test_there_is_no_cycle(imports):
    assert len(imports) > 100
    cycles = [part for part in nx.strongly_connected_components(imports) if len(part) > 1]
    assert cycles == []


def test_packages_import_only_what_is_drawn_below_them(imports):
    height = {name: i for i, layer in enumerate(layers()) for name in layer}
    upwards = [
        f"{module} imports {imported}"
        for module, imported in imports.edges
        if package(imported) not in ("", package(module))
        and height[package(imported)] >= height.get(package(module), -1)
    ]
    assert upwards == []


def test_the_drawing_names_every_package(imports):
    drawn = {name for layer in layers() for name in layer}
    assert drawn == {package(module) for module in imports} - {""}


def test_the_drawing_is_no_higher_than_it_has_to_be(imports):
    packages = {(package(a), package(b)) for a, b in imports.edges}
    for lower, upper in pairwise(layers()):
        assert any((b, a) in packages for a in lower for b in upper), (lower, upper)
