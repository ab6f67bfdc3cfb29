"""The calibration at the end of training."""

from types import SimpleNamespace

import pytest
import torch

import fovigraph as fg
from fovigraph.config import to_dict
from fovigraph.models import Calibration
from fovigraph.train.calibrate import calibrate, calibration_images
from fovigraph.train.images import LoadedImages


@pytest.fixture
def net():
    small = ["retina.side=8", "backbone.pool_after=[]", "backbone.channels=[3]"]
    small += ["backbone.strides=[1]", "backbone.k=[9]", "projector.channels=[4]"]
    return fg.FoviNet(fg.load_config("fovi_tiny", small))


def batches(images=24):
    labels = torch.arange(images) % 10
    return [SimpleNamespace(images=torch.rand(images, 3, 32, 32), labels=labels)]


def of(net, split):
    return calibrate(net, split, torch.Generator().manual_seed(0))


def test_images_are_spread_over_the_split():
    labels = torch.arange(2500)
    split = LoadedImages(torch.zeros(2500, 3, 1, 1), labels, {5: ValueError("broken")})
    sample = calibration_images(split)
    assert len(sample) == 1000
    assert sample.labels.tolist() == [i * 2500 // 1000 for i in range(1000)]
    assert list(sample.broken) == [2]
    assert calibration_images(sample) is sample


def test_what_it_was_before_does_not_matter(net):
    split, found = batches(), []
    for before in (Calibration(), Calibration(3.0, 0.5)):
        net.calibrate(before)
        said = of(net, split)
        found.append(net.calibration)
    assert said.startswith("calibrated on 24 held-out images with 16 fixations: temperature")
    assert found[0] == found[1] != Calibration()


def test_a_network_that_looks_at_the_centre_alone_is_calibrated_there(net):
    config = fg.load_config("fovi_tiny", ["fixation.in_eval=center"])
    assert "with 1 fixation:" in of(fg.FoviNet(config), batches(4))


@pytest.mark.parametrize("name", ["mean_logits", "lstm", "attention"])
def test_however_fixations_are_put_together(net, name):
    head = {"aggregation": name, "num_classes": 10, "temperature": 3.0}
    net = fg.FoviNet({**to_dict(net.config), "head": head})
    with torch.no_grad():  # sure of answers that are right by chance
        last = net.head[1] if name == "mean_logits" else net.aggregation.projector
        last.weight *= 10_000
    split = batches()
    of(net, split)
    policy = fg.fixation_policy("near_center", 16).eval()
    where = policy(split[0].images, torch.Generator().manual_seed(0)).location

    def loss():
        with torch.no_grad():
            many = [net(split[0].images, where[:, :n]).logits for n in (1, 2, 4, 8, 16)]
            weight = torch.tensor([1, 1, 4, 1, 1])  # the network's own number counts most
            losses = [torch.nn.functional.cross_entropy(x, split[0].labels) for x in many]
        return float((torch.stack(losses) * weight).sum())

    found, least = net.calibration, loss()
    for temperature, sharpening in ((1.0, 0.0), (found.temperature / 2, found.sharpening)):
        net.calibrate(Calibration(temperature, sharpening))
        assert loss() > least + 0.1


def test_without_images_it_is_not_calibrated(net, caplog):
    net.calibrate(Calibration(3.0))
    assert of(net, []) == "not calibrated, as no image of the test split can be read"
    assert net.calibration == Calibration()
    assert "not calibrated" in caplog.text
