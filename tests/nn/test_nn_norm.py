"""Norms of [*, N, C] against torch's own over [B, C, N]."""

import copy

import pytest
import torch
from torch import distributed, nn
from torch.func import functional_call, grad, replace_all_batch_norm_modules_, vmap
from torch.optim.swa_utils import update_bn

from fovigraph.nn import GRN, NORMS, BatchNorm, GroupNorm, LayerNorm, make_norm

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


def test_global_response_norm_is_its_formula(x):
    norm = GRN(CHANNELS, NODES).double()
    assert norm(x).equal(x)  # with the weights that it starts with
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    response = torch.stack([x[:, :, c].square().sum(1).sqrt() for c in range(CHANNELS)], 1)
    share = response / (sum(response.unbind(1)) / CHANNELS + 1e-6)[:, None]
    expected = norm.weight * (x * share[:, None]) + norm.bias + x
    torch.testing.assert_close(norm(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(norm(x.flatten(0, 1)), expected.flatten(0, 1))
    torch.testing.assert_close(norm(x.view(2, 2, NODES, CHANNELS)).flatten(0, 1), expected)
    assert torch.autograd.gradcheck(norm, x[:1].requires_grad_())


def test_global_response_norm_of_large_halves_and_of_zeros_is_finite(x):
    norm = GRN(CHANNELS)
    nn.init.ones_(norm.weight)
    halves = (x * 1000).half()
    torch.testing.assert_close(norm(halves), norm(halves.float()).half())
    zeros = torch.zeros(2, NODES, CHANNELS, requires_grad=True)
    norm(zeros).sum().backward()
    assert zeros.grad.isfinite().all()
    with pytest.raises(ValueError, match="12 channels"):
        norm(x[..., 1:].float())
    with pytest.raises(ValueError, match="must have 10 nodes"):
        GRN(CHANNELS, NODES)(x[:, 1:].float())


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"norm must be one of .*'batch'.* got 'bach'"):
        make_norm("bach", 8, 10)
    with pytest.raises(ValueError, match="over must be one of"):
        LayerNorm("pixels", 8)
    with pytest.raises(TypeError, match="num_nodes must be a whole number"):
        LayerNorm("nodes", 8)
    with pytest.raises(ValueError, match="num_groups must divide channels=8, got 3"):
        GroupNorm(3, 8)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BatchNorm(-1), ValueError, "num_features must be at least 1, got -1"),
        (lambda: BatchNorm(10**30), ValueError, "num_features must be at most"),
        (lambda: BatchNorm("5"), TypeError, "num_features must be a whole number"),
        (lambda: BatchNorm(5, eps=float("nan")), ValueError, "eps must be from 0 to 1, got nan"),
        (lambda: BatchNorm(5, momentum=2), ValueError, "momentum must be from 0 to 1, got 2"),
        (lambda: BatchNorm(5, affine=1), TypeError, "affine must be True or False, got 1"),
        (lambda: BatchNorm(5, track_running_stats="no"), TypeError, "track_running_stats must be"),
        (lambda: LayerNorm("channels", 4, eps=-1), ValueError, "eps must be from 0 to 1, got -1"),
        (lambda: LayerNorm(3, 4), TypeError, "over must be one of"),
        (lambda: LayerNorm("both", 2**20, 2**20), ValueError, "num_nodes × channels must be at"),
        (lambda: GroupNorm(2, 8, num_nodes=0), ValueError, "num_nodes must be at least 1, got 0"),
        (lambda: make_norm(None, 8, 10), TypeError, "norm must be one of .* got None"),
        (lambda: make_norm("batch", 8.0, 10), TypeError, "channels must be a whole number"),
        (lambda: make_norm("batch", 8, 0), ValueError, "num_nodes must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("name", sorted(NORMS.keys() - {"none"}))
def test_features_of_the_wrong_kind_are_refused_by_name(name, x):
    norm = make_norm(name, CHANNELS, NODES)
    for wrong in ([1], None, x.numpy(), x.long(), x.to(torch.complex64), x > 0):
        with pytest.raises(TypeError, match=r"x must be .*floating.point"):
            norm(wrong)
    with pytest.raises(TypeError, match=r"x must be torch.float32 like .* got torch.float64"):
        norm(x)
    with pytest.raises(ValueError, match="x is on meta and the norm's weight on cpu"):
        norm(x.float().to("meta"))


@pytest.mark.parametrize("name", NORMS)
def test_half_precision_goes_in_and_out_beside_weights_in_single(name, x):
    norm, low = make_norm(name, CHANNELS, NODES), x.bfloat16()
    exact = norm(low.float())
    for out in (norm(low), _under_autocast(norm, low)):
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.float(), exact, rtol=0.02, atol=0.02)


def _under_autocast(norm, x):
    with torch.autocast("cpu", torch.bfloat16):
        return norm(x)


@pytest.fixture
def trained(x):
    """A network with a batch norm that has seen data."""
    net = nn.Sequential(BatchNorm(CHANNELS), nn.Identity()).double()
    net(x)
    return net


def converted(net, group=None):
    return nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(net), group)


def test_torchs_converter_leaves_values_names_and_gradients_alone(trained, x):
    net = converted(trained)
    assert list(net.state_dict()) == list(trained.state_dict())
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias"]
    assert torch.equal(net(x), trained(x))
    assert torch.equal(net.eval()(x), trained.eval()(x))
    square = torch.randn(2, CHANNELS, CHANNELS, dtype=torch.float64)  # as many nodes as channels
    assert torch.equal(net(square), trained(square))
    assert not trained[0].synchronized


def test_torchs_converter_makes_it_synchronise_within_the_group(trained, x, monkeypatch):
    groups = []
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "all_reduce", lambda total, group: groups.append(group))
    expected = trained(x)
    assert not groups
    net = converted(trained, group := object())
    net[0].reset_running_stats()
    torch.testing.assert_close(net(x), expected)
    assert groups == [group, group]
    assert converted(BatchNorm(3)).synchronized


def test_the_statistics_of_averaged_weights_are_updated_by_torchs_tool(trained, x):
    update_bn([x, x + 1], trained)
    norm = trained[0]
    assert norm.momentum == 0.1 and norm.num_batches_tracked == 2
    torch.testing.assert_close(norm.running_mean, x.flatten(0, 1).mean(0) + 0.5)


def test_without_running_statistics_every_sample_has_its_gradient(trained, x):
    net = replace_all_batch_norm_modules_(copy.deepcopy(trained))
    assert net[0].running_mean is None and not net[0].track_running_stats
    weights = {name: weight.detach() for name, weight in net.named_parameters()}

    def loss(weights, x):
        return functional_call(net, weights, (x,)).pow(3).sum()

    every = vmap(grad(loss), (None, 0))(weights, x)
    for index, one in enumerate(x):
        for name, gradient in grad(loss)(weights, one).items():
            torch.testing.assert_close(every[name][index], gradient)


def test_networks_load_with_and_without_the_version_of_their_state(trained):
    for state in (trained.state_dict(), dict(trained.state_dict())):
        fresh = nn.Sequential(BatchNorm(CHANNELS), nn.Identity()).double()
        fresh.load_state_dict(state)
        assert torch.equal(fresh[0].running_var, trained[0].running_var)


def test_a_copy_is_on_its_own_and_prints_as_one_line(trained, x):
    copied = copy.deepcopy(trained)
    copied[0].handle.eval()
    copied(x)
    assert trained[0].training and not copied[0].training
    assert copied[0].handle.running_mean is copied[0].running_mean
    assert repr(copied[0]).startswith("BatchNorm(12, eps=1e-05") and "\n" not in repr(copied[0])
