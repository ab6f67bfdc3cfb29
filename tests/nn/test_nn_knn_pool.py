"""KNNPool against a loop over nodes."""

import itertools
import math

import pytest
import torch

import fovigraph as fg
from fovigraph.nn import POOL_MODES, KNNPool


def definition(x, graph, mode, sigma=0.5):
    y = x.new_zeros(*x.shape[:-2], graph.num_dst, x.shape[-1])
    src, dst = graph.edge_index
    for node in range(graph.num_dst):
        neighbours = x[..., src[dst == node], :]
        if neighbours.shape[-2] == 0:
            continue
        if mode == "gaussian":
            weight = torch.exp(-(graph.relative_distance[dst == node].double() ** 2) / 2 / sigma**2)
            y[..., node, :] = (neighbours * (weight / weight.sum())[:, None]).sum(-2)
        elif mode == "max":
            y[..., node, :] = neighbours.amax(-2)
        else:
            y[..., node, :] = getattr(neighbours, mode)(-2)
    return y


@pytest.fixture
def x(graph):
    return torch.randn(2, 3, graph.num_src, 4, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("mode", POOL_MODES)
@pytest.mark.parametrize("fused", [True, False])
def test_values_and_gradients_are_the_definitions(graph, x, mode, fused):
    pool = KNNPool(mode)
    pool.fused = fused
    found, wanted = pool(x, graph), definition(x, graph, mode)
    # relative_distance is kept in single precision
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    grad = torch.randn_like(wanted)
    ours, theirs = (torch.autograd.grad(y, x, grad)[0] for y in (found, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", POOL_MODES)
@pytest.mark.parametrize("fused", [True, False])
def test_a_neighbourhood_of_padding_alone_gives_zero(mode, fused):
    pool = KNNPool(mode)
    pool.fused = fused
    edges = torch.tensor([[0, 1], [0, 0]])
    y = pool((-torch.ones(2, 3), None), edges, torch.zeros(2), size=(2, 2))
    assert torch.equal(y[1], torch.zeros(3))
    assert (y[0] < 0).all()


@pytest.mark.parametrize("mode", POOL_MODES)
def test_raw_edges_in_any_order_agree(graph, x, mode):
    pool, order = KNNPool(mode), torch.randperm(graph.num_edges)
    raw = pool(
        (x, None), graph.edge_index[:, order], graph.relative_distance[order], size=graph.size()
    )
    torch.testing.assert_close(raw, pool(x, graph))


def test_disjoint_batch_agrees_with_static_batch(graph, x):
    pool, x = KNNPool("max"), x[0]
    offset = torch.tensor(graph.size())[:, None, None]
    edges = (graph.edge_index[:, None] + offset * torch.arange(3)[:, None]).flatten(1)
    size = (3 * graph.num_src, 3 * graph.num_dst)
    disjoint = pool((x.flatten(0, 1), None), edges, size=size)
    assert torch.equal(disjoint.view(3, graph.num_dst, 4), pool(x, graph))


def test_a_wide_gaussian_is_the_mean_and_a_narrow_one_the_nearest(graph, x):
    torch.testing.assert_close(KNNPool("gaussian", sigma=1e4)(x, graph), KNNPool("mean")(x, graph))
    own = fg.knn_graph(graph.src, graph.src, k=9)  # the nearest neighbour is the node itself
    torch.testing.assert_close(KNNPool("gaussian", sigma=1e-2)(x, own), x)


@pytest.mark.parametrize("sigma", [0.05, 0.01, 1e-3, 1e-30, 5e-324])
@pytest.mark.parametrize("fused", [True, False])
def test_no_gaussian_is_so_narrow_that_its_weights_are_lost(sigma, fused):
    """Two neighbours far away, then two at one distance, then one alone."""
    edges = torch.tensor([[0, 1, 2, 3, 0], [0, 0, 1, 1, 2]])
    distance = torch.tensor([0.9, 0.901, 1.0, 1.0, 0.5], requires_grad=True)
    x = torch.eye(4)
    pool = KNNPool("gaussian", sigma)
    pool.fused = fused
    y = pool((x, None), edges, distance, size=(4, 3))
    second = math.exp(-(0.901**2 - 0.9**2) / 2 / sigma / sigma) if sigma > 1e-9 else 0
    first = torch.tensor([1, second, 0, 0]) / (1 + second)
    wanted = torch.stack((first, torch.tensor([0, 0, 0.5, 0.5]), x[0]))
    torch.testing.assert_close(y, wanted, rtol=1e-3, atol=1e-6)
    y.square().sum().backward()
    assert distance.grad.isfinite().all()


@pytest.mark.parametrize("fused", [True, False])
def test_features_without_such_a_reduction_are_refused_in_both_paths(graph, fused):
    x = torch.ones(2, graph.num_src, 3)
    for mode, wrong in (("max", x.cfloat()), ("mean", x.long()), ("gaussian", x.long())):
        pool = KNNPool(mode)
        pool.fused = fused
        with pytest.raises(TypeError, match=f"x must be .* for a {mode}, got"):
            pool(wrong, graph)


def test_bad_arguments_are_refused(graph, x):
    with pytest.raises(TypeError, match=r"mode must be one of .* got None"):
        KNNPool(None)
    with pytest.raises(TypeError, match="sigma must be a finite number above 0, got '1'"):
        KNNPool("gaussian", sigma="1")
    with pytest.raises(ValueError, match="relative_distance must be None with a KNNGraph"):
        KNNPool("gaussian")(x, graph, graph.relative_distance)
    with pytest.raises(ValueError, match=r"mode must be one of .* got 'maxx' .*did you mean 'max'"):
        KNNPool("maxx")
    with pytest.raises(ValueError, match="sigma must be finite and above 0, got 0"):
        KNNPool("gaussian", sigma=0)
    with pytest.raises(ValueError, match="sources"):
        KNNPool()(x[..., 1:, :], graph)
    with pytest.raises(ValueError, match="relative_distance must give the distance of"):
        KNNPool("gaussian")((x, None), graph.edge_index, size=graph.size())


def test_it_prints_itself_in_one_line():
    assert repr(KNNPool("gaussian", 0.3)) == "KNNPool('gaussian', sigma=0.3)"
    assert repr(KNNPool()) == "KNNPool('max')"


def first_of_equals(x, edges, size):
    """The gradient of the sum of maxima, by a loop: 1 for the first of the greatest neighbours."""
    grad = torch.zeros_like(x)
    for node in range(size[1]):
        near = edges[0, edges[1] == node].tolist()
        for b, c in itertools.product(range(x.shape[0]), range(x.shape[2])) if near else ():
            values = x[b, near, c].tolist()
            nans = [i for i, value in enumerate(values) if math.isnan(value)]
            grad[b, near[nans[0] if nans else values.index(max(values))], c] += 1
    return grad


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("values", [[0.0], [0.0, 1.0], [-math.inf, 1, math.nan], [-math.inf]])
def test_of_equal_neighbours_the_first_gets_the_gradient_of_a_maximum(graph, values, fused):
    choice = torch.randint(len(values), (2, graph.num_src, 40))
    x = torch.tensor(values, dtype=torch.float64)[choice].requires_grad_()
    pool = KNNPool()
    pool.fused = fused
    order = torch.randperm(graph.num_edges)  # raw edges are taken in the order that they come in
    for edges in (graph.edge_index, graph.edge_index[:, order]):
        y = pool((x, None), edges, size=graph.size())
        wanted = first_of_equals(x.detach(), edges, graph.size())
        assert torch.autograd.grad(y.sum(), x)[0].equal(wanted)
    out = pool(x, graph)
    wanted = first_of_equals(x.detach(), graph.edge_index, graph.size())
    assert torch.autograd.grad(out.sum(), x)[0].equal(wanted)
    per_sample = torch.func.vmap(torch.func.grad(lambda x: pool(x, graph).sum()))(x.detach())
    assert per_sample.equal(wanted)


@pytest.mark.parametrize("fused", [True, False])
def test_a_maximum_with_ties_is_right_in_forward_mode_and_twice_backward(graph, fused):
    x = torch.randint(3, (2, graph.num_src, 3)).double()
    tangent = torch.randn_like(x)
    pool = KNNPool()
    pool.fused = fused
    _, along = torch.func.jvp(lambda x: pool(x, graph), (x,), (tangent,))
    grad = torch.randn_like(along)
    _, pull = torch.func.vjp(lambda x: pool(x, graph), x)
    torch.testing.assert_close((along * grad).sum(), (tangent * pull(grad)[0]).sum())
    x.requires_grad_()
    grad.requires_grad_()
    (first,) = torch.autograd.grad(pool(x, graph), x, grad, create_graph=True)
    (second,) = torch.autograd.grad(first, grad, tangent)
    torch.testing.assert_close(second, along)
