"""Networks optimised for inference: the same results from less, and CUDA graphs without a GPU."""

import copy
import logging
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import nn

import fovigraph as fg
from fovigraph.models import OneView, Optimized, inference
from fovigraph.nn import BatchNorm, KNNConv

LOOK = [[0.5, 0.5], [0.3, 0.7]]


def fovinet(*overrides):
    """A tiny network whose batch norms are not what they start as."""
    net = fg.FoviNet(fg.load_config("fovi_tiny", overrides=list(overrides))).eval()
    return with_statistics(net)


def with_statistics(net):
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return net


def norms_of(net):
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm1d)]


def alexnet(retina, **options):
    steps = fg.KNNAlexNet.steps([2, 1], [9, 9], pool_after=[0], out_side=1)
    pyramid = fg.GraphPyramid(retina, steps)
    return with_statistics(fg.KNNAlexNet(pyramid, [6, 12], **options).eval())


@pytest.mark.parametrize("conv", ["full", "depthwise", "depthwise_separable"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_batch_norms_fold_into_every_form_of_convolution(retina, conv, dtype, tolerance):
    net = alexnet(retina, conv=conv, num_classes=5).to(dtype)
    x = torch.randn(3, len(retina), 3, dtype=dtype)
    optimised = fg.optimize(net)
    assert not norms_of(optimised)
    found, wanted = optimised(x), net(x)
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_a_whole_network_gives_the_same_answers(dtype, tolerance):
    net = fovinet("projector.channels=[32,16]").to(dtype)
    optimised, images = fg.optimize(net), torch.rand(2, 3, 48, 64)
    assert not norms_of(optimised)
    for found, wanted in zip(optimised(images, LOOK), net(images, LOOK), strict=True):
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


def test_the_policy_draws_as_before():
    net = fovinet("fixation.count=3")
    images, seeds = torch.rand(2, 3, 48, 64), [torch.Generator().manual_seed(7) for _ in range(2)]
    found, wanted = fg.optimize(net)(images, generator=seeds[0]), net(images, generator=seeds[1])
    assert torch.equal(found.fixations, wanted.fixations)
    torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-5, atol=1e-5)


def test_the_given_network_is_left_untouched():
    net = fovinet().train()
    before = copy.deepcopy(net.state_dict())
    optimised = fg.optimize(net)
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    ours = {parameter.data_ptr() for parameter in net.parameters()}
    assert not ours & {parameter.data_ptr() for parameter in optimised.parameters()}
    assert not any(module.training for module in optimised.modules())
    assert not any(parameter.requires_grad for parameter in optimised.parameters())


def test_relus_are_fused_where_the_convolution_can_take_them(retina):
    fused = fg.optimize(alexnet(retina))
    blocks = [module for module in fused.modules() if isinstance(module, fg.KNNAlexNetBlock)]
    assert all(block.conv.relu and type(block.activation) is nn.Identity for block in blocks)
    assert "kernel_size=6, relu=True)" in repr(fused)
    separable = fg.optimize(alexnet(retina, conv="depthwise_separable"))
    assert sum(isinstance(module, nn.ReLU) for module in separable.modules()) == 2


@pytest.mark.parametrize("norm", ["channel", "node", "layer", "group", "none"])
def test_other_norms_stay(retina, norm):
    net = alexnet(retina, norm=norm)
    optimised, x = fg.optimize(net), torch.randn(2, len(retina), 3)
    kept = [
        [type(block.norm) for block in some.modules() if isinstance(block, fg.KNNAlexNetBlock)]
        for some in (optimised, net)
    ]
    assert kept[0] == kept[1]
    torch.testing.assert_close(optimised(x), net(x), rtol=1e-5, atol=1e-5)


class Odd(nn.Module):
    """What cannot be folded: a layer in two places, statistics of the batch, torch's own norm."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.twice = nn.Sequential(self.linear, BatchNorm(4))
        self.batch = nn.Sequential(nn.Linear(4, 4), BatchNorm(4))
        self.batch[1].running_mean = self.batch[1].running_var = None
        self.others = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(3))
        self.first = nn.Sequential(BatchNorm(4), nn.Linear(4, 4), nn.ReLU(), BatchNorm(4))

    def forward(self, x):
        for part in (self.linear, self.twice, self.batch, self.others, self.first):
            x = part(x)
        return x


def test_what_cannot_be_folded_stays_as_it_is():
    net = with_statistics_but(Odd())
    optimised, x = fg.optimize(net), torch.randn(2, 3, 4)
    assert len(norms_of(optimised)) == len(norms_of(net)) == 5
    torch.testing.assert_close(optimised(x), net(x))


def with_statistics_but(net):
    for norm in norms_of(net):
        if norm.running_mean is not None:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return net.eval()


def test_norms_without_weights_and_layers_behind_dropout_fold_too():
    net = nn.Sequential(nn.Linear(4, 6), nn.Dropout(), BatchNorm(6, affine=False), nn.ReLU())
    with_statistics(net).eval()
    optimised, x = fg.optimize(net), torch.randn(2, 3, 4)
    assert not norms_of(optimised)
    torch.testing.assert_close(optimised(x), net(x), rtol=1e-5, atol=1e-6)


def test_layers_that_somebody_watches_or_parametrizes_stay(retina):
    net, x = alexnet(retina), torch.randn(2, len(retina), 3)
    seen = []
    net.layers[0].norm.register_forward_hook(lambda *_: seen.append("norm"))
    nn.utils.parametrizations.weight_norm(net.layers[1].conv)
    optimised = fg.optimize(net)
    assert len(norms_of(optimised)) == 2
    torch.testing.assert_close(optimised(x), net(x), rtol=1e-5, atol=1e-5)
    assert seen == ["norm", "norm"]


class Shared(fg.models.Block):
    """A block whose ReLU, and whose norm, serve twice."""

    fusible = (("conv", "norm", "activation"),)

    def __init__(self, plan, share_norm):
        super().__init__()
        self.runs_on["conv"] = step = plan.conv(k=9)
        self.conv = KNNConv(3, 3, step.kernel_size, bias=False)
        self.norm, self.activation, self.share_norm = BatchNorm(3), nn.ReLU(), share_norm

    def forward(self, x, pyramid):
        y = self.activation(self.norm(self.run("conv", x, pyramid)))
        return self.norm(y) if self.share_norm else self.activation(y - 1)


@pytest.mark.parametrize("share_norm", [False, True])
def test_what_is_called_twice_stays(retina, share_norm):
    plan, net = fg.Plan(retina), fg.models.Backbone()
    block = Shared(plan, share_norm)
    net.assemble([block], plan, in_channels=3, out_channels=3)
    with_statistics(net).eval()
    optimised, x = fg.optimize(net), torch.randn(2, len(retina), 3)
    torch.testing.assert_close(optimised(x), net(x), rtol=1e-5, atol=1e-5)
    assert len(norms_of(optimised)) == share_norm


def test_unfused_layers_and_raw_edges_do_the_relu_too(graph):
    for layer in (
        KNNConv(3, 5, 4),
        KNNConv(3, 5, 4, interpolation="bilinear"),
        fg.nn.KNNDepthwiseConv(3, 4, 2),
    ):
        x = torch.randn(2, graph.num_src, 3)
        nn.init.normal_(layer.bias)
        wanted = layer(x, graph).relu()
        layer.relu = True
        torch.testing.assert_close(layer(x, graph), wanted)
        layer.fused = False
        torch.testing.assert_close(layer(x, graph), wanted)


def test_attributes_are_the_networks_own():
    net = fovinet()
    optimised = fg.optimize(net)
    assert optimised.config == net.config
    assert [len(level) for level in optimised.pyramid.levels] == [
        len(level) for level in net.pyramid.levels
    ]
    samples = net.retina(torch.rand(1, 3, 48, 64), [[0.5, 0.5]])[0]
    torch.testing.assert_close(
        OneView(optimised)(samples), OneView(net)(samples), rtol=1e-5, atol=1e-5
    )
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = optimised.no_such_thing


def test_it_can_be_copied_moved_and_optimised_again():
    optimised = fg.optimize(fovinet())
    images = torch.rand(1, 3, 48, 64)
    wanted = optimised(images, LOOK).logits
    for other in (copy.deepcopy(optimised), fg.optimize(optimised)):
        assert isinstance(other, Optimized)
        assert not isinstance(other.module, Optimized)
        assert torch.equal(other(images, LOOK).logits, wanted)
    half = copy.deepcopy(optimised).to(torch.bfloat16)
    torch.testing.assert_close(half(images, LOOK).logits.float(), wanted, rtol=0.1, atol=0.1)
    fresh = fg.optimize(fovinet())
    fresh.load_state_dict(optimised.state_dict())
    assert torch.equal(fresh(images, LOOK).logits, wanted)


def test_an_optimised_part_of_a_network_is_wrapped_once(retina):
    inner = fg.optimize(alexnet(retina))
    whole, x = fg.optimize(nn.Sequential(inner, nn.Flatten())), torch.randn(2, len(retina), 3)
    assert sum(isinstance(module, Optimized) for module in whole.modules()) == 2
    assert torch.equal(whole(x), inner(x).flatten(1))


def test_gradients_of_the_input_are_those_of_the_network(retina):
    net = alexnet(retina).double()
    x = torch.randn(2, len(retina), 3, dtype=torch.float64, requires_grad=True)
    (found,), (wanted,) = (
        torch.autograd.grad(some(x).square().sum(), x) for some in (fg.optimize(net), net)
    )
    torch.testing.assert_close(found, wanted)


def test_it_compiles_in_one_piece_and_exports(retina):
    torch.compiler.reset()
    optimised, x = fg.optimize(alexnet(retina)), torch.randn(2, len(retina), 3)
    compiled = torch.compile(optimised, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), optimised(x))
    exported = torch.export.export(optimised, (x,)).module()
    torch.testing.assert_close(exported(x), optimised(x))


def test_it_neither_trains_nor_saves(tmp_path):
    optimised = fg.optimize(fovinet())
    assert optimised.eval() is optimised
    with pytest.raises(ValueError, match="for inference; train the network that it was made from"):
        optimised.train()
    with pytest.raises(ValueError, match="save the network that it was made from"):
        optimised.save_pretrained(tmp_path)
    with pytest.raises(TypeError, match=r"net must be a torch\.nn\.Module, got str"):
        fg.optimize("fovi_tiny")


# ---- CUDA graphs, their parts in torch replaced


class Stream:
    def wait_stream(self, other):
        pass


class Graph:
    """Runs again what it recorded."""

    replayed = 0

    def replay(self):
        Graph.replayed += 1
        self.recording._out.copy_(self.recording.module(self.recording._x))

    def pool(self):
        return "pool"


@pytest.fixture
def recordings(monkeypatch):
    """Let tensors on the CPU be recorded as if they were on a GPU; give the pools used."""
    pools = []

    @contextmanager
    def graph(recorded, pool, capture_error_mode):
        pools.append(pool)
        yield

    class Recording(inference.Recording):
        def __init__(self, module, x, pool):
            super().__init__(module, x, pool)
            self.module, self._graph.recording = module, self

    monkeypatch.setattr(inference, "Recording", Recording)
    monkeypatch.setattr(inference, "_has_kernels", lambda x: True)
    monkeypatch.setattr(inference, "MOST", 2)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    for name in ("stream", "device"):
        monkeypatch.setattr(torch.cuda, name, lambda _: nullcontext())
    monkeypatch.setattr(Graph, "replayed", 0)
    return pools


def test_a_backbone_is_recorded_once_for_every_shape(retina, recordings):
    net = alexnet(retina)
    optimised = fg.optimize(net)
    x = torch.randn(3, len(retina), 3)
    first, second = optimised(x[:2]), optimised(x[1:])
    for found, given in ((first, x[:2]), (second, x[1:]), (optimised(x), x), (optimised(x), x)):
        torch.testing.assert_close(found, net(given), rtol=1e-5, atol=1e-5)
    assert recordings == [None, "pool"]
    assert Graph.replayed == 4
    optimised(x[:1])  # one shape too many
    assert len(recordings) == 2
    assert Graph.replayed == 4


def test_a_networks_backbone_is_recorded(recordings):
    net = fovinet()
    optimised, images = fg.optimize(net), torch.rand(2, 3, 48, 64)
    for given in (images, images.flip(0)):
        with torch.inference_mode():
            found = optimised(given, LOOK).logits
        torch.testing.assert_close(found, net(given, LOOK).logits, rtol=1e-5, atol=1e-5)
    assert Graph.replayed == 2
    assert len(recordings) == 1


class Mine(fg.models.Backbone):
    """A backbone of somebody's own, around one of ours."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.pyramid, self.num_features = inner, inner.pyramid, inner.num_features

    def forward(self, x):
        return 2 * self.inner(x)


def test_a_backbone_of_ones_own_is_recorded_as_one(retina, recordings):
    net = nn.Sequential(Mine(alexnet(retina)), nn.Flatten())
    optimised, x = fg.optimize(net), torch.randn(2, len(retina), 3)
    torch.testing.assert_close(optimised(x), net(x), rtol=1e-5, atol=1e-5)
    assert sum(isinstance(module, Optimized) for module in optimised.modules()) == 2
    assert recordings == [None]
    assert Graph.replayed == 1


def test_a_compiled_backbone_is_recorded_as_one(recordings):
    net = fovinet()
    images = torch.rand(2, 3, 48, 64)
    wanted = net(images, LOOK).logits
    net.backbone = torch.compile(net.backbone, backend="eager")
    optimised = fg.optimize(net)
    torch.testing.assert_close(optimised(images, LOOK).logits, wanted, rtol=1e-5, atol=1e-5)
    assert not norms_of(optimised)
    assert Graph.replayed == 1


def test_moved_or_copied_it_is_recorded_anew(retina, recordings):
    optimised, x = fg.optimize(alexnet(retina)), torch.randn(2, len(retina), 3)
    optimised(x)
    copy.deepcopy(optimised)(x)
    optimised.to("cpu")(x)
    assert recordings == [None] * 3
    weights = {name: 2 * tensor for name, tensor in optimised.state_dict().items()}
    optimised.load_state_dict(weights, assign=True)
    torch.testing.assert_close(optimised(x), optimised.module(x))
    assert recordings == [*[None] * 3, "pool"]


def test_what_cannot_be_recorded_runs_as_it_is_and_says_so(retina, recordings, monkeypatch, caplog):
    optimised, x = fg.optimize(alexnet(retina)), torch.randn(2, len(retina), 3)

    def refuse(*args, **kwargs):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    with caplog.at_level(logging.WARNING, logger="fovigraph"):
        for _ in range(2):
            assert torch.equal(optimised(x), optimised.module(x))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no CUDA graph of the backbone" in caplog.text


def test_what_a_replay_cannot_do_is_left_to_the_network(retina, recordings):
    optimised, x = fg.optimize(alexnet(retina)), torch.randn(2, len(retina), 3)
    optimised(x[:0])
    optimised(x.clone().requires_grad_()).sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        optimised(x)
    hook = optimised.layers[0].conv.register_forward_hook(lambda *_: None)
    optimised(x)
    hook.remove()
    optimised.requires_grad_()
    assert optimised(x).requires_grad
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        with torch.no_grad():
            optimised(x)
    assert not recordings
    with torch.no_grad():
        optimised(x)
    assert recordings == [None]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replays_on_a_gpu_are_what_the_network_computes(dtype):
    net = fovinet().to("cuda", dtype)
    optimised = fg.optimize(net)
    for count in (2, 3, 2):
        images = torch.rand(count, 3, 48, 64, device="cuda")
        with torch.inference_mode():
            found, wanted = optimised(images, LOOK).logits, net(images, LOOK).logits
        torch.testing.assert_close(
            found, wanted, rtol=1e-5 if dtype == torch.float32 else 0.05, atol=0.05
        )
    assert len(optimised.backbone._recordings) == 2
