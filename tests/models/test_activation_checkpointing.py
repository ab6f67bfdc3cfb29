"""Activations computed again in the backward pass: the same result, with less kept in memory."""

import copy

import pytest
import torch
from torch import nn

import fovigraph as fg
from fovigraph.nn import BatchNorm

NETWORKS = {
    "alexnet": ("fovi_tiny", ["retina.side=16", "backbone.pool_after=[0]"]),
    "resnet": (
        "fovi_resnet9",
        ["retina.side=40", "backbone.channels=[4,4,6,6]", "backbone.stem_channels=4"],
    ),
    "convnext": ("fovi_convnextv2_atto", ["retina.side=32", "backbone.channels=[4,4,6,6]"]),
    "vit": ("fovi_vit_tiny", ["retina.side=24", "backbone.blocks=2"]),
}
needs = pytest.mark.parametrize("name", NETWORKS)


def network(name, *overrides):
    torch.manual_seed(0)
    config, own = NETWORKS[name]
    more = ["projector.channels=[]", "head.num_classes=3", "fixation.count=2", *overrides]
    return fg.FoviNet(fg.load_config(config, [*own, *more]))


def again(net):
    net = copy.deepcopy(net)
    net.backbone.activation_checkpointing = True
    return net


def step(net, images):
    """Two training steps' outputs, gradients and buffers."""
    torch.manual_seed(5)  # dropout's, and that of paths
    outs = []
    for _ in range(2):
        out = net(images, [[0.5, 0.5], [0.3, 0.6]]).logits
        out.square().sum().backward()
        outs.append(out.detach())
    return outs, {n: p.grad for n, p in net.named_parameters()}, dict(net.named_buffers())


@needs
@pytest.mark.parametrize("training", [True, False])
def test_outputs_gradients_and_statistics_are_the_same(name, training):
    net, images = network(name).train(training), torch.rand(3, 3, 32, 32)
    other = again(net)
    for ours, theirs in zip(step(net, images), step(other, images), strict=True):
        pairs = ours.items() if isinstance(ours, dict) else enumerate(ours)
        for key, tensor in pairs:
            assert (tensor is None and theirs[key] is None) or torch.equal(tensor, theirs[key]), key


@needs
def test_less_is_kept_for_the_backward_pass(name):
    net, images = network(name).train(), torch.rand(3, 3, 32, 32)

    def kept(net):
        total, own = 0, {p.data_ptr() for p in net.parameters()}

        def pack(x):
            nonlocal total
            total += 0 if x.data_ptr() in own else x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            net(images)
        return total

    assert kept(again(net)) < 0.5 * kept(net)


def test_batches_are_counted_once_whatever_the_momentum():
    class Net(fg.models.Backbone):
        def __init__(self):
            super().__init__()
            plan = fg.Plan(fg.SensorArray.matched(8))
            self.assemble([Layer(plan)], plan, in_channels=3, out_channels=3)

    class Layer(fg.models.Block):
        def __init__(self, plan):
            super().__init__()
            self.runs_on["conv"] = one = plan.conv(k=4)
            self.conv = fg.nn.KNNConv(3, 3, one.kernel_size)
            self.norm = BatchNorm(3, momentum=None)
            self.last = nn.BatchNorm1d(3, track_running_stats=False)

        def forward(self, x, pyramid):
            x = self.norm(self.run("conv", x, pyramid)).relu()
            return self.last(x.mT).mT

    net = Net()
    net.activation_checkpointing = True
    batches = [torch.rand(2, len(net.pyramid.levels[0]), 3) for _ in range(3)]
    with torch.no_grad():
        means = [net.layers[0].run("conv", x, net.pyramid).mean((0, 1)) for x in batches]
    for x in batches:
        net(x).sum().backward()
    norm = net.layers[0].norm
    assert int(norm.num_batches_tracked) == 3
    assert norm.momentum is None
    torch.testing.assert_close(norm.running_mean, sum(means) / 3)


def test_without_gradients_nothing_is_computed_twice():
    net, calls = again(network("alexnet")).train(), []
    for block in net.backbone.layers:
        block.register_forward_pre_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        net(torch.rand(2, 3, 32, 32))
    assert len(calls) == len(net.backbone.layers)
    net(torch.rand(2, 3, 32, 32)).logits.sum().backward()
    assert len(calls) == 3 * len(net.backbone.layers)


def test_a_network_is_saved_without_it(tmp_path):
    net = again(network("alexnet"))
    net.save_pretrained(tmp_path)
    assert not fg.FoviNet.from_pretrained(tmp_path).backbone.activation_checkpointing
