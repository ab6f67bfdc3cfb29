"""Norms of [*, N, C] against torch's own over [B, C, N]."""

import pytest
import torch
from torch import nn

from fovigraph.nn import NORMS, GroupNorm, LayerNorm, make_norm

NODES, CHANNELS = 10, 12


@pytest.fixture
def x():
    return torch.randn(4, NODES, CHANNELS, dtype=torch.float64) * 3 + 1


REFERENCE = {
    "batch": lambda x: nn.BatchNorm1d(CHANNELS).double()(x),
    "channel": lambda x: nn.functional.layer_norm(x.mT, (CHANNELS,)).mT,
    "node": lambda x: nn.functional.layer_norm(x, (NODES,)),
    "layer": lambda x: nn.functional.layer_norm(x, (CHANNELS, NODES)),
    "group": lambda x: nn.functional.group_norm(x, 3),
    "none": lambda x: x,
}


@pytest.mark.parametrize("name", NORMS)
def test_it_is_torchs_norm_with_channels_last(name, x):
    norm = make_norm(name, CHANNELS, NODES).double()
    torch.testing.assert_close(norm(x), REFERENCE[name](x.mT).mT)


@pytest.mark.parametrize("name", NORMS)
def test_disjoint_batch_and_more_batch_dimensions_agree(name, x):
    norm = make_norm(name, CHANNELS, NODES).double()
    static = norm(x)
    torch.testing.assert_close(norm(x.flatten(0, 1)), static.flatten(0, 1))
    torch.testing.assert_close(norm(x.view(2, 2, NODES, CHANNELS)).flatten(0, 1), static)


@pytest.mark.parametrize("name", NORMS)
def test_wrong_shapes_are_refused(name, x):
    norm = make_norm(name, CHANNELS, NODES).double()
    if name != "none":
        with pytest.raises(ValueError, match="12 channels"):
            norm(x[..., 1:])
    if name in ("node", "layer", "group"):
        with pytest.raises(ValueError, match="must have 10 nodes"):
            norm(x[:, 1:])


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"norm must be one of .*'batch'.* got 'bach'"):
        make_norm("bach", 8, 10)
    with pytest.raises(ValueError, match="over must be one of"):
        LayerNorm("pixels", 8)
    with pytest.raises(TypeError, match="num_nodes must be a whole number"):
        LayerNorm("nodes", 8)
    with pytest.raises(ValueError, match="num_groups must divide channels=8, got 3"):
        GroupNorm(3, 8)
