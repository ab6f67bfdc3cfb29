"""Tensors that nothing else may change, and functions that no context of torch's changes."""

import copy
import pickle
from contextlib import ExitStack, contextmanager

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from fovigraph import SensorArray
from fovigraph.geometry.fixed import FixedTensors, isolated, ordinary


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


CONTEXTS = {
    "inference mode": torch.inference_mode,
    "a meta device": lambda: torch.device("meta"),
    "a default device": lambda: default_device("meta"),
    "half by default": lambda: default_dtype(torch.float16),
    "double by default": lambda: default_dtype(torch.float64),
    "fake tensors": lambda: FakeTensorMode(allow_non_fake_inputs=True),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}
TRANSFORMS = {
    "grad": lambda function: torch.func.grad(function)(torch.tensor(1.0)),
    "vmap": lambda function: torch.func.vmap(function)(torch.ones(2)),
    "jvp": lambda function: torch.func.jvp(function, (torch.ones(()),), (torch.ones(()),)),
}


def called_in(context, function):
    """What a function returns in one of the contexts, or within one of the transforms."""
    if context in CONTEXTS:
        with CONTEXTS[context]():
            return function()
    found = []

    def within(x):
        found.append(function())
        return x * 2

    TRANSFORMS[context](within)
    return found[0]


def is_ordinary(tensor):
    copy.deepcopy(tensor).numpy()
    return type(tensor) is torch.Tensor and not tensor.is_inference()


anywhere = pytest.mark.parametrize("context", [*CONTEXTS, *TRANSFORMS])


# ---- isolated functions


@anywhere
@pytest.mark.parametrize("layout", ["isotropic", "logpolar_cylinder", "uniform_disc"])
def test_an_array_is_the_same_in_every_context(context, layout):
    def places(array):
        of = ("polar", "cartesian", "cortical")
        return [getattr(array, name) for name in (*of, *(f"padding_{name}" for name in of))]

    make = lambda: SensorArray.matched(7, fov=30.0, cmf_a=0.3, layout=layout)  # noqa: E731
    there, here = called_in(context, lambda: places(make())), places(make())
    for mine, yours in zip(there, here, strict=True):
        assert is_ordinary(mine)
        assert (mine.dtype, mine.device) == (torch.float64, torch.device("cpu"))
        assert mine.equal(yours)


@anywhere
def test_an_isolated_function_makes_ordinary_tensors_from_whatever_it_gets(context):
    given = torch.arange(3.0, requires_grad=True)
    made = called_in(context, lambda: isolated(lambda: given * torch.ones(3))())
    assert is_ordinary(made)
    assert made.dtype == torch.float32
    assert not made.requires_grad
    (given * made).sum().backward()


def test_contexts_hold_again_after_an_isolated_function_even_if_it_raises():
    @isolated
    def fail():
        assert isolated(torch.get_default_dtype)() == torch.float32
        raise KeyError

    with ExitStack() as stack:
        for name in ("inference mode", "half by default", "a meta device"):
            stack.enter_context(CONTEXTS[name]())
        with pytest.raises(KeyError):
            fail()
        again = torch.ones(2)
        assert again.is_inference()
        assert again.is_meta
        assert again.dtype == torch.float16


def test_an_inference_tensor_is_copied_and_any_other_is_not():
    with torch.inference_mode():
        made = torch.arange(3)
    assert not ordinary(made).is_inference()
    assert ordinary(made).tolist() == [0, 1, 2]
    assert ordinary(usual := torch.ones(2)) is usual


# ---- fixed tensors


class Fixed(FixedTensors):
    def __init__(self):
        super().__init__()
        self.fix(index=torch.arange(4), flag=torch.tensor([True, False]), nothing=None)
        self.fix(place=torch.tensor([0.1, 1 / 3]))
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("mean", torch.ones(2))


@pytest.fixture
def module():
    return Fixed()


def assert_untouched(module, dtype=torch.float32):
    assert module.index.dtype == torch.int64
    assert module.index.tolist() == [0, 1, 2, 3]
    assert module.flag.tolist() == [True, False]
    assert module.nothing is None
    assert module.place.dtype == dtype
    assert module.place.equal(torch.tensor([0.1, 1 / 3]).to(dtype))
    assert list(module.fixed_tensors()) == ["index", "flag", "nothing", "place"]
    assert module.fixed_tensors()["place"] is module.place


def test_fixed_tensors_are_neither_parameters_nor_buffers_nor_state(module):
    assert [name for name, _ in module.named_buffers()] == ["mean"]
    assert [name for name, _ in module.named_parameters()] == ["weight"]
    assert list(module.state_dict()) == ["weight", "mean"]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.half(),
        lambda m: m.to(torch.bfloat16),
        lambda m: m.half().float(),
        lambda m: m.double().float(),
        lambda m: m.to_empty(device="cpu"),
        lambda m: m.to_empty(device="cpu", recurse=False),
        lambda m: m.to("meta").to_empty(device="cpu"),
        lambda m: m.to("meta").half().to_empty(device="cpu"),
        lambda m: m.share_memory(),
        lambda m: m._apply(torch.zeros_like),
        lambda m: m._apply(lambda tensor: tensor[:0]),
        copy.deepcopy,
        lambda m: copy.deepcopy(m.to("meta")).to_empty(device="cpu"),
        lambda m: pickle.loads(pickle.dumps(m)),
        lambda m: pickle.loads(pickle.dumps(m.to("meta"))).to_empty(device="cpu"),
        lambda m: nn.Sequential(m).half()[0],
    ],
)
def test_no_cast_nor_emptying_changes_them(module, change):
    assert_untouched(change(module))


def test_double_precision_takes_them_along_and_half_then_leaves_them(module):
    assert_untouched(module.double(), torch.float64)
    assert_untouched(module.half(), torch.float64)
    assert_untouched(module.float())


def test_they_are_empty_on_the_meta_device_and_keep_their_values(module):
    module.to("meta")
    assert module.index.is_meta
    assert module.place.is_meta
    assert module.fixed_tensors()["index"].tolist() == [0, 1, 2, 3]
    assert module.nothing is None


@pytest.mark.parametrize(
    "change", [lambda m: m.double(), lambda m: m.to("meta").to_empty(device="cpu")]
)
def test_moved_under_inference_mode_they_can_be_trained_on(change):
    module = Fixed()
    del module.weight
    with torch.inference_mode():
        change(module)
    assert is_ordinary(module.place)
    assert is_ordinary(module.index)


@anywhere
def test_made_in_any_context_they_are_ordinary(context):
    place = torch.tensor([0.1, 1 / 3])

    def make():
        module = FixedTensors()
        module.fix(place=place * 1)
        return module

    if context == "inference mode":
        assert is_ordinary(called_in(context, make).place)
    made = called_in(context, isolated(make))
    assert is_ordinary(made.place)
    assert made.place.equal(place)
