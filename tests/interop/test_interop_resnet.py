"""ResNets of upstream's: their configurations, tensors and answers, those of every layer."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import recordings
import torch
from drawn_weights import dense_resnet18, drawn
from omegaconf import OmegaConf
from recordings import changed, check_answers, check_there_and_back, close, some

import fovigraph as fg
from fovigraph.interop import (
    convert,
    read_config,
    recomputed_neighbours,
    use_neighbours,
    write_config,
)
from fovigraph.interop.family import family_of
from fovigraph.interop.load import links
from fovigraph.interop.upstream_config import UpstreamConfig
from fovigraph.interop.weights import to_ours, to_theirs
from fovigraph.models import load_dense_resnet
from fovigraph.nn import KNNConv

NETWORKS = [
    *("resnet9", "resnet18", "resnet18_m2", "resnet50", "resnet50_m2"),
    *("dense18", "dense18_m2"),  # which have taken over a dense network's weights
]


@pytest.fixture(scope="module")
def file():
    """What upstream computed: `tests/make_upstream_resnets.py` describes the arrays."""
    networks, arrays, _ = recordings.read("upstream_resnets.npz")
    return networks, arrays


@pytest.fixture(scope="module", params=NETWORKS)
def recorded(request, file):
    networks, arrays = file
    return SimpleNamespace(
        config=networks[request.param]["config"],
        lists=recordings.lists_of(request.param, networks, arrays),
        outputs=recordings.outputs_of(request.param, networks, arrays),
        name=request.param,
        arrays=arrays,
    )


@pytest.fixture(scope="module")
def loaded(recorded):
    """Our network of the configuration, with upstream's weights, names and neighbours."""
    ours = read_config(recorded.config)
    if recorded.name != "resnet9":
        widths = {"channels": [4, 8, 16, 32], "stem_channels": 4}
        ours = replace(ours, backbone=replace(ours.backbone, **widths))
    net = fg.FoviNet(ours).eval()
    pairs = list(links(net, UpstreamConfig(recorded.config)))
    theirs = drawn(to_theirs(net.state_dict(), pairs))
    net.load_state_dict(to_ours(theirs, pairs, net.state_dict(), source="drawn"))
    if recorded.name.startswith("dense"):
        preserve = recorded.name.endswith("m2")
        load_dense_resnet(net.backbone, drawn(dense_resnet18(4)), preserve_kernel_norm=preserve)
        theirs = to_theirs(net.state_dict(), pairs)
    use_neighbours(net, recorded.lists)
    return SimpleNamespace(net=net, pairs=pairs, theirs=theirs)


def test_every_layer_gives_upstreams_output(recorded, loaded):
    last = len(loaded.net.backbone.layers) - 1
    places = {"network.backbone.maxpool": "backbone.layers.0"}
    places["network.backbone.avgpool"] = f"backbone.layers.{last}"
    for link in loaded.pairs:
        theirs, ours = link.theirs.rpartition(".")[0], link.ours.rpartition(".")[0]
        places[theirs] = ours
        places[theirs.rpartition(".")[0]] = ours.rpartition(".")[0]  # the block that it is in
    out, found = recordings.run(loaded.net, places.values(), recorded.arrays)
    layers = [name for name in recorded.outputs if name.startswith("backbone.")]
    assert len(layers) >= 20
    for name in layers:
        ours = found[places[f"network.{name}"]].unflatten(0, (1, 2))
        assert close(some(ours), recorded.outputs[name]), name
    check_answers(out, found, recorded.outputs, recorded.arrays["samples"])


def test_tensors_are_bitwise_equal_there_and_back(loaded):
    check_there_and_back(to_theirs(loaded.net.state_dict(), loaded.pairs), loaded.theirs)


def test_lists_name_every_connection_of_the_pyramid(recorded, loaded):
    net = loaded.net
    found = family_of(net.config.backbone).connections(net.backbone, net.config.backbone)
    assert {"retina.cartesian", *(f"{name}.neighbours" for name in found)} <= recorded.lists.keys()
    assert set(found.values()) == set(net.pyramid.relations().values())
    for name, connection in found.items():
        given = recorded.lists[f"{name}.neighbours"].T
        edges = net.pyramid.graph(connection).edge_index
        assert edges.shape[1] == (given < connection.num_src).sum()
    convs = [m for m in net.backbone.modules() if isinstance(m, KNNConv)]
    assert len(convs) == sum(name.endswith(".cells") for name in recorded.lists)


def test_recomputed_lists_are_upstreams(recorded, loaded):
    """On another machine than theirs were recorded on, a few ties may fall otherwise."""
    found = recomputed_neighbours(loaded.net)
    assert found.keys() == recorded.lists.keys()
    same = [
        (found[name].sort(0).values == given.sort(0).values).all(0)
        for name, given in recorded.lists.items()
        if name.endswith(".neighbours")
    ]
    assert torch.cat(same).double().mean() >= 0.9


# ---- folders of upstream's trainer


@pytest.fixture(scope="module")
def folder(file, tmp_path_factory):
    """A folder as upstream's trainer writes it, of a ResNet-9, and its neighbour lists."""
    networks, arrays = file
    content, path = networks["resnet9"]["config"], tmp_path_factory.mktemp("resnet9")
    OmegaConf.save(OmegaConf.create(content), path / "resolved_config.yaml")
    net = fg.FoviNet(read_config(content))
    own = net.state_dict()
    weights = drawn(to_theirs(own, links(net, UpstreamConfig(content))))
    torch.save({"epoch": 3, "state_dict": weights}, path / "final_weights.pth")
    lists = recordings.lists_of("resnet9", networks, arrays)
    return SimpleNamespace(path=path, config=content, weights=weights, lists=lists)


def test_a_folder_is_loaded(folder, file):
    net = fg.from_upstream(folder.path, neighbours=folder.lists)
    _, arrays = file
    with torch.no_grad():
        out = net(arrays["images"], arrays["fixations"])
    assert close(out.fixation_logits.flatten(), arrays["outputs/resnet9"][:20])
    assert not net.training
    assert isinstance(net.backbone, fg.models.KNNResNet)


def test_a_folder_goes_there_and_back(folder, tmp_path):
    ours = convert(folder.path, tmp_path / "ours")
    assert fg.FoviNet.from_pretrained(ours).config == read_config(folder.config)
    back = convert(ours, tmp_path / "back", to_upstream=True)
    weights = torch.load(back / "state_dict.pth")["state_dict"]
    assert list(weights) == list(folder.weights)
    assert all(torch.equal(weights[name], folder.weights[name]) for name in weights)
    assert OmegaConf.to_container(OmegaConf.load(back / "resolved_config.yaml")) == folder.config


@pytest.mark.parametrize("recorded", ["resnet50"], indirect=True)
def test_lists_of_layers_between_the_same_levels_must_agree(loaded, recorded):
    lists, before = dict(recorded.lists), loaded.net.pyramid
    del lists["backbone.layer1.1.conv1.cells"]
    message = r"layer1\.1\.conv1: neighbours and cells must be those of backbone\.layer1\.0\.conv3"
    with pytest.raises(ValueError, match=message):
        use_neighbours(loaded.net, lists)
    assert loaded.net.pyramid is before
    lists["backbone.layer1.1.conv1.neighbours"] = lists["backbone.layer1.1.conv1.neighbours"].flip(
        1
    )
    with pytest.raises(ValueError, match=r"layer1\.1\.conv1: these are not the nearest neighbours"):
        use_neighbours(loaded.net, lists)


# ---- configurations


@pytest.fixture
def published(file):
    """Upstream's published AlexNet as a ResNet-18."""
    content = changed(file[0]["resnet18_m2"]["config"], model__mlp="1024-1024")
    return changed(content, saccades__resize_size=64, data__num_classes=1000)


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        ("fovi_resnet18", "fovi_resnet18"),
        ("saccadenet_knnresnet18", "fovi_resnet18"),
        ("fovi_resnet50", "fovi_resnet50"),
        ("saccadenet_knnresnet50", "fovi_resnet50"),
    ],
)
def test_published_values_are_our_configurations(published, arch, name):
    ours = read_config(changed(published, model__arch=arch))
    assert ours.backbone == fg.load_config(name).backbone


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"model__arch": "fovi_resnet9", "model__ref_frame_mult": None}, "fovi_resnet9"),
        (
            {"model__arch": "fovi_resnet18_lowres", "model__ref_frame_mult": 1},
            "fovi_resnet18_lowres",
        ),
        (
            {
                "model__arch": "saccadenet_knnresnet18_lowres",
                "model__ref_frame_mult": 0,
                "model__stem_conv_stride": 2,
            },
            "fovi_resnet18_lowres",
        ),
    ],
)
def test_forms_of_low_resolution_and_without_a_multiplier(published, changes, name):
    assert read_config(changed(published, **changes)).backbone == fg.load_config(name).backbone


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model__stem_kernel_size": 3}, {"stem_k": 9}),
        ({"model__stem_conv_stride": 1}, {"stem_stride": 1, "stem_pool_stride": 2}),
        ({"model__stem_pool_stride": 4}, {"stem_stride": 2, "stem_pool_stride": 4}),
        ({"model__out_grid_size": None}, {"out_side": None}),
        ({"model__norm": "layer_chan"}, {"norm": "channel"}),
        ({"model__channel_mult": 0.5, "model__k_mult": 3}, {"channels": [64, 128, 256, 512]}),
        ({"saccades__sample_cortex": False}, {"metric": "visual"}),
        ({"saccades__sample_cortex": "geodesic"}, {"metric": "geodesic_from_node"}),
        (
            {"model__arch_flag": "doubleres", "model__ref_frame_mult": 1},
            {"double_kernels": True, "kernel_multiplier": 1.0},
        ),
    ],
)
def test_keys_are_mapped_and_written_back(published, changes, expected):
    ours = read_config(
        changed(published, **{"model__norm_mlp": 0, "model__arch_flag": None} | changes)
    )
    for key, value in expected.items():
        assert getattr(ours.backbone, key) == value
    assert read_config(write_config(ours)) == ours


def test_every_key_of_a_resnet_is_mapped_or_known_to_be_irrelevant(published, caplog):
    content = changed(published, model__conv_layer_cls="default", model__vit={"patch_size": 8})
    read_config(content | {"pretrained_model": {}, "barlow": None})
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("fovi_resnet9", "fovi_resnet9"),
        ("fovi_resnet18", "fovi_resnet18"),
        ("fovi_resnet50", "fovi_resnet50"),
        ("fovi_resnet18_lowres", "fovi_resnet18_lowres"),
    ],
)
def test_shipped_networks_have_upstreams_names(name, arch):
    ours = fg.load_config(name, ["fixation.in_eval=random"])
    theirs = write_config(ours)
    assert theirs["model"]["arch"] == arch
    assert replace(read_config(theirs), retina=ours.retina) == ours


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__arch": "fovi_resnet34"}, "model.arch must be one of .*'fovi_resnet50'"),
        ({"model__arch": "fovi_resnet18_dwsep"}, "model.arch must be one of"),
        ({"model__arch_flag": "doubleres"}, "model.arch_flag must be '' with model.ref_frame_mult"),
        (
            {"model__arch_flag": "circref", "model__ref_frame_mult": 1},
            "model.arch_flag must be '' or 'doubleres' with",
        ),
        ({"model__stem_kernel_size": 1}, "model.stem_kernel_size must be at least 2, got 1"),
        ({"model__stem_kernel_size": -7}, "model.stem_kernel_size must be at least 2, got -7"),
        ({"model__stem_conv_stride": 1.5}, "model.stem_conv_stride must be a whole number"),
        ({"model__stem_pool_stride": 0}, "backbone.stem_pool_stride must be at least 1, got 0"),
        ({"model__norm": "none"}, "model.norm must not be 'none'"),
        ({"model__ref_frame_mult": "two"}, "model.ref_frame_mult must be a number"),
        ({"saccades__sample_cortex": 2}, "saccades.sample_cortex must be one of"),
    ],
    ids=str,
)
def test_what_is_not_supported_is_named(published, changes, message):
    with pytest.raises(fg.ConfigError, match=message):
        read_config(changed(published, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"channels": [32, 64, 128, 256]},
            r"backbone.channels must be \[64, 128, 256, 512\] to be",
        ),
        ({"strides": [1, 1, 2, 2]}, r"backbone.strides must be \[1, 2, 2, 2\]"),
        ({"k": 16}, "backbone.k must be 9 to be written"),
        ({"stem_channels": 32}, "backbone.stem_channels must be 64"),
        ({"stem_pool": "mean"}, "backbone.stem_pool must be 'max'"),
        ({"conv": "depthwise_separable"}, "backbone.conv must be 'full'"),
        ({"stem_k": 50}, "backbone.stem_k must be the square of a whole number"),
        ({"stem_k": 1}, "backbone.stem_k must be the square of a whole number, above 1"),
        ({"norm": "none"}, "backbone.norm must not be 'none' to be written"),
        ({"metric": "geodesic"}, "backbone.metric must be one of .* 'geodesic_from_node' to be"),
        (
            {"blocks": [3, 4, 6, 3]},
            r"backbone.block and .blocks must be one of basic \[1, 1, 1, 1\]",
        ),
    ],
    ids=str,
)
def test_what_upstream_does_not_have_is_named(changes, message):
    overrides = {f"backbone.{key}": value for key, value in changes.items()}
    config = fg.config.update_config(fg.load_config("fovi_resnet18"), overrides)
    with pytest.raises(fg.ConfigError, match=message):
        write_config(config)
