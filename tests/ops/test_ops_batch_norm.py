"""Compiled batch normalisation: torch's, but more exact."""

import copy

import pytest
import torch
from torch import nn

from fovigraph.nn import BatchNorm
from fovigraph.ops import batch_norm, cpu
from fovigraph.ops.cpu import build

pytestmark = pytest.mark.skipif(build.library() is None, reason="no C++ compiler with OpenMP")


def norms(channels, **options):
    """A norm of ours, and torch's with the same parameters and statistics, in double."""
    ours, torchs = BatchNorm(channels, **options).double(), nn.BatchNorm1d(channels, **options)
    torchs = torchs.double()
    for norm in (ours, torchs):
        torch.manual_seed(1)
        for parameter in norm.parameters():
            nn.init.normal_(parameter)
    return ours, torchs


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"affine": False},
        {"momentum": None},
        {"track_running_stats": False},
        {"eps": 0.1, "momentum": 0.5},
    ],
)
@pytest.mark.parametrize(("rows", "channels"), [(2, 1), (700, 19), (1500, 64)])
def test_outputs_gradients_and_statistics_are_torchs(options, rows, channels, monkeypatch):
    called = []
    apply = batch_norm.batch_norm
    monkeypatch.setattr(batch_norm, "batch_norm", lambda *x: (called.append(1), apply(*x))[1])
    ours, torchs = norms(channels, **options)
    for training in (True, True, False):
        ours.train(training), torchs.train(training)
        x = torch.randn(rows, channels, dtype=torch.float64, requires_grad=True)
        grad = torch.randn(rows, channels, dtype=torch.float64)
        found, expected = ours(x), torchs(x)
        torch.testing.assert_close(found, expected)
        for a, b in zip(
            torch.autograd.grad(found, [x, *ours.parameters()], grad),
            torch.autograd.grad(expected, [x, *torchs.parameters()], grad),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
        for a, b in zip(ours.buffers(), torchs.buffers(), strict=True):
            torch.testing.assert_close(a, b)
    assert len(called) == (3 if options.get("track_running_stats") is False else 2)


def test_first_and_second_derivatives():
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)

    def first(*tensors):
        return batch_norm.batch_norm(*tensors, 1e-5)[0]

    assert torch.autograd.gradcheck(first, (x, weight, bias))
    assert torch.autograd.gradgradcheck(first, (x, weight, bias))


def test_single_precision_is_exact_far_from_zero():
    x = torch.randn(100_000, 8) + 100
    norm = BatchNorm(8, momentum=1.0)
    norm(x)
    exact = x.double()
    torch.testing.assert_close(norm.running_mean, exact.mean(0).float(), rtol=1e-7, atol=0)
    torch.testing.assert_close(norm.running_var, exact.var(0).float(), rtol=1e-6, atol=0)


def test_the_number_of_threads_changes_no_bit():
    x, grad = torch.randn(5000, 24), torch.randn(5000, 24)
    threads, made = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            out, *statistics = cpu.normalise(x, None, None, 1e-5)
            made.append([out, *cpu.normalise_backward(grad, x, None, *statistics, 1e-5)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))


def test_one_row_is_refused_as_torch_does():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        BatchNorm(4)(torch.rand(1, 4))


def test_transforms_and_compilers_see_torchs_operations():
    norm = BatchNorm(4, track_running_stats=False).double()
    x = torch.randn(6, 4, dtype=torch.float64)
    plain = norm(x)
    mapped = torch.func.vmap(norm)(x.expand(2, 6, 4))
    torch.testing.assert_close(mapped, plain.expand(2, 6, 4))
    compiled = torch.compile(copy.deepcopy(norm), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), plain)
