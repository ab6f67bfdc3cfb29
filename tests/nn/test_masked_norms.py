"""Norms on masked levels: statistics are those of the nodes that take part."""

import copy

import pytest
import torch

import fovigraph as fg
from fovigraph.nn import GRN, NORMS, BatchNorm, make_norm

WARPED = {"layout": "warped_cartesian"}
N, C = 36, 8


@pytest.fixture(scope="module")
def mask():
    mask = fg.SensorArray(6, **WARPED).mask
    assert 0 < int(mask.sum()) < N
    return mask


@pytest.fixture
def x():
    return torch.randn(3, N, C, generator=torch.Generator().manual_seed(0)) * 2 + 1


def varied(norm):
    """The norm with weights and a bias that are neither 1 nor 0."""
    generator = torch.Generator().manual_seed(1)
    for parameter in norm.parameters():
        parameter.data = torch.rand(parameter.shape, generator=generator) + 0.5
    return norm


@pytest.mark.parametrize("name", sorted(NORMS))
def test_valid_nodes_are_normalised_as_if_there_were_no_others(name, mask, x):
    masked = varied(make_norm(name, C, N, mask))
    alone = varied(make_norm(name, C, int(mask.sum())))
    if name in ("node", "layer"):  # whose weights are those of nodes
        alone.weight.data, alone.bias.data = masked.weight[mask], masked.bias[mask]
    expected = alone(x[:, mask])
    torch.testing.assert_close(masked(x)[:, mask], expected)
    torch.testing.assert_close(masked(x.flatten(0, 1)).view_as(x)[:, mask], expected)
    spoilt = x.masked_fill(~mask[:, None], 1e4)
    torch.testing.assert_close(masked(spoilt)[:, mask], expected)
    assert masked.state_dict().keys() == make_norm(name, C, N).state_dict().keys()
    twin = copy.deepcopy(masked).to(torch.float64)
    torch.testing.assert_close(twin(x.double())[:, mask].float(), expected, rtol=1e-4, atol=1e-5)


def test_running_statistics_and_evaluation(mask, x):
    masked, alone = BatchNorm(C, mask=mask), BatchNorm(C)
    for _ in range(3):
        masked(x)
        alone(x[:, mask])
    for name, buffer in alone.state_dict().items():
        torch.testing.assert_close(masked.state_dict()[name], buffer)
    torch.testing.assert_close(masked.eval()(x), alone.eval()(x))
    whole = BatchNorm(C, track_running_stats=False, mask=mask).eval()
    torch.testing.assert_close(whole(x)[:, mask], BatchNorm(C)(x[:, mask]))


def test_global_response(mask, x):
    masked, alone = varied(GRN(C, N, mask=mask)), varied(GRN(C))
    torch.testing.assert_close(masked(x)[:, mask], alone(x[:, mask]))


def test_gradients(mask):
    norm = make_norm("batch", 2, N, mask).double()
    x = torch.randn(2, N, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: norm(x)[:, mask], x)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (torch.zeros(4, dtype=torch.bool), ValueError, "mask must leave a node, got none of 4"),
        (torch.ones(4), TypeError, "mask must be a vector of booleans"),
        (torch.ones(3, dtype=torch.bool), ValueError, "mask must have 4 entries"),
    ],
)
def test_what_is_no_mask_is_refused(mask, error, message):
    with pytest.raises(error, match=message):
        make_norm("batch", 2, 4, mask)


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ("fovi_tiny", {"backbone.norm": "batch"}),
        ("fovi_tiny", {"backbone.norm": "group"}),
        ("fovi_resnet9", {"backbone.channels": [4, 4, 8, 8], "retina.side": 32}),
        (
            "fovi_convnextv2_atto",
            {"backbone.channels": [4, 4, 8, 8], "backbone.blocks": [1] * 4, "retina.side": 32},
        ),
    ],
)
def test_networks_train_and_are_optimised_on_masked_levels(config, changes):
    torch.manual_seed(0)
    changes = {"retina.side": 16, "retina.layout": "warped_cartesian", **changes}
    net = fg.create_model(config, **changes)
    images = torch.rand(2, 3, 32, 32)
    net.train()(images).logits.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    for module in net.modules():  # as if trained
        if isinstance(module, BatchNorm) and module.weight is not None:
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-1, 1)
    net.eval()
    views = net.views(images, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            fg.optimize(net).see(images, views).logits, net.see(images, views).logits
        )
