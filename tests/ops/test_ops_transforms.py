"""Fused operators under function transforms and forward-mode AD, and their second derivatives."""

import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vmap

import fovigraph as fg
from fovigraph import ops
from fovigraph.ops.knn_conv_shared import knn_conv_shared

CHANNELS, OUTPUTS, SIDE = 2, 3, 3
LAYERS = {
    "full": lambda: fg.nn.KNNConv(CHANNELS, OUTPUTS, SIDE),
    "full without bias": lambda: fg.nn.KNNConv(CHANNELS, OUTPUTS, SIDE, bias=False),
    "bilinear": lambda: fg.nn.KNNConv(CHANNELS, OUTPUTS, SIDE, interpolation="bilinear"),
    "depthwise": lambda: fg.nn.KNNDepthwiseConv(CHANNELS, SIDE, 2),
    "depthwise, many": lambda: fg.nn.KNNDepthwiseConv(CHANNELS, SIDE, 8),
    "separable": lambda: fg.nn.KNNSeparableConv(CHANNELS, OUTPUTS, SIDE),
    "transposed": lambda: fg.nn.KNNConvTranspose(CHANNELS, OUTPUTS, SIDE),
    **{f"{mode} pool": lambda mode=mode: fg.nn.KNNPool(mode) for mode in fg.nn.POOL_MODES},
    "unpool": fg.nn.KNNUnpool,
}
ACTIVE = ("full", "depthwise")  # the layers that can apply a ReLU


@pytest.fixture(scope="module")
def graph():
    retina = fg.SensorArray.matched(5)
    return fg.knn_graph(retina, retina.strided(2), k=7)


@pytest.fixture(params=[*LAYERS, *(f"{name}, relu" for name in ACTIVE)])
def layer(request):
    name, _, relu = request.param.partition(", relu")
    layer = LAYERS[name if name in LAYERS else request.param]().double()
    if request.param.endswith(", relu"):
        layer.relu = True
    return layer


@pytest.fixture
def x(layer, graph):
    nodes = graph.num_dst if isinstance(layer, fg.nn.KNNConvTranspose) else graph.num_src
    return torch.randn(3, nodes, CHANNELS, dtype=torch.float64)


def unfused(layer):
    for module in layer.modules():
        if hasattr(module, "fused"):
            module.fused = False
    return layer


def weights(layer):
    return {name: weight.detach() for name, weight in layer.named_parameters()}


def loss(layer, graph):
    """Of weights and features, with second derivatives by both."""

    def of(weights, x):
        return functional_call(layer, weights, (x, graph)).pow(3).mean()

    return of


def direction(x):
    return torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))


def by_dual_numbers(layer, graph, x):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(layer(forward_ad.make_dual(x, direction(x)), graph)).tangent


TRANSFORMS = {
    "jvp": lambda layer, graph, x: jvp(lambda x: layer(x, graph), (x,), (direction(x),)),
    "jvp by weights": lambda layer, graph, x: jvp(
        lambda weights: loss(layer, graph)(weights, x),
        (weights(layer),),
        ({name: direction(weight) for name, weight in weights(layer).items()},),
    ),
    "dual numbers": by_dual_numbers,
    "linearize": lambda layer, graph, x: linearize(lambda x: layer(x, graph), x)[1](direction(x)),
    "jacfwd": lambda layer, graph, x: jacfwd(lambda x: layer(x, graph))(x[:1]),
    "jacrev": lambda layer, graph, x: jacrev(lambda x: layer(x, graph))(x[:1]),
    "grad": lambda layer, graph, x: grad(loss(layer, graph), (0, 1))(weights(layer), x),
    "hessian": lambda layer, graph, x: hessian(loss(layer, graph), 1)(weights(layer), x[0]),
    "vmap": lambda layer, graph, x: vmap(lambda x: layer(x, graph), 1, 1)(x[:, None]),
    "vmap over weights": lambda layer, graph, x: vmap(
        lambda weights: functional_call(layer, weights, (x, graph))
    )({name: torch.stack((weight, 2 * weight)) for name, weight in weights(layer).items()}),
    "gradients of every sample": lambda layer, graph, x: vmap(
        grad(loss(layer, graph), (0, 1)), (None, 0)
    )(weights(layer), x),
    "hessian times vector": lambda layer, graph, x: jvp(
        grad(loss(layer, graph), (0, 1)), (weights(layer), x), (weights(layer), direction(x))
    )[1],
}


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # linearize's tracer
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_transform_gives_what_it_gives_through_plain_message_passing(transform, layer, graph, x):
    if "weights" in transform and not weights(layer):
        pytest.skip("without weights")
    found = TRANSFORMS[transform](layer, graph, x)
    wanted = TRANSFORMS[transform](unfused(layer), graph, x)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_derivatives_are_those_of_finite_differences(layer, graph, x):
    inputs = (x[:2].requires_grad_(), *layer.parameters())
    many = {"check_forward_ad": True, "check_batched_grad": True}

    def run(x, *given):
        return functional_call(layer, dict(zip(weights(layer), given, strict=True)), (x, graph))

    assert gradcheck(run, inputs, fast_mode=True, check_batched_forward_grad=True, **many)
    again = {"check_fwd_over_rev": True, "check_rev_over_rev": True, "check_batched_grad": True}
    assert gradgradcheck(run, inputs, fast_mode=True, **again)


def test_third_derivatives_are_those_of_plain_message_passing(layer, graph, x):
    def third():
        leaves = [x.requires_grad_(), *layer.parameters()]
        value = layer(x, graph).pow(4).mean()
        for _ in range(3):
            grads = torch.autograd.grad(value, leaves, create_graph=True)
            value = sum(grad.square().sum() for grad in grads)
        return grads

    found = third()
    unfused(layer)
    torch.testing.assert_close(found, third(), rtol=1e-9, atol=1e-12)
