"""Changed weights: they load as what they are, or are refused before anything is computed."""

import functools

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from trials import OUTCOMES, trials

import fovigraph as fg

SMALL = ["retina.side=10", "backbone.channels=[4]", "backbone.strides=[1]", "backbone.k=[4]"]
SMALL += ["backbone.pool_after=[]", "projector.channels=[3]", "head.num_classes=2"]
KINDS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.bool]
KINDS += [torch.int64, torch.complex64]


@functools.cache
def saved(folder):
    fg.FoviNet(fg.load_config("fovi_tiny", SMALL)).save_pretrained(folder)
    return load_file(folder / "model.safetensors"), (folder / "model.safetensors").read_bytes()


@trials("weights")
@given(data=st.data())
def test_weights_load_or_are_refused(data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "weights"
    weights, content = saved(folder)
    file = folder / "model.safetensors"
    if data.draw(st.booleans(), label="bytes"):
        damaged = bytearray(content)
        for _ in range(data.draw(st.integers(1, 3))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        file.write_bytes(damaged[: data.draw(st.sampled_from([len(damaged), len(damaged) - 5]))])
    else:
        changed = dict(weights)
        name = data.draw(st.sampled_from(sorted(weights)), label="tensor")
        how = data.draw(st.sampled_from(["dtype", "nan", "shape", "missing", "extra"]))
        if how == "dtype":
            changed[name] = weights[name].to(data.draw(st.sampled_from(KINDS)))
        elif how == "nan":
            changed[name] = torch.full_like(weights[name].float(), float("nan"))
        elif how == "shape":
            changed[name] = weights[name].flatten()[:-1].contiguous()
        elif how == "missing":
            del changed[name]
        else:
            changed["another"] = torch.zeros(1)
        save_file(changed, file)
    try:
        net = fg.FoviNet.from_pretrained(folder)
    except ValueError:
        OUTCOMES["weights refused"] += 1
        return
    OUTCOMES["weights loaded"] += 1
    read = load_file(file)
    for name, tensor in net.state_dict().items():
        assert tensor.isfinite().all()
        assert torch.equal(tensor, read[name].to(tensor.dtype))
