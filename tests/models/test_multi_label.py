"""Networks by which an image may have several classes, or none."""

import pytest
import torch

import fovigraph as fg
from fovigraph.models import Calibration, MultiLabelCalibration, fit_calibration
from fovigraph.models.predict import THRESHOLD

SETTINGS = ["retina.side=12", "head.num_classes=3", "head.class_names=[cat, dog, tree]"]


def network(*overrides):
    torch.manual_seed(0)
    config = fg.load_config("fovi_tiny", [*SETTINGS, "head.multi_label=true", *overrides])
    return fg.FoviNet(config).eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 3, 40, 40, generator=torch.Generator().manual_seed(0))


def test_probabilities_are_the_mean_of_sigmoids_over_fixations(images):
    out = network("head.temperature=0.7")(images)
    assert torch.equal(out.fixation_probabilities, out.fixation_logits.sigmoid())
    torch.testing.assert_close(out.probabilities, out.fixation_probabilities.mean(1))
    assert not torch.allclose(out.probabilities.sum(-1), torch.ones(4), atol=0.05)
    assert repr(out).startswith("MultiLabelOutput(logits=[4, 3], ")


def test_temperature_and_sharpening_act_on_logits(images):
    plain = network()(images)
    both = network("head.temperature=0.5", "head.sharpening=1.0")(images)
    mean = (plain.fixation_logits * 2).sigmoid().mean(1)
    torch.testing.assert_close(both.logits, mean.logit() * 4, rtol=1e-4, atol=1e-4)


def test_in_training_the_mean_of_logits(images):
    net = network("fixation.policy=center", "projector.dropout=0", "head.dropout=0").train()
    out = net(images)
    torch.testing.assert_close(out.logits, out.fixation_logits.mean(1))


def test_it_is_still_one_after_saving(images, tmp_path):
    net = network()
    net.save_pretrained(tmp_path)
    loaded = fg.FoviNet.from_pretrained(tmp_path)
    assert loaded.config.head.multi_label
    assert torch.equal(loaded(images).probabilities, net(images).probabilities)
    assert "of which an image may have several" in fg.models.card.model_card(net, "a", "made")


def test_predictions_have_labels(images):
    net = network()
    with torch.no_grad():
        net.head[1].weight.zero_()
        net.head[1].bias.copy_(torch.tensor([2.0, -2.0, 0.5]))
    told = net.predict(images)[0]
    assert told.labels == ["cat", "tree"]
    assert [name for name, _ in told.top] == ["cat", "tree", "dog"]
    assert told.probability == pytest.approx(torch.tensor(2.0).sigmoid().item())
    assert (told.fixation_probabilities.sum(-1) > 1.5).all() and THRESHOLD == 0.5
    with torch.no_grad():
        net.head[1].bias.fill_(-1)
    assert net.predict(images)[0].labels == []


def test_other_networks_have_none(images):
    net = network("head.multi_label=false")
    assert net.predict(images)[0].labels is None
    assert type(net.calibration) is Calibration


def test_a_new_head_stays_one_unless_told(images):
    net = network()
    net.reset_classifier(2, ["a", "b"])
    assert net.config.head.multi_label and type(net.calibration) is MultiLabelCalibration
    net.reset_classifier(2, multi_label=False)
    torch.testing.assert_close(net(images).probabilities.sum(-1), torch.ones(4))
    net.reset_classifier(5, multi_label=True)
    assert net(images).probabilities.shape == (4, 5) and net.config.head.multi_label
    with pytest.raises(TypeError, match="multi_label must be True or False, got 'yes'"):
        net.reset_classifier(5, multi_label="yes")


@torch.no_grad()
def test_a_compiled_network_gives_the_same_kind_of_output(images):
    net = network()
    assert type(torch.compile(net, backend="eager")(images)) is fg.models.MultiLabelOutput


def test_first_fixations_end_with_all():
    logits, both = torch.randn(3, 4, 5).double(), MultiLabelCalibration(1.7, 0.4)
    of_first = both.of_first(both.of_one(logits))
    for count in (1, 2, 4):
        wanted = both.of_all(both.of_one(logits[:, :count]))
        torch.testing.assert_close(of_first[:, count - 1], wanted)


def labelled(images=2000, looks=1, scale=3.0):
    """Logits ``scale`` times as large as calibrated ones, and labels drawn by the latter."""
    generator = torch.Generator().manual_seed(0)
    logits = 1.5 * torch.randn(images, 1, 4, generator=generator) - 0.5
    labels = torch.rand(images, 4, generator=generator) < logits[:, 0].sigmoid()
    return scale * logits.expand(-1, looks, -1), labels


def test_finds_the_temperature():
    logits, labels = labelled()
    found = fit_calibration(logits, labels)
    assert type(found) is MultiLabelCalibration
    assert 2.7 < found.temperature < 3.3 and found.sharpening == 0


def test_looks_with_the_same_evidence_do_not_make_surer():
    logits, labels = labelled(looks=8, scale=1.0)
    found = fit_calibration(logits, labels)
    assert abs(found.sharpening) < 0.05 and 0.9 < found.temperature < 1.1


def test_a_few_images_do_not_make_certain():
    labels = torch.tensor([[True, False], [False, True]])
    logits = 5.0 * (2 * labels[:, None].double() - 1)
    found = fit_calibration(logits, labels)
    shares = found.of_all(found.of_one(logits)).sigmoid()
    torch.testing.assert_close(shares, labels.double() / 2 + 0.25, atol=0.01, rtol=0)
