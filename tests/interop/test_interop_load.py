"""A network of upstream's gives upstream's answers: recorded ones, of every layer."""

import logging

import pytest
import torch

import fovigraph as fg
from fovigraph.interop import convert, read_config, write_config
from fovigraph.interop.family import family_of
from fovigraph.interop.load import links
from fovigraph.interop.upstream_config import UpstreamConfig

PROBE = "head.fix_projector.probe.bias"

ACCURACY = 1e-5
"""Largest difference, relative to the largest value of a layer."""


def outputs(net, images, fixations):
    """Our outputs under upstream's names, [image, fixation, …]."""
    found = {}
    handles = [
        module.register_forward_hook(lambda _, __, out, name=name: found.update({name: out}))
        for name, module in net.named_modules()
        if name.startswith(("backbone.", "projector.", "retina"))
    ]
    with torch.no_grad():
        out = net(images, fixations)
    for handle in handles:
        handle.remove()
    found = {
        name: value if name == "retina" else value.unflatten(0, out.fixations.shape[:2])
        for name, value in found.items()
        if not name.startswith("projector")
    }
    return out, found


@pytest.fixture(scope="module")
def answers(loaded, recorded):
    return outputs(loaded, recorded["images"], recorded["fixations"])


def close(ours, theirs):
    return float((ours - theirs).abs().max()) <= ACCURACY * float(theirs.abs().max())


def test_samples_are_upstreams(answers, recorded):
    _, found = answers
    assert torch.equal(found["retina"], recorded["samples"])


def test_nodes_lie_where_upstreams_single_precision_puts_them(tiny):
    places = fg.from_upstream(tiny.folder).retina.grid
    # The last bit may be another on another machine.
    torch.testing.assert_close(places, tiny.neighbours["retina.cartesian"], rtol=0, atol=1.2e-7)


def test_every_layer_of_the_backbone_gives_upstreams_output(answers, recorded):
    _, found = answers
    layers = [name for name in recorded if name.startswith("backbone.")]
    assert len(layers) == 16
    for name in layers:
        assert close(found[name], recorded[name]), name


def test_embeddings_logits_and_probabilities_are_upstreams(answers, recorded):
    out, _ = answers
    assert close(out.embeddings, recorded["projector.layers.fc_block_7"])
    assert close(out.fixation_logits, recorded["fixation_logits"])
    assert close(out.logits.exp(), recorded["probabilities"])


def test_canonical_graphs_differ_at_ties_alone(tiny, loaded):
    net = fg.from_upstream(tiny.folder)
    for ours, theirs in zip(net.pyramid.graphs, loaded.pyramid.graphs, strict=True):
        ours, theirs = (
            {tuple(edge) for edge in graph.edge_index.T.tolist()} for graph in (ours, theirs)
        )
        assert len(ours ^ theirs) <= 0.2 * len(ours)


def test_it_is_in_evaluation_and_of_the_class_asked_for(tiny):
    class Mine(fg.FoviNet):
        pass

    net = fg.from_upstream(str(tiny.folder), cls=Mine)
    assert type(net) is Mine
    assert not net.training


def test_the_old_name_warns(tiny):
    class Mine(fg.FoviNet):
        pass

    with pytest.warns(DeprecationWarning, match=r"now called fovigraph\.from_upstream") as caught:
        assert type(Mine.from_upstream(tiny.folder)) is Mine
    assert caught[0].filename == __file__


def test_images_are_normalised_inside(loaded):
    assert loaded.config.retina.mean == [0.485, 0.456, 0.406]
    assert loaded.config.retina.std == [0.229, 0.224, 0.225]


def test_older_configurations_belong_to_the_older_surface(tiny):
    assert "field_geometry" not in tiny.config["saccades"]
    assert read_config(tiny.config).retina.field_geometry == "legacy"


@pytest.mark.parametrize("channels", [[8, 8], []], ids=["projector", "no projector"])
def test_features_of_several_nodes_come_in_upstreams_order(channels):
    """Upstream flattens them channel by channel, we node by node."""
    overrides = [
        "retina.side=32",
        "backbone.channels=[4,12,19,19,12]",
        "backbone.out_side=2",
        f"projector.channels={channels}",
    ]
    net = fg.FoviNet(fg.load_config("fovi_alexnet", overrides))
    nodes, width = len(net.pyramid.levels[-1]), net.backbone.out_channels
    assert nodes > 1
    features = torch.rand(5, nodes, width)
    first = next(module for module in net.modules() if isinstance(module, torch.nn.Linear))
    theirs = UpstreamConfig(write_config(net.config))
    pairs = {link.ours: link for link in links(net, theirs)}
    name = next(name for name, value in net.named_parameters() if value is first.weight)
    there = pairs[name].to_theirs(first.weight)
    torch.testing.assert_close(
        features.mT.flatten(1) @ there.T, features.flatten(1) @ first.weight.T
    )
    assert torch.equal(pairs[name].to_ours(there), first.weight)


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["backbone.pool_after=[0,1,4]"], ["2.conv", "3.conv", "4.conv", "4.pool", "5"]),
        (["backbone.pool_after=[0,1]"], ["2.conv", "3.conv", "4.conv", "5"]),
        (["backbone.pool_after=[0,1]", "backbone.out_side=null"], ["2.conv", "3.conv", "4.conv"]),
    ],
)
def test_every_graph_has_the_name_of_upstreams_layer(overrides, names):
    config = fg.load_config("fovi_alexnet", [*overrides, "retina.side=32"])
    net = fg.FoviNet(config)
    found = family_of(config.backbone).connections(net.backbone, config.backbone)
    first = ["0.conv", "0.pool", "1.conv", "1.pool"]
    assert list(found) == [f"backbone.layers.{name}" for name in first + names]
    assert tuple(found.values()) == net.pyramid.connections


def test_prefixes_of_distributed_training_are_removed(copy, tiny):
    prefixed = {f"module.{name}": tensor for name, tensor in tiny.weights.items()}
    torch.save({"state_dict": prefixed}, copy / "final_weights.pth")
    net = fg.from_upstream(copy)
    assert torch.equal(net.head[1].bias, tiny.weights["head.fix_projector.probe.bias"])


def test_tensors_of_self_supervised_training_are_left_out(copy, tiny, caplog):
    extra = {"network.projector_ssl.layers.fc_block_6.1.weight": torch.zeros(16, 12)}
    torch.save({"state_dict": {**tiny.weights, **extra}}, copy / "final_weights.pth")
    with caplog.at_level(logging.INFO, "fovigraph.interop"):
        fg.from_upstream(copy)
    assert "network.projector_ssl.layers.fc_block_6.1.weight" in caplog.text


@pytest.mark.parametrize(("name", "kind"), [("rnn", torch.nn.RNN), ("gru", torch.nn.GRU)])
def test_recurrent_aggregations(configured, tiny, recorded, tmp_path, name, kind):
    torch.manual_seed(0)
    theirs = torch.nn.ModuleDict(
        {
            "norm": torch.nn.LayerNorm(10),
            "rnn": kind(10, 128),
            "projector": torch.nn.Linear(128, 10),
        }
    )
    extra = {f"head.fix_aggregator.{key}": x for key, x in theirs.state_dict().items()}
    folder = configured(saccades__fix_agg=name)
    torch.save({"state_dict": {**tiny.weights, **extra}}, folder / "final_weights.pth")
    net = fg.from_upstream(folder, neighbours=tiny.neighbours)
    with torch.no_grad():
        out = net(recorded["images"], recorded["fixations"])
        chances = recorded["fixation_logits"].softmax(-1).transpose(0, 1)  # fixations first
        last = theirs["rnn"](theirs["norm"](chances))[1][-1]
        assert close(out.logits, theirs["projector"](last))
    convert(folder, tmp_path / "ours")
    back = convert(tmp_path / "ours", tmp_path / "back", to_upstream=True)
    written = torch.load(back / "state_dict.pth")["state_dict"]
    assert all(torch.equal(written[key], x) for key, x in extra.items())


def test_the_mean_of_logits(configured, recorded, tiny):
    net = fg.from_upstream(configured(saccades__fix_agg="force_mean"), neighbours=tiny.neighbours)
    with torch.no_grad():
        out = net(recorded["images"], recorded["fixations"])
    assert close(out.logits, recorded["fixation_logits"].mean(1))


class TestWeightsThatDoNotFit:
    def test_are_all_listed(self, copy, tiny):
        weights = dict(tiny.weights)
        del weights["network.backbone.layers.1.norm.bias"]
        weights["network.backbone.layers.2.extra"] = torch.zeros(3)
        weights["head.fix_projector.probe.bias"] = torch.zeros(7)
        torch.save({"state_dict": weights}, copy / "final_weights.pth")
        with pytest.raises(ValueError, match="not the weights of its configuration") as error:
            fg.from_upstream(copy)
        for line in (
            "of 40 tensors 1 are missing and 1 do not fit, and there are 1 others",
            "missing: network.backbone.layers.1.norm.bias [12]",
            "unexpected: network.backbone.layers.2.extra [3]",
            "of another shape: head.fix_projector.probe.bias [7], not [10]",
        ):
            assert line in str(error.value)

    def test_are_logged_unless_strict(self, copy, tiny, caplog):
        weights = dict(tiny.weights)
        weights["head.fix_projector.probe.bias"] = torch.zeros(7)
        torch.save({"state_dict": weights}, copy / "final_weights.pth")
        net = fg.from_upstream(copy, strict=False)
        assert "head.fix_projector.probe.bias [7], not [10]" in caplog.text
        assert torch.equal(net.head[1].weight, tiny.weights["head.fix_projector.probe.weight"])

    @pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
    def test_of_another_kind_of_number(self, copy, tiny, dtype):
        weights = dict(tiny.weights)
        weights[PROBE] = weights[PROBE].to(dtype)
        torch.save({"state_dict": weights}, copy / "final_weights.pth")
        with pytest.raises(ValueError, match=rf"{PROBE}: dtype {dtype}, needed torch.float32"):
            fg.from_upstream(copy)

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_that_are_not_finite(self, copy, tiny, value, caplog):
        weights = dict(tiny.weights)
        weights[PROBE] = torch.full_like(weights[PROBE], value)
        torch.save({"state_dict": weights}, copy / "final_weights.pth")
        message = rf"{PROBE}: 10 of 10 values are NaN, infinite or too large"
        with pytest.raises(ValueError, match=message):
            fg.from_upstream(copy)
        assert fg.from_upstream(copy, strict=False).head[1].bias.isfinite().all()
        assert f"{PROBE}: 10 of 10 values are NaN" in caplog.text

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_floating_point_types_are_converted(self, copy, tiny, dtype):
        weights = {**tiny.weights, PROBE: tiny.weights[PROBE].to(dtype)}
        torch.save({"state_dict": weights}, copy / "final_weights.pth")
        found = fg.from_upstream(copy).head[1].bias
        assert torch.equal(found, weights[PROBE].float())

    def test_of_another_architecture(self, configured):
        with pytest.raises(ValueError, match=r"conv\.weight \[4, 588\], not \[9, 588\]"):
            fg.from_upstream(configured(model__channel_mult=0.1))
