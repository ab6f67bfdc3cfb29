"""The tutorial's AlexNet."""

import copy

import pytest
import torch

import fovigraph as fg
from fovigraph.models import KNNAlexNet, KNNAlexNetBlock


@pytest.fixture(scope="module")
def tutorial():
    """Strides 4,1,1,1,1, pool after layers 1 and 4, k = 121, 25, 9, 27, 9, kernel grid ×2."""
    steps = KNNAlexNet.steps([4, 1, 1, 1, 1], [121, 25, 9, 27, 9], pool_after=[1, 4])
    return fg.GraphPyramid(fg.SensorArray.matched(64), steps)


def test_tutorials_nodes_and_cells(tutorial):
    nodes = [len(level) for level in tutorial.levels]
    assert nodes == [4085, 230, 230, 60, 60, 60, 60, 16]
    cells = [size**2 for size in tutorial.kernel_sizes if size]
    assert cells == [484, 100, 36, 121, 36]


def test_tutorials_network_classifies(tutorial):
    net = KNNAlexNet(tutorial, [96, 256, 384, 256, 256], num_classes=1000)
    assert (net.classifier.in_features, net.classifier.out_features) == (4096, 1000)
    assert net(torch.rand(2, 4085, 3)).shape == (2, 1000)


def test_block_is_the_layer_of_the_tutorial():
    plan = fg.Plan(fg.SensorArray.matched(64))
    steps = fg.Step("conv", k=49, kernel_size=14), fg.Step("pool", k=9, stride=2)
    block = KNNAlexNetBlock(plan, 3, 128, *steps)
    pyramid = plan.build()
    x = torch.rand(4, 4085, 3)
    out = block(x, pyramid)
    assert out.shape == (4, 964, 128)
    levels = list(block.by_level(x, pyramid))
    assert [(level, len(y[0])) for level, y in levels] == [(1, 4085), (2, 964)]
    block.eval()
    assert list(block.by_level(x, pyramid))[-1][1].equal(block(x, pyramid))


@pytest.mark.parametrize("conv", ["full", "depthwise", "depthwise_separable"])
@pytest.mark.parametrize("norm", fg.nn.NORMS)
def test_every_convolution_and_norm_trains(conv, norm):
    steps = KNNAlexNet.steps([2, 1], [9, 9], pool_after=[0], out_side=1)
    pyramid = fg.GraphPyramid(fg.SensorArray.matched(16), steps)
    net = KNNAlexNet(pyramid, [6, 12], norm=norm, conv=conv)
    features = net(torch.rand(3, len(pyramid.levels[0]), 3))
    assert features.shape == (3, 1, 12)
    features.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_two_networks_share_a_pyramid(tutorial):
    one, two = (KNNAlexNet(tutorial, [4] * 5) for _ in range(2))
    assert one.pyramid is two.pyramid
    assert not any(name.startswith("pyramid") for name in one.state_dict())


def test_what_does_not_fit_is_refused(tutorial):
    with pytest.raises(ValueError, match="each of the pyramid's 5 convolutions, got"):
        KNNAlexNet(tutorial, [4] * 4)
    with pytest.raises(ValueError, match=r"conv must be one of .* got 'ful' .*did you mean 'full'"):
        KNNAlexNet(tutorial, [4] * 5, conv="ful")
    with pytest.raises(ValueError, match="norm must be one of"):
        KNNAlexNet(tutorial, [4] * 5, norm="bach")
    with pytest.raises(ValueError, match="multiple of the input channels, got 3 → 4"):
        KNNAlexNet(tutorial, [4] * 5, conv="depthwise")
    pool_first = fg.GraphPyramid(fg.SensorArray.matched(8), [fg.Step("pool", k=4, stride=2)])
    with pytest.raises(ValueError, match="must start with a convolution"):
        KNNAlexNet(pool_first, [])


STEPS, CONV = KNNAlexNet.steps, fg.Step("conv", k=4)


def plan():
    return fg.Plan(fg.SensorArray.matched(8))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: STEPS([1, 2], [9]), ValueError, r"k must have as many entries as strides, 2"),
        (lambda p: STEPS(1, [9]), TypeError, "strides must be a list of numbers, got 1"),
        (lambda p: STEPS([1], None), TypeError, "k must be a list of whole numbers, got None"),
        (lambda p: STEPS([1], [9.0]), TypeError, r"k\[0\] must be a whole number"),
        (lambda p: STEPS([0], [9]), ValueError, r"strides\[0\] must be at least 1"),
        (lambda p: STEPS([1], [9], [7]), ValueError, "pool_after must name convolutions from 0"),
        (lambda p: STEPS([1], [9], [-1]), ValueError, "pool_after must name convolutions from 0"),
        (lambda p: STEPS([1], [9], 0), TypeError, "pool_after must be a list of whole numbers"),
        (lambda p: STEPS([1], [9], ["0"]), TypeError, "pool_after must be whole numbers, got '0'"),
        (lambda p: STEPS([1], [9], pool_k=0), ValueError, "pool_k must be at least 1"),
        (
            lambda p: STEPS([1], [9], pool_stride=None),
            TypeError,
            "pool_stride must be a finite number",
        ),
        (lambda p: STEPS([1], [9], out_side=0), ValueError, "out_side must be at least 1"),
        (
            lambda p: STEPS([1], [9], kernel_multiplier=float("inf")),
            ValueError,
            "kernel_multiplier must be finite",
        ),
        (lambda p: KNNAlexNet(3, [4]), TypeError, "pyramid must be a GraphPyramid, got 3"),
        (lambda p: KNNAlexNet(p, 4), TypeError, "channels must be a list of whole numbers, got 4"),
        (lambda p: KNNAlexNet(p, [4.5] * 5), TypeError, r"channels\[0\] must be a whole number"),
        (
            lambda p: KNNAlexNet(p, [4] * 5, num_classes=0),
            ValueError,
            "num_classes must be at least 1, got 0",
        ),
        (lambda p: KNNAlexNet(p, [4] * 5, in_channels=0), ValueError, "in_channels must be at"),
        (lambda p: KNNAlexNetBlock(3, 3, 4, CONV), TypeError, "plan must be a Plan, got 3"),
        (lambda p: KNNAlexNetBlock(plan(), 3, 4, 9), TypeError, "conv_step must be a Step, got 9"),
        (
            lambda p: KNNAlexNetBlock(plan(), 3, 4, CONV, CONV),
            ValueError,
            "pool_step must be a step of the kind 'pool', got Step",
        ),
    ],
)
def test_what_cannot_be_is_named(tutorial, make, error, message):
    with pytest.raises(error, match=message):
        make(tutorial)


def test_layers_that_a_pool_follows_may_come_in_any_collection():
    wanted = STEPS([1, 1], [9, 9], [1])
    for pool_after in ((1,), {1}, range(1, 2), [1, 1]):
        assert STEPS([1, 1], [9, 9], pool_after) == wanted


@pytest.fixture
def small_net():
    steps = KNNAlexNet.steps([2, 1], [9, 9], pool_after=[0], out_side=1)
    return KNNAlexNet(fg.GraphPyramid(fg.SensorArray.matched(16), steps), [6, 12])


def test_it_compiles_in_one_piece_at_once(small_net):
    x = torch.rand(3, len(small_net.pyramid.levels[0]), 3)
    compiled = torch.compile(copy.deepcopy(small_net), fullgraph=True, backend="aot_eager")
    grad = torch.rand(3, 1, 12)
    found, wanted = compiled(x), small_net(x)
    torch.testing.assert_close(found, wanted)
    found.backward(grad)
    wanted.backward(grad)
    for ours, theirs in zip(compiled.parameters(), small_net.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_it_exports(small_net):
    x = torch.rand(3, len(small_net.pyramid.levels[0]), 3)
    exported = torch.export.export(small_net.eval(), (x,)).module()
    torch.testing.assert_close(exported(x), small_net(x))
