"""Whatever is given to be drawn is drawn, or refused by an error that names the argument."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import fovigraph as fg
from fovigraph import viz

WRONG = [
    None,
    True,
    -1,
    10**30,
    float("nan"),
    1.5,
    "x",
    [],
    [None],
    {"x": 1},
    object(),
    np.zeros((2, 2, 2, 2)),
    np.array(["x"]),
    np.array(3),
    torch.zeros(0),
    torch.zeros(3, 2) * float("nan"),
    torch.zeros(3, 3, dtype=torch.complex64),
    fg.FoviNet,
]


@pytest.fixture(scope="module")
def given():
    """Valid arguments, by name."""
    net = fg.FoviNet(fg.load_config("fovi_tiny", ["retina.side=12", "backbone.pool_after=[]"]))
    array, backbone = net.retina.array, net.eval().backbone
    count = len(array)
    return {
        "array": array,
        "pyramid": net.pyramid,
        "graph": net.pyramid.graphs[0],
        "backbone": backbone,
        "image": torch.rand(3, 20, 30),
        "samples": torch.rand(count, 3),
        "values": torch.rand(count),
        "features": torch.rand(count, 2),
        "weight": backbone.layers[0].conv.weight,
        "fixation": (0.5, 0.5),
        "size": (20.0, 20.0),
        "fixations": torch.tensor([[0.5, 0.5]]),
        "sizes": torch.tensor([[20.0, 20.0]]),
        "level": "conv2",
        "unit": 0,
        "units": [0, 1],
        "kernel_size": 5,
        "polar": array.polar,
        "net": net,
        "accuracy": torch.rand(2, 3),
        "areas": [0.3, 0.7],
        "frames": viz.EyeFrames(net.retina, height=20),
    }


SPECIAL = {  # where a name stands for something else
    "kernel_picture": {"values": torch.rand(25, 3)},
    "level_features": {"samples": lambda given: given["samples"][None]},
    "plot_effective_field_sizes": {"units": 2, "samples": None},
    "plot_fields": {"most": 3},
    "eyes_html": {"eyes": lambda given: [given["array"]]},
    "plot_eyes": {"eyes": lambda given: [given["array"]]},
}

CHECKED_ELSEWHERE = ("image", "kernel_size")
"""By what reads images, and by the graph."""

FUNCTIONS = [
    name
    for name in viz.__all__
    if inspect.isfunction(getattr(viz, name))
    and name not in ("explorer_html", "read_gaze_path", "read_video")  # they have their own tests
]


def arguments(name, given):
    """Valid arguments of a function: those that it needs."""
    special = {
        key: value(given) if callable(value) else value
        for key, value in SPECIAL.get(name, {}).items()
    }
    return {
        key: special.get(key, given.get(key))
        for key, parameter in inspect.signature(getattr(viz, name)).parameters.items()
        if parameter.default is inspect.Parameter.empty or key in special
    }


def refusal(call):
    """What a ValueError or TypeError says; None if there is none."""
    try:
        call()
    except (TypeError, ValueError) as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_arguments_are_named(name, given):
    function = getattr(viz, name)
    valid = arguments(name, given)
    function(**valid)
    for key in inspect.signature(function).parameters:
        if key not in CHECKED_ELSEWHERE:
            for wrong in WRONG:
                said = refusal(lambda: function(**{**valid, key: wrong}))  # noqa: B023
                assert said is None or (key.rstrip("s") in said and len(said) < 600), wrong


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_is_taken_for_what_it_is_not(name, given):
    function, valid = getattr(viz, name), arguments(name, given)
    for key in valid:
        if key in ("level", "unit", "units", "most", *CHECKED_ELSEWHERE):
            continue
        for wrong in (None, "x", object(), SimpleNamespace(pyramid=3), {}):
            if wrong is None and inspect.signature(function).parameters[key].default is None:
                continue
            with pytest.raises((TypeError, ValueError), match=key):
                function(**{**valid, key: wrong})


def test_a_network_is_not_its_backbone(given):
    with pytest.raises(TypeError, match=r"take net\.backbone"):
        viz.step_layers(given["net"])


def test_axes_may_be_those_of_a_subfigure(given):
    figure = Figure()
    part = figure.subfigures(1, 2)[0]
    assert viz.plot_nodes(given["array"], ax=part.add_subplot()) is figure


def test_an_image_is_rebuilt_up_to_a_size(given):
    with pytest.raises(ValueError, match="side must be at most 8192"):
        viz.rebuild(given["array"], given["samples"], 10**9)
