"""Upstream's layouts and fields: configurations, samples, neighbourhoods and answers."""

import json
import math
from types import SimpleNamespace

import pytest
import recordings
import torch
from drawn_weights import drawn
from recordings import changed, check_answers, check_there_and_back, close, some

import fovigraph as fg
from fovigraph.config import ConfigError, update_config
from fovigraph.geometry.layout import LAYOUTS
from fovigraph.graph.search import k_nearest, length_of
from fovigraph.interop import read_config, recomputed_neighbours, use_neighbours, write_config
from fovigraph.interop.family import family_of
from fovigraph.interop.load import links
from fovigraph.interop.upstream_config import UpstreamConfig
from fovigraph.interop.weights import to_ours, to_theirs
from fovigraph.sensing.places import places

NETWORKS = {
    "square": ("isotropic", "square", 2.0),
    "fixn_square": ("isotropic_fixn", "square", 2.0),
    "logpolar": ("logpolar_image", "circular", 2.0),
    "logpolar_square": ("logpolar_image", "square", 2.0),
    "warped": ("warped_cartesian", "circular", 2.0),
    "warped_square": ("warped_cartesian", "square", 2.0),
    "warped_disc_inf": ("warped_cartesian", "circular", math.inf),
    "warped_square_inf": ("warped_cartesian", "square", math.inf),
    "warped_wang": ("warped_cartesian", "wang", 2.0),
    "uniform": ("uniform_square", "circular", 2.0),
}


@pytest.fixture(scope="module")
def file():
    """What upstream computed: `tests/make_upstream_layouts.py` describes the arrays."""
    networks, arrays, _ = recordings.read("upstream_layouts.npz")
    return networks, arrays


@pytest.fixture(scope="module", params=NETWORKS)
def recorded(request, file):
    networks, arrays = file
    name = request.param
    return SimpleNamespace(
        name=name,
        config=networks[name]["config"],
        lists=recordings.lists_of(name, networks, arrays),
        outputs=recordings.outputs_of(name, networks, arrays),
        samples=arrays[f"samples/{name}"],
        arrays=arrays,
    )


@pytest.fixture(scope="module")
def loaded(recorded):
    """Our network of the configuration, with upstream's weights and names; canonical graphs."""
    net = fg.FoviNet(read_config(recorded.config)).eval()
    pairs = list(links(net, UpstreamConfig(recorded.config)))
    theirs = drawn(to_theirs(net.state_dict(), pairs))
    net.load_state_dict(to_ours(theirs, pairs, net.state_dict(), source="drawn"))
    layers = family_of(net.config.backbone).connections(net.backbone, net.config.backbone)
    canonical = {name: net.pyramid.graph(place) for name, place in layers.items()}
    recomputed = recomputed_neighbours(net)
    use_neighbours(net, recorded.lists)
    return SimpleNamespace(
        net=net, pairs=pairs, theirs=theirs, graphs=canonical, recomputed=recomputed
    )


def test_configurations_there_and_back(recorded):
    ours = read_config(recorded.config)
    assert (ours.retina.layout, ours.retina.extent, ours.retina.norm) == NETWORKS[recorded.name]
    assert read_config(write_config(ours)) == ours
    json.dumps(write_config(ours))


def test_samples_are_taken_at_upstreams_places(recorded, loaded):
    assert places(loaded.net.retina.array).equal(recorded.lists["retina.cartesian"])


def check_nearest(lists, graphs):
    """Neighbours in lists are as far away as ours: of ties only, upstream takes others."""
    for layer, graph in graphs.items():
        src, dst, visual = graph.src, graph.dst, graph.metric == "visual"
        listed = lists[f"{layer}.neighbours"].t().long()
        ends = ("cartesian", "padding_cartesian") if visual else ("cortical", "padding_cortical")
        points = torch.cat([getattr(src, end) for end in ends])
        places, period = getattr(dst, ends[0]), None if visual else src._layout.period
        theirs = length_of(points[listed] - places[:, None], period)
        own = k_nearest(points, places, graph.k, period)[1]
        torch.testing.assert_close(
            theirs.sort(dim=1).values, own.sort(dim=1).values, rtol=1e-3, atol=1e-3
        )


def test_neighbours_are_upstreams_but_where_distances_tie(recorded, loaded):
    check_nearest(recorded.lists, loaded.graphs)


def test_every_layer_gives_upstreams_output(recorded, loaded):
    blocks = len(loaded.net.backbone.layers)
    names = [f"backbone.layers.{block}" for block in range(blocks)]
    out, found = recordings.run(loaded.net, names, recorded.arrays)
    for name in names:
        assert close(some(found[name].unflatten(0, (1, 2))), recorded.outputs[name]), name
    check_answers(out, found, recorded.outputs, recorded.samples)


def test_tensors_are_bitwise_equal_there_and_back(loaded):
    check_there_and_back(to_theirs(loaded.net.state_dict(), loaded.pairs), loaded.theirs)


def test_upstreams_neighbourhoods_are_recomputed(recorded, loaded):
    """Which of ties are taken depends on the machine: only where they lie is compared."""
    lists = loaded.recomputed
    assert {name: list(each.shape) for name, each in lists.items()} == {
        name: list(each.shape) for name, each in recorded.lists.items()
    }
    check_nearest(lists, loaded.graphs)
    use_neighbours(fg.FoviNet(loaded.net.config), lists)


@pytest.fixture(scope="module")
def content(file):
    return file[0]["warped"]["config"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"saccades__mode": "warped_cartesian_as_grid"},
            "saccades.mode must be one of 'isotropic', .* for a network on graphs",
        ),
        ({"saccades__mode": None}, "saccades.mode must be one of .*, got None"),
        ({"saccades__mode": "polar"}, "saccades.mode must be one of .*, got 'polar'"),
        ({"saccades__fov_type": "oval"}, "saccades.fov_type must be one of .*, got 'oval'"),
        ({"saccades__radius_norm": 1.0}, "saccades.radius_norm must be one of 2.0, inf"),
        (
            {"saccades__fov_type": "wang", "saccades__radius_norm": math.inf},
            "retina.norm must be 2 for extent='wang'",
        ),
        (
            {"saccades__mode": "logpolar", "saccades__radius_norm": math.inf},
            "retina.norm must be 2 for a layout",
        ),
        ({"model__norm": "layer_all"}, "model.norm must be one of 'batch', .* masked layout"),
        ({"saccades__auto_match_cart_resources": 0}, "must be 1, got 0: without matching"),
        ({"saccades__cmf_a": None}, "saccades.cmf_a is missing"),
    ],
)
def test_what_cannot_be_loaded_is_named(content, changes, message):
    with pytest.raises(ConfigError, match=message):
        read_config(changed(content, **changes))


@pytest.mark.parametrize(
    ("retina", "message"),
    [
        ({"layout": "logpolar_cylinder"}, "retina.layout must be one of 'isotropic', .* upstream"),
        ({"max_val": 0.9}, "retina.max_val must be 1.0"),
        ({"matching": "at_least"}, "retina.matching must be 'at_most'"),
    ],
)
def test_what_cannot_be_written_is_named(content, retina, message):
    ours = update_config(read_config(content), {"retina": retina})
    with pytest.raises(ConfigError, match=message):
        write_config(ours)


def test_upstreams_draws_are_not_found_again(content, caplog):
    ours = read_config(changed(content, saccades__mode="isotropic_fixn"))
    assert "upstream draws at random which rings lose nodes" in caplog.text
    with pytest.raises(ValueError, match="upstream draws those at random"):
        recomputed_neighbours(fg.FoviNet(ours))
    own = update_config(ours, {"retina.layout": "uniform_disc"})
    with pytest.raises(ValueError, match=r"retina.layout of .*, got 'uniform_disc'"):
        recomputed_neighbours(fg.FoviNet(own))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("options", [{}, {"max_val": 0.8}, {"max_val": "auto"}])
def test_places_in_single_precision_are_rounded_ones(layout, options):
    array = fg.SensorArray.matched(12, layout=layout, **options)
    torch.testing.assert_close(places(array), array.cartesian.float(), rtol=2e-6, atol=2e-6)
