"""What a network costs."""

import pytest

import fovigraph as fg
from fovigraph.models.cost import describe


@pytest.mark.parametrize("conv", ["full", "depthwise_separable"])
def test_parts_add_up(conv):
    net = fg.FoviNet(fg.load_config("fovi_tiny", [f"backbone.conv={conv}"])).eval()
    report = describe(net)
    parts = [*report["levels"], report["projector"], report["head"]]
    for key in ("parameters", "flops"):
        assert sum(part[key] for part in parts) == report["total"][key]


def test_depthwise_flops():
    overrides = ["backbone.conv=depthwise_separable"]
    conv = describe(fg.FoviNet(fg.load_config("fovi_tiny", overrides)).eval())["levels"][1]
    assert conv["flops"] == 2 * conv["edges"] * 3 + 2 * conv["nodes"] * 3 * 16
