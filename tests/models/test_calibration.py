import math

import pytest
import torch

import fovigraph as fg
from fovigraph.models import Calibration, fit_calibration


def overconfident(images=4000, looks=1, scale=3.0, shared=0.0):
    """Logits of 5 classes ``scale`` times as large as calibrated ones, and drawn labels.

    Args:
        shared: Fraction of the evidence that all looks at an image have in common.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (images,), generator=generator)
    evidence = torch.nn.functional.one_hot(labels, 5)[:, None] * 1.5
    shape = images, looks, 5
    noise = torch.randn(shape, generator=generator) * math.sqrt(1 - shared)
    noise = noise + torch.randn(images, 1, 5, generator=generator) * math.sqrt(shared)
    return scale * (evidence + noise) * 1.5, labels


def calibration_error(log_p, labels):
    confidence, told = log_p.exp().max(-1)
    right = (told == labels).double()
    bins = (confidence * 15).ceil().clamp(1, 15)
    return sum(
        (confidence[bins == i].sum() - right[bins == i].sum()).abs() for i in bins.unique()
    ) / len(labels)


def test_none_changes_no_bit():
    logits = torch.randn(3, 4, 5)
    none = Calibration()
    assert none.of_one(logits) is logits
    wanted = logits.log_softmax(-1).logsumexp(1) - math.log(4)
    assert torch.equal(none.of_all(logits), wanted)


def test_first_fixations_end_with_all():
    logits, both = torch.randn(3, 4, 5).double(), Calibration(1.7, 0.4)
    of_first = both.of_first(both.of_one(logits))
    for count in (1, 2, 4):
        wanted = both.of_all(both.of_one(logits[:, :count])).log_softmax(-1)
        assert torch.allclose(of_first[:, count - 1], wanted)


def test_finds_the_temperature():
    logits, labels = overconfident(scale=3.0)
    found = fit_calibration(logits, labels)
    plain = calibration_error(logits[:, 0].double().log_softmax(-1), labels)
    log_p = found.of_all(found.of_one(logits.double())).log_softmax(-1)
    assert 2.5 < found.temperature < 3.5
    assert found.sharpening == 0
    assert plain > 0.1
    assert calibration_error(log_p, labels) < 0.03


def test_many_independent_looks_make_surer():
    logits, labels = overconfident(looks=16, scale=1.0)
    found = fit_calibration(logits, labels)
    log_p = found.of_first(found.of_one(logits.double()))
    plain = Calibration().of_first(logits.double())
    assert found.sharpening > 0.3
    assert calibration_error(plain[:, -1], labels) > 0.2
    for count in (1, 4, 16):
        assert calibration_error(log_p[:, count - 1], labels) < 0.12


def test_looks_with_the_same_evidence_do_not():
    logits, labels = overconfident(looks=8, scale=1.0, shared=1.0)
    assert abs(fit_calibration(logits, labels).sharpening) < 0.05


@pytest.mark.parametrize("images", [2, 8])
def test_a_few_images_that_are_all_right_do_not_make_certain(images):
    labels = torch.arange(images) % 2
    logits = 5.0 * torch.nn.functional.one_hot(labels, 2)[:, None]
    found = fit_calibration(logits, labels)
    sure = found.of_all(found.of_one(logits)).softmax(-1).amax()
    assert sure.item() == pytest.approx((images + 1) / (images + 2), abs=1e-3)


def test_of_separable_classes_is_finite():
    logits = 5 * torch.eye(4)[:, None].expand(4, 3, 4)
    found = fit_calibration(logits, torch.arange(4))
    assert found.temperature > 0
    assert math.isfinite(found.sharpening)


def test_bad_input():
    with pytest.raises(ValueError, match="at least 1 image"):
        fit_calibration(torch.zeros(0, 2, 3), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="finite"):
        fit_calibration(torch.full((1, 2, 3), math.nan), torch.tensor([0]))
    with pytest.raises(ValueError, match="temperature must be"):
        Calibration(temperature=0.0)
    with pytest.raises(ValueError, match="sharpening must be finite, got nan"):
        Calibration(sharpening=math.nan)


class TestNetworks:
    def test_are_calibrated_in_evaluation_only(self):
        net = fg.FoviNet(fg.load_config("fovi_tiny", ["projector.dropout=0", "head.dropout=0"]))
        images, places = torch.rand(2, 3, 48, 48), [[0.5, 0.5], [0.4, 0.6]]
        learning = net(images, places)
        net.calibrate(Calibration(2.0, 0.5))
        assert torch.equal(net(images, places).logits, learning.logits)
        out = net.eval()(images, places)
        net.calibrate(Calibration())
        plain = net(images, places)
        assert torch.allclose(out.fixation_logits, plain.fixation_logits / 2)
        assert torch.allclose(out.logits, Calibration(2.0, 0.5).of_all(out.fixation_logits))
        assert torch.allclose(out.probabilities.sum(-1), torch.ones(2))

    def test_keep_calibration_and_names_when_saved(self, tmp_path):
        names = [f"class {i}" for i in range(10)]
        net = fg.FoviNet(fg.load_config("fovi_tiny", [f"head.class_names={names}"]))
        net.calibrate(Calibration(1.3, -0.2))
        net.save_pretrained(tmp_path)
        again = fg.FoviNet.from_pretrained(tmp_path)
        assert again.calibration == Calibration(1.3, -0.2)
        assert again.class_names == names

    def test_without_names_number_their_classes(self):
        assert fg.FoviNet(fg.load_config("fovi_tiny")).class_names[3] == "3"

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["a"], "head.class_names must be 10 names, one for each class, got 1"),
            ([""] * 10, "head.class_names must not be empty"),
            (["a"] * 10, "head.class_names must be distinct, got 'a' more than once"),
        ],
    )
    def test_bad_names(self, names, message):
        with pytest.raises(fg.ConfigError, match=message):
            fg.load_config("fovi_tiny", [f"head.class_names={names}"])


def test_the_networks_own_number_of_fixations_counts_as_much_as_the_others():
    logits, labels = overconfident(looks=16, scale=1.0, shared=0.8)

    def loss(own, count):
        found = fit_calibration(logits, labels, own)
        log_p = found.of_first(found.of_one(logits.double()))[:, count - 1]
        return -log_p.gather(1, labels[:, None]).mean()

    for own in (2, 16):
        assert loss(own, own) < loss(None, own)
    with pytest.raises(ValueError, match="own must be at most 16, got 17"):
        fit_calibration(logits, labels, 17)
