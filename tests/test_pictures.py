"""What notebooks show of arrays, graphs, pyramids and networks."""

import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import torch

import fovigraph as fg


@pytest.fixture(scope="module")
def net():
    overrides = ["head.num_classes=2", "head.class_names=['a<b', cat]"]
    return fg.FoviNet(fg.load_config("fovi_tiny", overrides))


def parsed(thing):
    """The HTML, which is well-formed, as a tree."""
    return ElementTree.fromstring(f"<div>{thing._repr_html_()}</div>")


def paths(tree):
    return [each.get("d") for each in tree.iter("{http://www.w3.org/2000/svg}path")]


def test_array_shows_every_node_where_it_is():
    array = fg.SensorArray.matched(16)
    tree = parsed(array)
    (path,) = paths(tree)
    drawn = torch.tensor([[float(x), -float(y)] for x, y in re.findall(r"M(\S+) (\S+)h0", path)])
    torch.testing.assert_close(drawn, array.cartesian.float(), atol=1e-3, rtol=0)
    assert repr(array) in "".join(tree.itertext())


def test_large_array_is_a_small_picture():
    assert len(fg.SensorArray.matched(128)._repr_html_()) < 100_000


def test_graph_shows_the_edges_of_a_node():
    array = fg.SensorArray.matched(16)
    graph = fg.knn_graph(array, array.strided(2), k=9)
    assert paths(parsed(graph))[2].count("L") in graph.ptr.diff()
    assert len(paths(parsed(graph.to("meta")))) == 2


def test_pyramid_has_a_row_for_every_level(net):
    text = ["".join(row.itertext()) for row in parsed(net.pyramid).iter("tr")]
    assert len(text) == 1 + len(net.pyramid)
    assert text[1] == "retina964" and text[2] == "conv123049"


def test_network_names_its_classes(net):
    text = "".join(parsed(net).itertext())
    assert "FoviNet" in text and "classes: 2: a<b, cat" in text


def test_output_is_its_shapes(net):
    with torch.no_grad():
        said = repr(net.eval()(torch.rand(1, 3, 40, 40), fixations=[[0.5, 0.5]]))
    assert said.startswith("FoviOutput(logits=[1, 2], embeddings=[1, 1, ")
    assert said.endswith("fixation_sizes=[1, 1, 2])") and len(said) < 200


def test_matplotlib_is_not_needed():
    program = """
import sys, fovigraph as fg
fg.SensorArray.matched(8)._repr_html_()
assert "matplotlib" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
