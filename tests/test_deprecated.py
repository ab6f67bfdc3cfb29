"""Names of the last release still work, with a warning that says the new one."""

import importlib

import pytest

import fovigraph as fg
from fovigraph.models import KNNAlexNet, OneView

RETINA = fg.SensorArray.matched(8)
RENAMED = {
    "fovigraph.Stage": "Step",
    "fovigraph.graph.Stage": "Step",
    "fovigraph.models.OneGlance": "OneView",
    "fovigraph.viz.plot_glance": "plot_view",
    "fovigraph.viz.telling_nodes": "example_nodes",
    "fovigraph.viz.telling_unit": "example_unit",
}


@pytest.mark.parametrize("old", RENAMED)
def test_renamed_names_are_the_new_ones(old):
    module, _, name = old.rpartition(".")
    module = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=rf"{old} is now called .*{RENAMED[old]}; the old"):
        found = getattr(module, name)
    assert found is getattr(module, RENAMED[old])
    assert name not in getattr(module, "__all__", ())


def test_renamed_arguments_and_attributes():
    steps = [fg.Step("pool", k=4)]
    with pytest.warns(DeprecationWarning, match="the argument stages is now called steps"):
        pyramid = fg.GraphPyramid(RETINA, stages=steps)
    with pytest.warns(DeprecationWarning, match="stages is now called GraphPyramid.steps"):
        assert pyramid.stages == pyramid.steps == tuple(steps)
    with pytest.warns(DeprecationWarning, match=r"KNNAlexNet\.stages is now called KNNAlexNet.ste"):
        stages = KNNAlexNet.stages([1], [9])
    assert stages == KNNAlexNet.steps([1], [9])
    with pytest.raises(TypeError, match="steps must be given once, got stages as well"):
        fg.GraphPyramid(RETINA, steps=steps, stages=steps)


def test_other_names_are_missing_as_ever():
    with pytest.raises(AttributeError, match="has no attribute 'Sage'"):
        _ = fg.graph.Sage
    assert OneView.__name__ == "OneView"
