"""The geometry of a network: whatever is done to parameters and buffers, it stays as it is."""

import copy
import io
import pickle

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import fovigraph as fg
from fovigraph.geometry.fixed import FixedTensors

OVERRIDES = ["retina.side=16", "retina.color_decay=3"]


def make(sampling="bilinear"):
    torch.manual_seed(0)
    overrides = [*OVERRIDES, f"retina.sampling={sampling}"]
    return fg.FoviNet(fg.load_config("fovi_tiny", overrides)).eval()


@pytest.fixture(scope="module")
def originals():
    return {sampling: make(sampling) for sampling in ("bilinear", "knn_mean")}


@pytest.fixture(scope="module")
def original(originals):
    return originals["bilinear"]


@pytest.fixture(scope="module")
def seen():
    images = torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(1))
    return images, [[0.5, 0.5], [0.25, 0.75]]


def geometry(net):
    return {
        f"{path}.{name}": tensor
        for path, module in net.named_modules()
        if isinstance(module, FixedTensors)
        for name, tensor in module.fixed_tensors().items()
        if tensor is not None
    }


def assert_same_geometry(net, original):
    found, expected = geometry(net), geometry(original)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].equal(tensor), name
        assert found[name].dtype == tensor.dtype, name
        assert type(found[name]) is torch.Tensor, name
        assert not found[name].is_inference(), name


def averaged(net, **options):
    average = AveragedModel(net, use_buffers=True, **options)
    for _ in range(3):
        average.update_parameters(net)
    return average.module


def with_buffers_overwritten(net):
    with torch.no_grad():
        for buffer in net.buffers():
            buffer.copy_(torch.full_like(buffer, 7))
    return net


def saved_by_torch(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


DONE = {
    "averaged": averaged,
    "averaged exponentially": lambda net: averaged(net, multi_avg_fn=get_ema_multi_avg_fn(0.9)),
    "buffers overwritten": with_buffers_overwritten,
    "half": lambda net: net.half().float(),
    "bfloat16": lambda net: net.to(torch.bfloat16).float(),
    "double": lambda net: net.double().float(),
    "emptied": lambda net: net.to_empty(device="cpu"),
    "to the meta device": lambda net: net.to("meta").to_empty(device="cpu"),
    "copied there": lambda net: copy.deepcopy(net.to("meta")).to_empty(device="cpu"),
    "copied": copy.deepcopy,
    "pickled": lambda net: pickle.loads(pickle.dumps(net)),
    "saved by torch": saved_by_torch,
    "shared": lambda net: net.share_memory(),
    "filled with zeros": lambda net: net._apply(torch.zeros_like),
}


@pytest.mark.parametrize("sampling", ["bilinear", "knn_mean"])
@pytest.mark.parametrize("done", DONE)
def test_with_its_weights_back_a_network_is_what_it_was(done, sampling, seen, originals):
    original = originals[sampling]
    net = copy.deepcopy(original)
    net(*seen)
    net = DONE[done](net)
    assert_same_geometry(net, original)
    net.load_state_dict(original.state_dict())
    assert net(*seen).logits.equal(original(*seen).logits)


CONTEXTS = {
    "meta": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
    "fake": lambda: FakeTensorMode(allow_non_fake_inputs=True),
}


@pytest.mark.parametrize("context", CONTEXTS)
def test_built_in_a_context_a_network_has_the_geometry_of_any_other(context, original):
    with CONTEXTS[context]():
        net = make()
    assert_same_geometry(net, original)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_default_dtype_changes_no_geometry(dtype, original):
    try:
        torch.set_default_dtype(dtype)
        net = make()
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same_geometry(net, original)


@pytest.mark.parametrize("assign", [True, False])
def test_a_network_built_on_the_meta_device_is_the_ordinary_one_once_it_has_its_weights(
    assign, original, seen
):
    with torch.device("meta"):
        net = make()
    assert all(parameter.is_meta for parameter in net.parameters())
    if not assign:
        net.to_empty(device="cpu")
    net.load_state_dict(original.state_dict(), assign=assign)
    assert net(*seen).logits.equal(original(*seen).logits)


def test_emptied_and_loaded_a_saved_network_is_what_it_was(tmp_path, original, seen):
    original.save_pretrained(tmp_path)
    net = fg.FoviNet.from_pretrained(tmp_path).to_empty(device="cpu")
    net.load_state_dict(original.state_dict())
    assert net(*seen).logits.equal(original(*seen).logits)


def test_what_was_first_used_under_inference_mode_can_be_trained(seen):
    for sampling in ("bilinear", "gaussian"):
        net = make(sampling)  # whose arrays, too, are used for the first time
        with torch.inference_mode():
            net(*seen)
        net.train()(*seen).logits.sum().backward()


class Small(torch.nn.Module):
    """A convolution and a pool, which compile and export fast."""

    def __init__(self):
        super().__init__()
        steps = [fg.Step("conv", k=9, stride=2), fg.Step("pool", k=4)]
        self.pyramid = fg.GraphPyramid(fg.SensorArray.matched(8), steps)
        self.conv, self.pool = fg.nn.KNNConv(3, 4, kernel_size=3), fg.nn.KNNPool()

    def forward(self, x):
        first, second = self.pyramid.graphs
        return self.pool(self.conv(x, first), second)


def test_what_was_first_compiled_under_inference_mode_can_be_trained():
    torch.compiler.reset()
    small = Small()
    x = torch.rand(2, len(small.pyramid.levels[0]), 3)
    compiled = torch.compile(small, fullgraph=True, backend="aot_eager")
    with torch.inference_mode():
        expected = compiled(x)
    for module in (compiled, small):
        out = module(x)
        torch.testing.assert_close(out, expected)
        out.sum().backward()


def test_networks_stack_and_run_as_an_ensemble(original):
    backbones = [copy.deepcopy(original.backbone) for _ in range(2)]
    for backbone in backbones:
        for module in backbone.modules():
            if hasattr(module, "fused"):
                module.fused = False
    parameters, buffers = torch.func.stack_module_state(backbones)
    x = torch.rand(1, len(original.retina.array), 3)

    def call(parameters, buffers):
        return torch.func.functional_call(backbones[0], (parameters, buffers), (x,))

    out = torch.func.vmap(call)(parameters, buffers)
    for one in out:
        torch.testing.assert_close(one, original.backbone(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("used", [True, False], ids=["used before", "new"])
def test_what_is_exported_carries_its_geometry(used):
    small, file = Small(), io.BytesIO()
    x = torch.rand(2, len(small.pyramid.levels[0]), 3)
    if used:
        small(x)
    torch.export.save(torch.export.export(small, (x,)), file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    torch.testing.assert_close(loaded(x), small(x))
    out = copy.deepcopy(small)(x)
    out.sum().backward()


def test_no_buffer_is_geometry(original):
    names = {name.rpartition(".")[2] for name, _ in original.named_buffers()}
    assert names <= {"running_mean", "running_var", "num_batches_tracked"}
    assert not list(original.pyramid.state_dict())
