"""Pooling as an operator: ragged rows, gradients, what torch asks of it."""

import importlib
from itertools import pairwise

import pytest
import torch

from fovigraph import ops

fast = importlib.import_module("fovigraph.ops.knn_pool")

# Destination 1 has no neighbour, destination 3 has one, the others two and three.
SRC = torch.tensor([0, 2, 1, 3, 0, 4])
PTR = torch.tensor([0, 2, 2, 5, 6])
WEIGHT = torch.tensor([0.5, 0.5, 0.2, 0.3, 0.5, 1.0])


def loop(x, reduce, weight):
    rows = []
    for begin, end in pairwise(PTR.tolist()):
        near = x[:, SRC[begin:end]]
        if begin == end:
            rows.append(0 * x[:, 0])
        elif reduce == "max":
            rows.append(near.amax(1))
        else:
            factor = 1 if weight is None else weight[begin:end, None].to(x.dtype)
            rows.append(getattr(factor * near, reduce)(1))
    return torch.stack(rows, dim=1)


CASES = [("max", None), ("mean", None), ("sum", None), ("sum", WEIGHT)]


@pytest.mark.parametrize(("reduce", "weight"), CASES)
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_ragged_neighbourhoods_are_reduced(reduce, weight, batch):
    x = torch.randn(batch, 5, 4, dtype=torch.float64, requires_grad=True)
    found, wanted = ops.knn_pool(x, SRC, PTR, reduce, weight), loop(x, reduce, weight)
    torch.testing.assert_close(found, wanted)
    grad = torch.randn_like(wanted)
    ours, theirs = (torch.autograd.grad(y, x, grad)[0] for y in (found, wanted))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("reduce", "weight"), CASES)
def test_gradcheck_and_torchs_own_checks(reduce, weight):
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ops.knn_pool(x, SRC, PTR, reduce, weight), (x,))
    torch.library.opcheck(torch.ops.fovigraph.knn_pool.default, (x, SRC, PTR, reduce, weight))


def test_a_tie_gives_its_gradient_to_one_neighbour():
    x = torch.ones(1, 5, 1, requires_grad=True)
    ops.knn_pool(x, SRC, PTR, "max").sum().backward()
    assert x.grad.flatten().tolist() == [1, 1, 0, 0, 1]


def test_weights_of_edges_have_gradients():
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    weight = WEIGHT.double().requires_grad_()
    torch.testing.assert_close(
        ops.knn_pool(x, SRC, PTR, "sum", weight), ops.knn_pool(x, SRC, PTR, "sum", weight.detach())
    )
    run = lambda x, weight: ops.knn_pool(x, SRC, PTR, "sum", weight)  # noqa: E731
    assert torch.autograd.gradcheck(run, (x, weight))
    assert torch.autograd.gradgradcheck(run, (x, weight))


X = torch.rand(1, 5, 2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"reduce": "min"}, ValueError, "reduce must be one of 'max', 'mean', 'sum', got 'min'"),
        ({"reduce": "Max"}, ValueError, "reduce must be one of .*did you mean 'max'"),
        ({"reduce": None}, TypeError, "reduce must be one of .* got None"),
        (
            {"reduce": "mean", "edge_weight": WEIGHT},
            ValueError,
            "edge_weight must be None for redu",
        ),
        (
            {"reduce": "max", "edge_weight": WEIGHT},
            ValueError,
            "edge_weight must be None for reduc",
        ),
        ({"edge_weight": WEIGHT[1:]}, ValueError, r"edge_weight must have shape \[6\], got \[5\]"),
        ({"edge_weight": WEIGHT.long()}, TypeError, "edge_weight must be floating point"),
        ({"x": [1.0]}, TypeError, r"x must be a torch.Tensor, got \[1.0\]"),
        ({"x": X[0, 0]}, ValueError, r"x must be \[..., nodes, channels\], got shape \[2\]"),
        ({"x": X > 0}, TypeError, "x must be numbers for a sum, got torch.bool"),
        ({"x": X.long(), "reduce": "mean"}, TypeError, "x must be floating point for a mean"),
        ({"x": X.long(), "edge_weight": WEIGHT}, TypeError, "x must be floating point for a sum"),
        ({"x": X.cfloat(), "reduce": "max"}, TypeError, "x must be real numbers for a max"),
        ({"x": X[:, :4]}, ValueError, "src must be at least 0 and below nodes=4, got 0 to 4"),
        ({"src": SRC - 1}, ValueError, "src must be at least 0 and below nodes=5, got -1 to 3"),
        ({"src": SRC.int()}, TypeError, "src must be torch.int64, got torch.int32"),
        ({"src": SRC.tolist()}, TypeError, "src must be an int64 torch.Tensor, got"),
        ({"src": SRC[None]}, ValueError, r"src must have shape \[E\], got \[1, 6\]"),
        ({"ptr": PTR[:-1]}, ValueError, r"ptr must rise from 0 to 6.* got \(0, 5\) at its ends"),
        ({"ptr": PTR.flip(0)}, ValueError, "ptr must rise from 0 to 6"),
        ({"ptr": PTR[[0, 2, 1, 3, 1, 4]]}, ValueError, "ptr must rise from 0 to 6.* never fall"),
        ({"ptr": PTR[:0]}, ValueError, "ptr must rise from 0 to 6.* got None at its ends"),
        ({"ptr": PTR.float()}, TypeError, "ptr must be torch.int64, got torch.float32"),
        ({"by_src": (SRC, SRC)}, TypeError, "by_src must be a Triples, got"),
        ({"most": 2.5}, TypeError, "most must be a whole number of at least 0, got 2.5"),
        ({"most": -1}, ValueError, "most must be at least 0, got -1"),
        ({"most": 2}, ValueError, "most must be at least 3, as many edges as a row has, got 2"),
    ],
)
def test_wrong_arguments_are_refused_by_name(change, error, message):
    with pytest.raises(error, match=message):
        ops.knn_pool(**{"x": X, "src": SRC, "ptr": PTR, "reduce": "sum"} | change)


def test_whole_and_complex_numbers_are_pooled_where_that_is_defined():
    whole = torch.randint(9, (1, 5, 2))
    for reduce in ("max", "sum"):
        found = ops.knn_pool(whole, SRC, PTR, reduce)
        assert found.equal(ops.knn_pool(whole.double(), SRC, PTR, reduce).long())
    both = torch.complex(X, X)
    for options in (("sum", WEIGHT), ("mean",)):
        real = ops.knn_pool(X, SRC, PTR, *options)
        torch.testing.assert_close(ops.knn_pool(both, SRC, PTR, *options).imag, real)


def test_batches_of_edges_are_refused_with_the_way_out():
    edges = torch.stack((SRC, SRC))
    with pytest.raises(ValueError, match=r"src and ptr must be the same for all .*`fused = False`"):
        torch.vmap(lambda src: ops.knn_pool(X, src, PTR, "sum"))(edges)
