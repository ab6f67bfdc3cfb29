"""Vision transformers of upstream's: configurations, tensors and answers, those of every block."""

from types import SimpleNamespace

import pytest
import recordings
import torch
from drawn_weights import drawn
from omegaconf import OmegaConf
from recordings import changed, check_answers, check_there_and_back, close, some

import fovigraph as fg
from fovigraph.interop import convert, read_config, use_neighbours, write_config
from fovigraph.interop.load import links
from fovigraph.interop.recomputed import recomputed_neighbours
from fovigraph.interop.upstream_config import UpstreamConfig
from fovigraph.interop.weights import to_ours, to_theirs


@pytest.fixture(scope="module")
def file():
    """What upstream computed: `tests/make_upstream_vits.py` describes the arrays."""
    networks, arrays, _ = recordings.read("upstream_vits.npz")
    return networks, arrays


def upstream_weights(name, network, arrays):
    """The tensors of upstream's network: drawn, but for its positions."""
    like = {key: torch.empty(shape) for key, shape in network["tensors"].items()}
    weights = drawn(like)
    prefix = f"positions/{name}/"
    for key in weights:
        kept = f"{prefix}{key.replace('blocks.1', 'blocks.0')}"
        if kept in arrays:
            weights[key] = arrays[kept]
    return weights


@pytest.fixture(scope="module", params=["rope", "absolute", "fewer"])
def loaded(request, file):
    """Upstream's network, and ours with its weights and neighbours."""
    networks, arrays = file
    network = networks[request.param]
    net = fg.FoviNet(read_config(network["config"])).eval()
    pairs = list(links(net, UpstreamConfig(network["config"])))
    theirs = upstream_weights(request.param, network, arrays)
    own = net.state_dict()
    positions = {pair.ours: own[pair.ours].clone() for pair in pairs if ".positions." in pair.ours}
    net.load_state_dict(to_ours(theirs, pairs, own, source="drawn"))
    lists = recordings.lists_of(request.param, networks, arrays)
    use_neighbours(net, lists)
    outputs = recordings.outputs_of(request.param, networks, arrays)
    return SimpleNamespace(
        net=net, pairs=pairs, theirs=theirs, outputs=outputs, positions=positions, lists=lists
    )


def test_every_block_gives_upstreams_output(loaded, file):
    _, arrays = file
    places = {
        "backbone.patch_embed": "backbone.layers.0.conv",
        "backbone.blocks.0": "backbone.layers.1",
        "backbone.blocks.1": "backbone.layers.2",
        "backbone.norm": "backbone.norm",
    }
    out, found = recordings.run(loaded.net, places.values(), arrays)
    for theirs, ours in places.items():
        values = found[ours].unflatten(0, (1, 2)).transpose(-1, -2)
        assert close(some(values), loaded.outputs[theirs]), theirs
    check_answers(out, found, loaded.outputs, arrays["samples"])


def test_our_own_positions_are_upstreams(loaded):
    assert loaded.positions
    for pair in loaded.pairs:
        if pair.ours in loaded.positions:
            torch.testing.assert_close(
                loaded.positions[pair.ours], loaded.theirs[pair.theirs], rtol=0, atol=2e-6
            )


def test_tensors_are_bitwise_equal_there_and_back(loaded):
    check_there_and_back(to_theirs(loaded.net.state_dict(), loaded.pairs), loaded.theirs)


def test_canonical_neighbours_are_nearly_upstreams(loaded):
    """All but ties, which rounding decides there."""
    canonical = fg.FoviNet(loaded.net.config).pyramid.graphs[0]
    edges, theirs = (
        {tuple(edge) for edge in graph.edge_index.T.tolist()}
        for graph in (canonical, loaded.net.pyramid.graphs[0])
    )
    assert len(edges & theirs) >= 0.98 * len(theirs)


def test_a_folder_goes_there_and_back(file, tmp_path):
    networks, arrays = file
    network = networks["rope"]
    weights = upstream_weights("rope", network, arrays)
    source = tmp_path / "theirs"
    source.mkdir()
    OmegaConf.save(OmegaConf.create(network["config"]), source / "resolved_config.yaml")
    torch.save({"epoch": 3, "state_dict": weights}, source / "final_weights.pth")
    ours = convert(source, tmp_path / "ours")
    net = fg.FoviNet.from_pretrained(ours)
    assert isinstance(net.backbone, fg.models.KNNViT)
    assert net.config == read_config(network["config"])
    back = convert(ours, tmp_path / "back", to_upstream=True)
    again = torch.load(back / "state_dict.pth")["state_dict"]
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weights[name]) for name in weights)


# ---- configurations


@pytest.fixture
def theirs(file):
    return file[0]["rope"]["config"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model__arch": "fovi_vit_tiny"}, {"channels": 192, "heads": 3}),
        ({"model__arch": "saccadenet_knnvit_small"}, {"channels": 384, "heads": 6}),
        ({"model__arch": "fovi_vit_base"}, {"channels": 768, "heads": 12}),
        ({"vit__aggregation": "avg_pool"}, {"aggregation": "mean"}),
        ({"vit__aggregation": "flatten"}, {"aggregation": "tokens"}),
        ({"vit__aggregation": None}, {"aggregation": "tokens"}),
        ({"vit__ref_frame_side_length": 5}, {"kernel_size": 5}),
        ({"vit__force_patches_less_than_matched": 1}, {"at_least": False}),
        ({"vit__pos_emb_type": "absolute"}, {"positions": "sinusoidal"}),
        ({"saccades__sample_cortex": "geodesic"}, {"metric": "geodesic_from_node"}),
        ({"saccades__sample_cortex": False}, {"metric": "visual"}),
    ],
    ids=str,
)
def test_keys_are_mapped_and_written_back(theirs, changes, expected, caplog):
    ours = read_config(changed(theirs, **changes))
    assert caplog.text == ""
    for key, value in expected.items():
        assert getattr(ours.backbone, key) == value
    assert read_config(write_config(ours)) == ours


def test_a_projector_with_batch_norm_is_written(theirs):
    ours = read_config(changed(theirs, model__mlp="64-64", model__norm="force_batch"))
    assert ours.projector.norm == "batch"
    assert read_config(write_config(ours)) == ours


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__arch": "vit_tiny"}, "model.arch must be one of"),
        ({"model__arch_flag": "doubleres"}, "model.arch_flag must be '' for a vision transformer"),
        ({"vit__num_outputs": 1000}, "model.vit.num_outputs must be 0, got 1000"),
        ({"vit__pos_emb_type": "learned"}, "model.vit.pos_emb_type must be one of"),
        ({"vit__aggregation": "max"}, "model.vit.aggregation must be one of"),
        ({"vit__num_heads": 7}, "backbone.heads must divide the 24 channels"),
    ],
    ids=str,
)
def test_what_is_not_supported_is_named(theirs, changes, message):
    with pytest.raises(fg.ConfigError, match=message):
        read_config(changed(theirs, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": "rotary"}, "backbone.positions must be 'shift' or 'sinusoidal'"),
        ({"positions": "shift", "patches": "cover", "overlap": 1.0}, "backbone.patches must be 'k"),
        ({"positions": "shift", "register_tokens": 4}, "backbone.register_tokens must be 0"),
        ({"positions": "shift", "attention_k": 9}, "backbone.attention_k must be None"),
        ({"positions": "shift", "aggregation": "patches"}, "backbone.aggregation must be one of"),
    ],
    ids=str,
)
def test_what_upstream_does_not_have_is_named(changes, message):
    overrides = {f"backbone.{key}": value for key, value in changes.items()}
    config = fg.config.update_config(fg.load_config("fovi_vit_tiny"), overrides)
    with pytest.raises(fg.ConfigError, match=message):
        write_config(config)


def test_recomputed_neighbours_are_upstreams(loaded):
    """On the machine that recorded them, all; elsewhere rounding may differ."""
    lists = recomputed_neighbours(loaded.net)
    assert lists.keys() == loaded.lists.keys()
    name = "backbone.patch_embed.neighbours"
    ours, theirs = (each[name].long().sort(dim=0).values for each in (lists, loaded.lists))
    assert (ours == theirs).all(dim=0).float().mean() >= 0.8
