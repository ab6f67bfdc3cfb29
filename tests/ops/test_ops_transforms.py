"""Fused operators under function transforms and forward-mode AD, and their second derivatives."""

import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vmap

import fovigraph as fg
from fovigraph.ops.knn_pool import reduce_rows

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
    graph = fg.knn_graph(retina, retina.strided(2), k=7)
    for name, make in LAYERS.items():  # makes the kernel maps
        nodes = graph.num_dst if name == "transposed" else graph.num_src
        make()(torch.zeros(1, nodes, CHANNELS), graph)
    return graph


@pytest.fixture(params=[*LAYERS, *(f"{name}, relu" for name in ACTIVE)])
def layer(request):
    layer = LAYERS[request.param.removesuffix(", relu")]().double()
    layer.relu = request.param.endswith(", relu")
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


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_transform_gives_what_it_gives_through_plain_message_passing(transform, layer, graph, x):
    if "weights" in transform and not weights(layer):
        pytest.skip("without weights")
    found = TRANSFORMS[transform](layer, graph, x)
    wanted = TRANSFORMS[transform](unfused(layer), graph, x)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # of torch's tracer
@pytest.mark.parametrize("name", ["full", "max pool"])
def test_a_linearised_layer_is_its_derivative(name, graph):
    layer = LAYERS[name]().double()
    x = torch.randn(3, graph.num_src, CHANNELS, dtype=torch.float64)
    _, derivative = linearize(lambda x: layer(x, graph), x)
    wanted = jvp(lambda x: layer(x, graph), (x,), (direction(x),))[1]
    torch.testing.assert_close(derivative(direction(x)), wanted)


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


# Edges of somebody's own, which may themselves be batched or differentiated.


def on_raw_edges(layer, x, edges, geometry, graph):
    """A layer on raw edges, ``geometry`` being what it takes for each of them, if it does."""
    size = {"size": graph.size()}
    if isinstance(layer, fg.nn.KNNConv) and layer.interpolation == "bilinear":
        return layer((x, None), edges, **size, offset=geometry)
    if isinstance(layer, (fg.nn.KNNUnpool, fg.nn.KNNPool)):
        return layer((x, None), edges, geometry, **size)
    return layer((x, None), edges, graph.kernel_map(SIDE).cell, **size)


def geometry_of(layer, graph):
    """Something to differentiate by, away from where cells meet."""
    if isinstance(layer, fg.nn.KNNConv) and layer.interpolation == "bilinear":
        return torch.rand_like(graph.offset).double() * 1.8 - 0.9
    return graph.relative_distance.double() + 0.1


@pytest.mark.parametrize("fused", [True, False])
def test_batches_of_raw_edges_give_what_each_gives_alone(layer, graph, x, fused):
    if not fused:
        unfused(layer)
    geometry = geometry_of(layer, graph)
    batch = torch.stack((graph.edge_index, graph.edge_index.flip(1)))
    found = vmap(lambda edges: on_raw_edges(layer, x, edges, geometry, graph))(batch)
    for edges, one in zip(batch, found, strict=True):
        torch.testing.assert_close(one, on_raw_edges(layer, x, edges, geometry, graph))


@pytest.mark.parametrize("name", ["bilinear", "gaussian pool", "unpool"])
@pytest.mark.parametrize("fused", [True, False])
def test_geometry_given_with_raw_edges_has_all_derivatives(name, graph, fused):
    layer = LAYERS[name]().double()
    layer.fused = fused
    x = torch.randn(2, graph.num_src, CHANNELS, dtype=torch.float64)
    geometry = geometry_of(layer, graph).requires_grad_()

    def run(geometry):
        return on_raw_edges(layer, x, graph.edge_index, geometry, graph)

    options = {"fast_mode": True, "check_batched_grad": True}
    assert gradcheck(run, (geometry,), check_forward_ad=True, **options)
    assert gradgradcheck(run, (geometry,), check_fwd_over_rev=True, **options)
    every = torch.stack((geometry.detach(), geometry.detach() * 0.9))
    for one, found in zip(every, vmap(run)(every), strict=True):
        torch.testing.assert_close(found, run(one))


@pytest.mark.parametrize("transform", ["jvp", "vmap", "gradients of every sample"])
@pytest.mark.parametrize("name", ["full", "depthwise", "max pool", "mean pool"])
def test_a_transform_within_what_is_compiled_is_compiled_whole(name, transform, graph):
    layer = LAYERS[name]().double().requires_grad_(False)
    x = torch.randn(3, graph.num_src, CHANNELS, dtype=torch.float64)
    run = {
        "jvp": lambda x: jvp(lambda x: layer(x, graph), (x,), (x.cos(),))[1],
        "vmap": vmap(lambda x: layer(x, graph)),
        "gradients of every sample": vmap(grad(lambda x: layer(x, graph).square().sum())),
    }[transform]
    wanted = run(x)
    found = torch.compile(run, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("transform", ["dual numbers", "vmap"])
def test_what_was_compiled_without_a_transform_is_right_under_one(transform, graph):
    layer = LAYERS["full"]().double().requires_grad_(False)
    x = torch.randn(3, graph.num_src, CHANNELS, dtype=torch.float64)
    compiled = torch.compile(layer, backend="aot_eager")
    torch.testing.assert_close(compiled(x, graph), layer(x, graph))
    found, wanted = (TRANSFORMS[transform](each, graph, x) for each in (compiled, layer))
    torch.testing.assert_close(found, wanted)


def test_more_neighbours_than_promised_are_not_passed_over_in_silence():
    x, src, ptr = torch.rand(2, 5, 3), torch.tensor([0, 1, 2, 3, 4]), torch.tensor([0, 3, 3, 5])
    right = vmap(lambda x: reduce_rows(x, src, ptr, "max", most=3))(x)
    assert right.equal(reduce_rows(x, src, ptr, "max"))
    found = vmap(lambda x: reduce_rows(x, src, ptr, "max", most=2))(x)
    assert found[:, 0].isnan().all()
    assert found[:, 1:].equal(right[:, 1:])
