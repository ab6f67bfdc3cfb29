"""What networks of upstream's have beside layers: aggregations, second projectors, probes."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import recordings
import torch
from drawn_weights import drawn
from omegaconf import OmegaConf
from recordings import close, some
from safetensors.torch import save_file

import fovigraph as fg
from fovigraph.interop import convert, read_config, use_neighbours
from fovigraph.interop.load import links
from fovigraph.interop.upstream_config import UpstreamConfig
from fovigraph.interop.weights import not_needed, to_ours, to_theirs

FAMILIES = ["alexnet", "resnet", "vit", "dinov3"]
NARROW = {"channels": [4, 8, 16, 32], "stem_channels": 4}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """What upstream computed: `tests/make_upstream_variants.py` describes the arrays."""
    networks, arrays, texts = recordings.read("upstream_variants.npz")
    folder = tmp_path_factory.mktemp("dinov3")
    (folder / "config.json").write_text(texts["dinov3"])
    networks["dinov3"]["config"]["pretrained_model"]["path"] = str(folder)
    return networks, arrays


def upstream_weights(name, file):
    """The tensors of upstream's network: drawn, but for its positions."""
    networks, arrays = file
    weights = drawn(recordings.empty(networks[name]["tensors"]))
    for key in weights:
        kept = f"positions/{name}/{key.replace('blocks.1', 'blocks.0')}"
        if kept in arrays:
            weights[key] = arrays[kept]
    return weights


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request, file):
    """Our network of the configuration, with upstream's weights and neighbours."""
    pytest.importorskip("pygeodesic")
    if request.param == "dinov3":
        pytest.importorskip("peft")
    networks, arrays = file
    content = networks[request.param]["config"]
    ours = read_config(content)
    if request.param == "resnet":
        ours = replace(ours, backbone=replace(ours.backbone, **NARROW))
    net = fg.FoviNet(ours).eval()
    pairs = list(links(net, UpstreamConfig(content)))
    theirs = upstream_weights(request.param, file)
    net.load_state_dict(to_ours(theirs, pairs, net.state_dict(), source="drawn"))
    canonical = net.pyramid
    use_neighbours(net, recordings.lists_of(request.param, networks, arrays))
    outputs = recordings.outputs_of(request.param, networks, arrays)
    return SimpleNamespace(
        name=request.param, net=net, pairs=pairs, theirs=theirs, outputs=outputs, graphs=canonical
    )


AGGREGATIONS = {
    "alexnet": "attention_alone",
    "resnet": "rnn",
    "vit": "gru",
    "dinov3": "mean_logits",
}


def test_aggregations_give_upstreams_answers(loaded, file):
    _, arrays = file
    assert loaded.net.config.head.aggregation == AGGREGATIONS[loaded.name]
    out, _ = recordings.run(loaded.net, [], arrays)
    assert close(out.logits, loaded.outputs["probabilities"])  # logits, of all but a mean
    with torch.no_grad():
        assert close(loaded.net.head(out.embeddings), loaded.outputs["fixation_logits"])


def test_an_images_answer_is_its_own(loaded, file):
    _, arrays = file
    images = torch.cat((arrays["images"], arrays["images"].flip(-1)))
    with torch.no_grad():
        out = loaded.net(images, arrays["fixations"])
    assert close(out.logits[:1], loaded.outputs["probabilities"])


def test_tensors_are_bitwise_equal_there_and_back(loaded):
    back = to_theirs(loaded.net.state_dict(), loaded.pairs)
    recordings.check_there_and_back(back | not_needed(loaded.theirs), loaded.theirs)


@pytest.mark.parametrize("loaded", ["alexnet", "resnet"], indirect=True)
def test_layers_along_the_surface_give_upstreams_outputs(loaded, file):
    _, arrays = file
    last = len(loaded.net.backbone.layers) - 1
    places = {
        "alexnet": {
            **{f"backbone.layers.{i}": f"backbone.layers.{i}" for i in range(last)},
            f"backbone.layers.{last + 1}": f"backbone.layers.{last}",  # with the mean pool
        },
        "resnet": {
            **{f"backbone.layer{i}.0": f"backbone.layers.{i}" for i in range(1, 5)},
            "backbone.avgpool": f"backbone.layers.{last}",
        },
    }[loaded.name]
    _, found = recordings.run(loaded.net, places.values(), arrays)
    for theirs, ours in places.items():
        assert close(some(found[ours].unflatten(0, (1, 2))), loaded.outputs[theirs]), theirs


@pytest.mark.parametrize("loaded", ["alexnet"], indirect=True)
def test_neighbours_along_the_surface_are_upstreams(loaded):
    """All but ties, which rounding decides there; from the node itself they are others."""
    net = loaded.net
    assert net.config.backbone.metric == "geodesic_from_node"
    own = replace(net.config.backbone, metric="geodesic")
    other = fg.FoviNet(replace(net.config, backbone=own)).pyramid

    def same(pyramid):
        return sum(
            len(set(map(tuple, a.edge_index.T.tolist())) & set(map(tuple, b.edge_index.T.tolist())))
            for a, b in zip(pyramid.graphs, net.pyramid.graphs, strict=True)
        )

    edges = sum(graph.num_edges for graph in net.pyramid.graphs)
    assert same(loaded.graphs) >= 0.98 * edges
    assert same(other) < same(loaded.graphs)


# ---- folders with a second projector and probes


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, file, tmp_path_factory):
    """A folder as upstream's trainer writes it, and what is in its file of weights."""
    if request.param == "dinov3":
        pytest.importorskip("peft")
    network = file[0][request.param]
    content, path = network["config"], tmp_path_factory.mktemp(request.param)
    if request.param in ("alexnet", "resnet"):
        content = recordings.changed(content, saccades__sample_cortex=True)
    OmegaConf.save(OmegaConf.create(content), path / "resolved_config.yaml")
    net = fg.FoviNet(read_config(content))
    weights = drawn(to_theirs(net.state_dict(), links(net, UpstreamConfig(content))))
    first, second = "network.projector.", "network.projector_ssl."
    again = {name.replace(first, second): x for name, x in weights.items() if first in name}
    weights |= drawn(again)
    probes = drawn({name: torch.empty(shape) for name, shape in network["probes"].items()})
    assert set(weights) == set(network["tensors"])
    torch.save({"epoch": 3, "state_dict": weights, "probes": probes}, path / "final_weights.pth")
    ours = convert(path, path / "ours")
    return SimpleNamespace(path=path, ours=ours, config=content, weights=weights, probes=probes)


def read_back(path):
    return torch.load(path / "state_dict.pth"), OmegaConf.load(path / "resolved_config.yaml")


def equal(some, others):
    return some.keys() == others.keys() and all(torch.equal(some[k], others[k]) for k in some)


def test_everything_goes_there_and_back(folder, tmp_path):
    assert (folder.ours / "upstream.safetensors").is_file()
    content, config = read_back(convert(folder.ours, tmp_path / "back", to_upstream=True))
    assert equal(content["state_dict"], folder.weights)
    assert equal(content["probes"], folder.probes)
    assert OmegaConf.to_container(config) == folder.config
    # And once more, from what was written.
    again = convert(tmp_path / "back", tmp_path / "again")
    content, _ = read_back(convert(again, tmp_path / "more", to_upstream=True))
    assert equal(content["state_dict"], folder.weights)
    assert equal(content["probes"], folder.probes)


vit = pytest.mark.parametrize("folder", ["vit"], indirect=True)


@vit
def test_a_network_of_another_policy_keeps_them(folder, tmp_path):
    """Its configuration is written anew, with a loss for which upstream has two projectors."""
    net = fg.FoviNet.from_pretrained(folder.ours, overrides={"fixation.count": 7})
    net.save_pretrained(tmp_path / "net")
    for name in ("upstream.yaml", "upstream.safetensors"):
        (tmp_path / "net" / name).write_bytes((folder.ours / name).read_bytes())
    content, config = read_back(convert(tmp_path / "net", tmp_path / "back", to_upstream=True))
    assert (config.saccades.n_fixations, config.training.loss) == (7, "barlow")
    assert equal(content["state_dict"], folder.weights)
    assert equal(content["probes"], folder.probes)


@vit
def test_one_of_another_projector_leaves_the_second_out(folder, tmp_path, caplog):
    net = fg.FoviNet.from_pretrained(folder.ours)
    other = replace(net.config, projector=replace(net.config.projector, channels=[16, 14]))
    fg.FoviNet(other).save_pretrained(tmp_path / "net")
    for name in ("upstream.yaml", "upstream.safetensors"):
        (tmp_path / "net" / name).write_bytes((folder.ours / name).read_bytes())
    content, config = read_back(convert(tmp_path / "net", tmp_path / "back", to_upstream=True))
    assert "the network has another projector now: left out" in caplog.text
    assert config.training.loss == "supervised"
    assert not any("projector_ssl" in name for name in content["state_dict"])
    assert equal(content["probes"], folder.probes)


@vit
def test_without_the_kept_file_upstream_needs_no_second_projector(folder, tmp_path):
    fg.FoviNet.from_pretrained(folder.ours).save_pretrained(tmp_path / "net")
    text = (folder.ours / "upstream.yaml").read_text()
    (tmp_path / "net" / "upstream.yaml").write_text(text)
    content, config = read_back(convert(tmp_path / "net", tmp_path / "back", to_upstream=True))
    assert config.training.loss == "supervised"
    assert content.keys() == {"state_dict"}


@vit
def test_a_damaged_kept_file_is_refused(folder, tmp_path):
    fg.FoviNet.from_pretrained(folder.ours).save_pretrained(tmp_path / "net")
    kept = tmp_path / "net" / "upstream.safetensors"
    kept.write_bytes((folder.ours / kept.name).read_bytes()[:100])
    with pytest.raises(ValueError, match=r"upstream\.safetensors is damaged"):
        convert(tmp_path / "net", tmp_path / "back", to_upstream=True)
    save_file({"mine": torch.zeros(2)}, kept)
    with pytest.raises(
        ValueError, match=r"names must start with 'state_dict.' or 'probes.', got 'm"
    ):
        convert(tmp_path / "net", tmp_path / "back", to_upstream=True)
    assert not (tmp_path / "back").exists()


@vit
def test_probes_of_something_else_than_tensors_are_refused(folder, tmp_path):
    content = {"state_dict": folder.weights, "probes": {"0": "none"}}
    OmegaConf.save(OmegaConf.create(folder.config), tmp_path / "resolved_config.yaml")
    torch.save(content, tmp_path / "final_weights.pth")
    with pytest.raises(ValueError, match=r"must hold named tensors.*got str as '0'"):
        fg.from_upstream(tmp_path)


@vit
def test_a_network_for_embeddings_alone(folder, tmp_path):
    """Upstream's has no head without an aggregation."""
    source = tmp_path / "theirs"
    source.mkdir()
    content = recordings.changed(folder.config, saccades__fix_agg=None)
    OmegaConf.save(OmegaConf.create(content), source / "resolved_config.yaml")
    weights = {name: x for name, x in folder.weights.items() if not name.startswith("head.")}
    torch.save({"epoch": 3, "state_dict": weights}, source / "final_weights.pth")
    net = fg.from_upstream(source)
    assert net(torch.rand(1, 3, 40, 40)).logits.shape == (1, 0)
    assert read_config(json.loads(json.dumps(content))).head.num_classes == 0
    ours = convert(source, tmp_path / "ours")
    back, config = read_back(convert(ours, tmp_path / "back", to_upstream=True))
    assert equal(back["state_dict"], weights)
    assert OmegaConf.to_container(config) == content
    (ours / "upstream.yaml").unlink()
    _, config = read_back(convert(ours, tmp_path / "anew", to_upstream=True))
    assert config.saccades.fix_agg is None
    assert config.data.num_classes > 0
