"""Networks by name: create_model, list_models, other classes and channels, features only."""

import pytest
import torch
from torch import nn

import fovigraph as fg
from fovigraph.models import FeatureNet, NoHead

IMAGES = torch.rand(2, 3, 48, 64)
LOOK = [[0.5, 0.5], [0.3, 0.7]]


def test_networks_are_listed():
    assert {"fovi_alexnet", "fovi_cifar10", "fovi_tiny"} <= set(fg.list_models())
    assert fg.list_models("*alex*") == ["fovi_alexnet", "imagenet_alexnet"]
    assert fg.list_models("*alex*", pretrained=True) == []
    assert fg.list_models(["fovi_alex*", "fovi_t*"]) == ["fovi_alexnet", "fovi_tiny"]
    assert fg.list_models(pretrained=True) == ["fovi_cifar10"]
    with pytest.raises(TypeError, match="pattern must be a string or a list of strings, got 3"):
        fg.list_models(3)


def test_by_a_configurations_name_weights_are_random_as_from_the_configuration():
    torch.manual_seed(3)
    net = fg.create_model("fovi_tiny")
    torch.manual_seed(3)
    same = fg.FoviNet(fg.load_config("fovi_tiny"))
    assert net.training
    for ours, theirs in zip(net.parameters(), same.parameters(), strict=True):
        assert ours.equal(theirs)


def test_by_a_trained_networks_name_and_folder(tmp_path):
    net = fg.create_model("fovi_cifar10", pretrained=True)
    same = fg.FoviNet.from_pretrained("fovi_cifar10")
    assert not net.training
    assert net(IMAGES, LOOK).logits.equal(same(IMAGES, LOOK).logits)
    net.save_pretrained(tmp_path)
    other = fg.create_model(tmp_path, pretrained=True)
    assert other(IMAGES, LOOK).logits.equal(net(IMAGES, LOOK).logits)
    fresh = fg.create_model(tmp_path)
    assert fresh.config == net.config
    assert not next(fresh.parameters()).equal(next(net.parameters()))
    by_file = fg.create_model(tmp_path / "config.yaml")
    assert by_file.config == net.config


def test_overrides_are_sections_or_keys():
    net = fg.create_model("fovi_tiny", fixation={"count": 2}, **{"head.dropout": 0.25})
    assert net.config.fixation.count == 2
    assert net.config.head.dropout == 0.25
    trained = fg.create_model("fovi_cifar10", pretrained=True, fixation={"eval_count": 2})
    assert trained(IMAGES).fixations.shape == (2, 2, 2)


@pytest.mark.parametrize("pretrained", [False, True])
def test_without_classes_a_network_gives_embeddings(pretrained, tmp_path):
    net = fg.create_model("fovi_cifar10", pretrained, num_classes=0).eval()
    assert isinstance(net.head, NoHead)
    out = net(IMAGES, LOOK)
    assert out.embeddings.shape == (2, 2, 160)
    assert out.logits.shape == out.probabilities.shape == (2, 0)
    assert out.fixation_logits.shape == (2, 2, 0)
    net.save_pretrained(tmp_path)
    other = fg.FoviNet.from_pretrained(tmp_path)
    assert other(IMAGES, LOOK).embeddings.equal(out.embeddings)
    if pretrained:
        whole = fg.FoviNet.from_pretrained("fovi_cifar10")
        assert whole(IMAGES, LOOK).embeddings.equal(out.embeddings)
    with pytest.raises(ValueError, match="net must have classes to predict, got num_classes=0"):
        net.predict(IMAGES)
    net.reset_classifier(2, ["cat", "dog"])
    assert net(IMAGES).logits.shape == (2, 2)


def test_another_number_of_classes_keeps_the_backbone():
    net = fg.create_model("fovi_cifar10", pretrained=True, num_classes=3)
    same = fg.FoviNet.from_pretrained("fovi_cifar10")
    assert net(IMAGES, LOOK).features.equal(same(IMAGES, LOOK).features)
    assert net(IMAGES).logits.shape == (2, 3)
    named = fg.create_model("fovi_tiny", class_names=["a", "b"])
    assert named.class_names == ["a", "b"]


def test_grey_images_give_what_their_colours_gave(tmp_path):
    grey = torch.rand(2, 1, 48, 64)
    net = fg.create_model("fovi_cifar10", pretrained=True, in_channels=1)
    same = fg.create_model("fovi_cifar10", pretrained=True)
    mean, std = same.config.retina.mean, same.config.retina.std
    net.retina.fixed_tensors()["mean"].fill_(0), net.retina.fixed_tensors()["std"].fill_(1)
    same.retina.fixed_tensors()["mean"].fill_(0), same.retina.fixed_tensors()["std"].fill_(1)
    found, wanted = net(grey, LOOK), same(grey.expand(-1, 3, -1, -1), LOOK)
    torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-4, atol=1e-4)
    assert net.config.retina.mean == [pytest.approx(sum(mean) / 3)]
    assert net.config.retina.std == [pytest.approx(sum(std) / 3)]


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_any_number_of_channels(channels, tmp_path):
    images = torch.rand(2, channels, 48, 64)
    net = fg.create_model("fovi_cifar10", pretrained=True, in_channels=channels)
    out = net(images, LOOK)
    assert out.logits.shape == (2, 10)
    net.save_pretrained(tmp_path)
    assert fg.FoviNet.from_pretrained(tmp_path)(images, LOOK).logits.equal(out.logits)
    three = fg.FoviNet.from_pretrained("fovi_cifar10").state_dict()["backbone.layers.0.conv.weight"]
    own = net.state_dict()["backbone.layers.0.conv.weight"]
    assert own.shape[1] == channels
    if channels in (1,):
        torch.testing.assert_close(own.sum(1), three.sum(1))
    fresh = fg.create_model("fovi_tiny", in_channels=channels)
    assert fresh(images).logits.shape == (2, 10)
    with pytest.raises(ValueError, match=f"images must have {channels} channel"):
        net(torch.rand(2, 3 if channels != 3 else 4, 48, 64))


def test_features_only():
    net = fg.create_model("fovi_tiny", features_only=True).eval()
    assert isinstance(net, FeatureNet)
    features = net(IMAGES, LOOK)
    assert [list(each.shape) for each in features] == [
        [2, 2, info.nodes, info.channels] for info in net.info
    ]
    names = ["pool1", "pool2", "conv3", "conv4", "pool3"]
    assert [net.pyramid.names[info.level] for info in net.info] == names
    some = fg.create_model("fovi_tiny", features_only=True, layers=["layers.1"])
    assert [info.name for info in some.info] == ["layers.1"]
    assert some.training
    assert len(some(IMAGES)) == 1
    nn.Sequential(some)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name_or_folder_or_hub_id": "fovi_tniy"}, fg.ConfigError, "did you mean 'fovi_tiny'"),
        ({"name_or_folder_or_hub_id": 3}, fg.ConfigError, "name_or_path must be the name of"),
        ({"pretrained": True}, FileNotFoundError, "must be one of 'fovi_cifar10', a folder or"),
        ({"pretrained": 1}, TypeError, "pretrained must be"),
        ({"num_classes": -1}, ValueError, "num_classes must be at least 0, got -1"),
        ({"num_classes": 2.5}, TypeError, "num_classes must be a whole number"),
        ({"in_channels": 0}, ValueError, "in_channels must be at least 1, got 0"),
        ({"in_channels": True}, TypeError, "in_channels must be a whole number"),
        ({"class_names": 3}, TypeError, "class_names must be a list of names, got 3"),
        ({"class_names": ["a"], "num_classes": 2}, ValueError, "^class_names must be 2 names"),
        ({"class_names": ["a", 3]}, TypeError, r"class_names\[1\] must be a string, got 3"),
        ({"class_names": ["a", "a"]}, ValueError, "^class_names must be distinct, got 'a'"),
        ({"fixatoin": {"count": 2}}, fg.ConfigError, r"fixatoin is not a key \(did you mean fixat"),
        ({"fixation": {"cuont": 2}}, fg.ConfigError, "did you mean fixation.count"),
        ({"layers": ["layers.0"]}, ValueError, "layers must be None unless features_only"),
        (
            {"features_only": True, "layers": ["layer.0"]},
            ValueError,
            r"layers\[0\] must be one of 'layers.0', .* got 'layer.0'",
        ),
        ({"in_channels": 1, "retina": {"color_decay": 2.0}}, ValueError, "retina.color_decay must"),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        fg.create_model(**{"name_or_folder_or_hub_id": "fovi_tiny", **arguments})


def test_other_channels_need_a_first_layer_that_can_be_adapted(tmp_path):
    net = fg.create_model("fovi_tiny", backbone={"conv": "depthwise_separable"})
    net.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="in_channels must be the number of channels that the net"):
        fg.create_model(tmp_path, pretrained=True, in_channels=1)
    assert fg.create_model(tmp_path, in_channels=1)(IMAGES[:, :1]).logits.shape == (2, 10)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"overrides": {"retina.sdie": 3}}, fg.ConfigError, "did you mean retina.side"),
        ({"overrides": 3}, fg.ConfigError, "changes must be a mapping"),
        ({"overrides": {"projector.channels": [8]}}, ValueError, "are of another architecture"),
        ({"in_channels": 0}, ValueError, "in_channels must be at least 1"),
        ({"cache_dir": 3}, TypeError, "cache_dir must be a path"),
        ({"token": 3}, TypeError, "token must be a string, true, false or None, got 3"),
        ({"local_files_only": "no"}, TypeError, "local_files_only must be"),
    ],
    ids=str,
)
def test_from_pretrained_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        fg.FoviNet.from_pretrained("fovi_cifar10", **arguments)
