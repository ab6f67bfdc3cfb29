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
    torch.library.opcheck(fast._knn_pool, (x, SRC, PTR, reduce, weight))


def test_a_tie_gives_its_gradient_to_one_neighbour():
    x = torch.ones(1, 5, 1, requires_grad=True)
    ops.knn_pool(x, SRC, PTR, "max").sum().backward()
    assert x.grad.flatten().tolist() == [1, 1, 0, 0, 1]
