"""Fixations put together: each way against its definition, and no image acts on another."""

import copy
import math

import pytest
import torch
from torch import nn

import fovigraph as fg
from fovigraph.models import (
    Attention,
    Calibration,
    JointCalibration,
    MeanLogits,
    OneView,
    Recurrent,
    fit_calibration,
)
from fovigraph.models.aggregation import AGGREGATIONS, LEARNT, make_aggregation
from fovigraph.models.calibration import MultiLabelJointCalibration
from fovigraph.models.cost import describe

IN_ORDER = ("rnn", "gru", "lstm")
LOGITS = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

needs = pytest.mark.parametrize("name", AGGREGATIONS)


def made(name, **options):
    torch.manual_seed(1)
    return make_aggregation(name, 6, width=8, **options).double().eval()


def network(name, num_classes=6, **overrides):
    torch.manual_seed(1)
    head = {"aggregation": name, "aggregation_width": 8}
    return fg.create_model("fovi_tiny", num_classes=num_classes, head=head, **overrides)


@pytest.mark.parametrize(("name", "kind"), [("rnn", nn.RNN), ("gru", nn.GRU), ("lstm", nn.LSTM)])
@pytest.mark.parametrize("multi_label", [False, True])
def test_recurrent_is_torchs_own_network_over_probabilities(name, kind, multi_label):
    ours = made(name, multi_label=multi_label)
    theirs = kind(6, 8, batch_first=True).double()
    theirs.load_state_dict({f"{key}_l0": x for key, x in ours.cell.state_dict().items()})
    logits = LOGITS.clone().requires_grad_()
    p = logits.sigmoid() if multi_label else logits.softmax(-1)
    states, _ = theirs(nn.functional.layer_norm(p, [6], ours.norm.weight, ours.norm.bias))
    wanted = states[:, -1] @ ours.projector.weight.T + ours.projector.bias
    torch.testing.assert_close(ours(logits), wanted, rtol=0, atol=1e-12)
    (mine,) = torch.autograd.grad(ours(logits).square().sum(), logits)
    (known,) = torch.autograd.grad(wanted.square().sum(), logits, retain_graph=True)
    torch.testing.assert_close(mine, known, rtol=0, atol=1e-12)
    weights = torch.autograd.grad(ours(LOGITS).square().sum(), list(ours.cell.parameters()))
    known = torch.autograd.grad(wanted.square().sum(), list(theirs.parameters()))
    for mine, other in zip(weights, known, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-11)


def test_attention_is_one_block_of_one_head_and_the_mean_of_its_tokens():
    ours = made("attention")
    x = ours.norm(LOGITS @ ours.in_projector.weight.T + ours.in_projector.bias)
    attention, block = ours.block.self_attn, ours.block
    q, k, v = (x @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=-1)
    mixed = (q @ k.transpose(1, 2) / math.sqrt(8)).softmax(-1) @ v
    x = block.norm1(x + attention.out_proj(mixed))
    x = block.norm2(x + block.linear2(block.linear1(x).relu()))
    torch.testing.assert_close(ours(LOGITS), ours.projector(x).mean(1), rtol=0, atol=1e-12)


def test_attention_alone_is_that_of_images_of_one_fixation_each():
    ours, across = made("attention_alone"), made("attention")
    across.load_state_dict(ours.state_dict())
    each = across(LOGITS.flatten(0, 1)[:, None]).view_as(LOGITS)
    torch.testing.assert_close(ours(LOGITS), each.mean(1), rtol=0, atol=1e-12)
    assert not torch.allclose(ours(LOGITS), across(LOGITS))


def test_mean_of_logits():
    torch.testing.assert_close(MeanLogits()(LOGITS), LOGITS.sum(1) / 4, rtol=0, atol=1e-15)


def test_no_map_where_the_state_is_as_wide_as_the_classes():
    aggregation = Recurrent(6, "gru", width=6).double()
    assert not [key for key in aggregation.state_dict() if key.startswith("projector")]
    assert aggregation(LOGITS).shape == (5, 6)


@needs
def test_the_first_fixations_are_those_alone_that_come_first(name):
    aggregation = made(name)
    first = aggregation.first(LOGITS)
    assert first.shape == LOGITS.shape
    for count in range(1, 5):
        wanted = aggregation(LOGITS[:, :count])
        torch.testing.assert_close(first[:, count - 1], wanted, rtol=0, atol=1e-12)
    alone = aggregation.alone(LOGITS)
    for index in range(4):
        wanted = aggregation(LOGITS[:, index : index + 1])
        torch.testing.assert_close(alone[:, index], wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(aggregation.alone(LOGITS[0]), alone[0], rtol=0, atol=1e-12)


@needs
def test_an_image_has_no_effect_on_another(name):
    aggregation = made(name)
    out, changed = aggregation(LOGITS), LOGITS.clone()
    changed[2] += torch.randn(4, 6)
    after = aggregation(changed)
    others = torch.tensor([0, 1, 3, 4])
    torch.testing.assert_close(after[others], out[others], rtol=0, atol=1e-14)
    assert not torch.allclose(after[2], out[2])
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(aggregation(LOGITS[order]), out[order], rtol=0, atol=1e-14)


@needs
def test_the_order_of_fixations_matters_to_a_recurrent_network_alone(name):
    aggregation = made(name)
    out, other = aggregation(LOGITS), aggregation(LOGITS[:, [2, 0, 3, 1]])
    assert torch.allclose(out, other, rtol=0, atol=1e-12) == (name not in IN_ORDER)


@needs
def test_a_network_puts_its_probes_logits_together(name):
    net, images = network(name), torch.rand(3, 3, 40, 48)
    net.calibrate(Calibration(temperature=2.0, sharpening=0.5))
    where = torch.rand(3, 4, 2)
    with torch.no_grad():
        out = net.eval()(images, where)
        probed = net.head(out.embeddings)
        if name == "mean":
            wanted = Calibration(2.0, 0.5).of_all(probed / 2)
        else:
            wanted = net.aggregation(probed) / 2 * 4**0.5
        assert torch.equal(out.logits, wanted)
        torch.testing.assert_close(out.fixation_logits, net.aggregation.alone(probed) / 2)
        for index in range(4):
            single = net(images, where[:, index : index + 1])
            torch.testing.assert_close(single.fixation_logits[:, 0], out.fixation_logits[:, index])
        alone = OneView(net)(net.retina(images, where, net.views(images, where).size).flatten(0, 1))
        torch.testing.assert_close(alone.view(3, 4, 6) / 2, out.fixation_logits)
        one = net(images[1:2], where[1:2])
        torch.testing.assert_close(one.logits[0], out.logits[1])


def test_the_mean_is_what_it_was():
    net, images = network("mean"), torch.rand(2, 3, 40, 48)
    assert not [key for key in net.state_dict() if key.startswith("aggregation")]
    with torch.no_grad():
        out = net.eval()(images)
        probed = net.head(out.embeddings)
        assert torch.equal(out.fixation_logits, probed)
        assert torch.equal(out.logits, probed.log_softmax(-1).logsumexp(1) - math.log(4))
        out = net.train()(images)
        assert torch.equal(out.logits, out.fixation_logits.mean(1))


def test_an_older_networks_configuration_says_nothing_of_it(tmp_path):
    net = fg.FoviNet.from_pretrained("fovi_cifar10")
    net.save_pretrained(tmp_path)
    path = tmp_path / "config.yaml"
    lines = path.read_text().splitlines(keepends=True)
    older = [line for line in lines if "aggregation" not in line]
    assert len(older) == len(lines) - 2
    path.write_text("".join(older))
    again, images = fg.FoviNet.from_pretrained(tmp_path), torch.rand(1, 3, 32, 32)
    assert again.config == net.config
    assert again.config.head.aggregation == "mean"
    with torch.no_grad():
        assert torch.equal(again(images).logits, net(images).logits)


@needs
def test_it_is_saved_and_loaded(name, tmp_path):
    net = network(name).eval()
    net.save_pretrained(tmp_path)
    again, images = fg.FoviNet.from_pretrained(tmp_path), torch.rand(2, 3, 40, 48)
    assert again.config == net.config
    with torch.no_grad():
        assert torch.equal(again(images).logits, net(images).logits)
    other = fg.FoviNet.from_pretrained(tmp_path, num_classes=3)
    assert other(images).logits.shape == (2, 3)
    assert copy.deepcopy(other)(images).logits.shape == (2, 3)


@needs
def test_a_network_without_classes_has_nothing_to_put_together(name):
    out = network(name, num_classes=0).eval()(torch.rand(1, 3, 40, 48))
    assert out.logits.shape == (1, 0)
    assert out.embeddings.shape == (1, 4, 64)


@needs
def test_an_optimised_network_gives_the_same(name):
    net, images = network(name).eval(), torch.rand(2, 3, 40, 48)
    with torch.no_grad():
        torch.testing.assert_close(fg.optimize(net)(images).logits, net(images).logits)


def test_cost_counts_the_aggregation():
    plain = describe(network("mean"))
    assert describe(network("mean_logits")) == plain
    gru = describe(network("gru"))
    weights = 2 * 6 + 3 * 8 * (6 + 8 + 2) + 6 * (8 + 1)  # the norm's, the cell's, the map's
    assert gru["head"]["parameters"] == plain["head"]["parameters"] + weights
    assert gru["total"]["parameters"] == plain["total"]["parameters"] + weights
    # Of four fixations: the cell, on each, and the map, once; and both for each of them alone.
    step, last = 2 * 3 * 8 * (6 + 8), 2 * 6 * 8
    more = (4 * step + last + 4 * (step + last)) // 4
    assert gru["head"]["flops"] == plain["head"]["flops"] + more
    attention = describe(network("attention"))
    assert attention["head"]["flops"] > plain["head"]["flops"]


@pytest.mark.parametrize("name", LEARNT)
def test_it_learns(name):
    torch.manual_seed(0)
    aggregation = make_aggregation(name, 3, width=16)
    steps = torch.optim.Adam(aggregation.parameters(), lr=0.02)
    for _ in range(60):
        logits = torch.randn(64, 4, 3) * 2
        # The class of the fixation that is surest of one: not what a mean of logits says.
        labels = logits.amax(1).argmax(-1)
        loss = nn.functional.cross_entropy(aggregation(logits), labels)
        steps.zero_grad()
        loss.backward()
        steps.step()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in aggregation.parameters())
    assert float(loss.detach()) < 1.0  # at first log 3


def test_joint_calibration_is_fitted_to_what_fixations_say_together():
    generator = torch.Generator().manual_seed(0)
    count = torch.arange(1, 5)[:, None]
    labels = torch.randint(3, (4000,), generator=generator)
    # What is told has the right probabilities after division by 2 and times the count.
    truth = torch.randn(4000, 1, 3, generator=generator) * count
    labels = truth[:, 0].softmax(-1).multinomial(1, generator=generator)[:, 0]
    joint = 2 * truth / count**1.5
    found = fit_calibration(joint[:, :1], labels, joint=True)
    assert isinstance(found, JointCalibration)
    assert found.temperature == pytest.approx(2, rel=0.1)
    assert found.sharpening == 0
    told = JointCalibration(2.0, 0.5).of_first(JointCalibration(2.0).of_one(joint))
    torch.testing.assert_close(told[:, 3], (joint[:, 3] / 2 * 2).log_softmax(-1))
    of_labels = MultiLabelJointCalibration(2.0, 0.5)
    torch.testing.assert_close(of_labels.of_all(joint / 2), joint[:, 3] / 2 * 2)
    torch.testing.assert_close(of_labels.of_first(joint / 2)[:, 3], of_labels.of_all(joint / 2))
    assert torch.equal(of_labels.probabilities(joint), joint.sigmoid())


@pytest.mark.parametrize("name", ["mean_logits", "gru", "attention"])
def test_an_image_may_have_several_classes(name):
    net = network(name, **{"head.multi_label": True}).eval()
    assert isinstance(net.calibration, MultiLabelJointCalibration)
    with torch.no_grad():
        out = net(torch.rand(2, 3, 40, 48))
    assert torch.equal(out.probabilities, out.logits.sigmoid())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: network("atention"), fg.ConfigError, "did you mean 'attention'"),
        (
            lambda: network("gru", **{"head.aggregation_width": 0}),
            fg.ConfigError,
            "head.aggregation_width must be at least 1, got 0",
        ),
        (
            lambda: network("gru", **{"head.aggregation_width": 1.5}),
            fg.ConfigError,
            "head.aggregation_width must be a whole number, got 1.5",
        ),
        (lambda: Recurrent(4, "grru"), ValueError, "cell must be one of .*did you mean 'gru'"),
        (lambda: Recurrent(0), ValueError, "num_classes must be at least 1, got 0"),
        (lambda: Recurrent(4, width=True), TypeError, "width must be a whole number .*got True"),
        (lambda: Attention(4, dropout=1.5), ValueError, "dropout must be from 0"),
        (lambda: Attention(4, width=2**16), ValueError, "4 · width × width must be at most"),
    ],
)
def test_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()
