"""Stochastic depth."""

import pytest
import torch

from fovigraph.nn import DropPath


def test_whole_samples_are_zero_or_scaled_so_that_the_mean_stays():
    torch.manual_seed(0)
    out = DropPath(0.25)(torch.ones(4000, 3, 2))
    kept = out.flatten(1).all(1)
    torch.testing.assert_close(out[kept], torch.full_like(out[kept], 4 / 3))
    assert not out[~kept].any()
    assert out.mean().item() == pytest.approx(1, abs=0.05)


def test_in_evaluation_and_without_a_rate_nothing_changes():
    x = torch.rand(2, 3, 4)
    assert DropPath(0.5).eval()(x) is x
    assert DropPath(0)(x) is x
    assert DropPath(0.5)(x[0]).shape == (3, 4)


@pytest.mark.parametrize("rate", [1, 1.5, -0.1])
def test_other_rates_are_refused(rate):
    with pytest.raises(ValueError, match=f"rate must .*got {rate}"):
        DropPath(rate)
