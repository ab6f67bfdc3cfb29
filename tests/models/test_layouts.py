"""Networks on every layout and field: built from configurations, saved, loaded, described."""

import json
import math

import pytest
import torch

import fovigraph as fg
from fovigraph import SensorArray
from fovigraph.cli.main import main
from fovigraph.config import ConfigError, as_config, load_config, save_config

SMALL = {"side": 16, "cmf_a": 2.0}
RETINAS = [
    {"extent": "square"},
    {"layout": "isotropic_fixn"},
    {"layout": "isotropic_fixn", "extent": "square"},
    {"layout": "logpolar_image"},
    {"layout": "logpolar_image", "extent": "square", "max_val": 0.8},
    {"layout": "logpolar_cylinder"},
    {"layout": "warped_cartesian"},
    {"layout": "warped_cartesian", "extent": "square", "norm": math.inf},
    {"layout": "warped_cartesian", "extent": "wang", "max_val": 0.7},
    {"layout": "uniform_square"},
    {"layout": "uniform_disc", "max_val": 1.2},
    {"max_val": "auto"},
    {"extent": "square", "matching": "at_least"},
    {"matching": "input"},
    {"matching": "none", "side": 9},
]
ids = ["-".join(map(str, retina.values())) for retina in RETINAS]


def configuration(retina):
    """A small AlexNet on a retina, over places in the visual field where there is no cortex."""
    metric = "visual" if retina.get("layout") == "uniform_square" else "cortical"
    changes = {"retina": SMALL | retina, "backbone.metric": metric, "fixation.count": 2}
    return fg.config.update_config(load_config("fovi_tiny"), changes)


@pytest.mark.parametrize("retina", RETINAS, ids=ids)
def test_saved_and_loaded_a_network_is_the_same(retina, tmp_path):
    net = fg.FoviNet(configuration(retina)).eval()
    options = {name: value for name, value in retina.items() if name not in ("side", "matching")}
    matching = retina.get("matching", "at_most")
    if matching == "none":
        assert net.retina.array == SensorArray(9, cmf_a=2.0, **options)
    else:
        array = SensorArray.matched(16, cmf_a=2.0, at_least=matching == "at_least", **options)
        assert net.retina.array.polar.equal(array.polar)
        assert net.retina.array.side == (None if matching == "input" else 16)
    images = torch.rand(2, 3, 40, 48)
    before = net(images).logits
    assert before.isfinite().all()
    net.save_pretrained(tmp_path)
    again = fg.FoviNet.from_pretrained(tmp_path)
    assert again.config == net.config
    assert again(images).logits.equal(before)
    save_config(net.config, tmp_path / "own.yaml")
    assert load_config(tmp_path / "own.yaml") == net.config


@pytest.mark.parametrize(
    ("matching", "rings"), [("at_most", [53, 26, 13, 7]), ("at_least", [54, 27, 14, 8])]
)
def test_levels_are_matched_as_the_retina_is(matching, rings):
    retina = load_config("fovi_alexnet", [f"retina.matching={matching}"]).retina.array()
    assert [retina.strided(t).resolution for t in (1, 2, 4, 8)] == rings


@pytest.mark.parametrize("matching", ["input", "none"])
def test_without_matched_levels_a_stride_divides_the_resolution(matching):
    retina = load_config("fovi_alexnet", [f"retina.matching={matching}"]).retina.array()
    rings = 53 if matching == "input" else 64
    assert [retina.strided(t).resolution for t in (1, 2, 4)] == [rings, rings // 2, rings // 4]


@pytest.mark.parametrize(
    ("retina", "message"),
    [
        ({"extent": "round"}, "retina.extent must be one of 'circular', 'square', 'wang'"),
        ({"extent": "wang"}, "retina.extent must be 'circular' or 'square' for a layout"),
        ({"norm": math.inf}, "retina.norm must be 2 for a layout of the kind Isotropic"),
        ({"norm": 1}, "retina.norm must be 2 or infinity"),
        ({"max_val": 0}, "retina.max_val must be"),
        ({"max_val": "most"}, "retina.max_val must be a number or 'auto', got 'most'"),
        ({"matching": "all"}, "retina.matching must be one of 'at_least', 'at_most', 'input'"),
        ({"cmf_a": 1e-9}, "retina.cmf_a must be from 1e-06 to 1e+06"),
    ],
)
def test_what_cannot_be_is_named(retina, message):
    with pytest.raises(ConfigError, match=message.replace("+", r"\+")):
        as_config({"retina": retina})


def test_info_says_what_the_retina_is(capsys):
    keys = ["retina.layout=warped_cartesian", "retina.extent=square", "retina.norm=.inf"]
    assert main(["info", "fovi_tiny", *keys]) == 0
    said = capsys.readouterr().out
    assert "Retina: layout warped_cartesian, extent square, norm inf.\n" in said
    assert main(["info", "fovi_tiny", "--json", *keys]) == 0
    report = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (report["extent"], report["norm"], report["max_val"]) == ("square", "inf", 1.0)


@pytest.mark.parametrize(
    ("retina", "k", "nodes"),
    [
        ({"extent": "square"}, 14, [4094, 1002, 252, 252, 50, 50, 50, 50, 14, 1]),
        *(
            ({"layout": layout}, 16, [4096, 1024, 256, 256, 64, 64, 64, 64, 16, 1])
            for layout in ("logpolar_image", "warped_cartesian", "uniform_square")
        ),
    ],
)
def test_nodes_of_an_alexnet(retina, k, nodes):
    net = fg.KNNAlexNet
    config = load_config("fovi_alexnet").backbone
    steps = net.steps(config.strides, config.k, config.pool_after, out_side=config.out_side)
    plan = fg.Plan(SensorArray.matched(64, **retina), "visual")
    last = [plan.add(step) for step in steps][-1]
    assert [len(level) for level in plan.levels] == nodes
    assert last.k == k
