"""Values that nobody means to pass: of wrong types and sizes, at the ends of what can be held."""

import math
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st

NUMBERS = st.one_of(
    st.sampled_from(
        [
            *(0, -1, 1, 2, 7, 10**9, 10**30, -(10**30), 2**31, 2**63, 0.0, -0.0, 0.5, 1.5, -2.5),
            *(math.nan, math.inf, -math.inf, 5e-324, 1e-300, 1e308, 1e300, True, False),
        ]
    ),
    st.integers(-5, 40),
    st.floats(-3, 3),
)

WORDS = st.one_of(
    st.sampled_from(["", " ", "max", "Max", "conv", "nearest", "cpu", "\0", "../..", "a" * 300]),
    st.text(max_size=6),
)

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32]
DTYPES += [torch.uint8, torch.bool, torch.complex64]


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 5, 9]), max_size=4))
    dtype = draw(st.sampled_from(DTYPES))
    fill = draw(st.sampled_from([0, 1, -1, 0.5, math.nan, math.inf]))
    if not (dtype.is_floating_point or dtype.is_complex):
        fill = 1 if not math.isfinite(fill) else int(fill)
    if dtype is torch.uint8:
        fill = abs(fill)
    tensor = torch.full(shape, fill, dtype=dtype)
    return tensor.to("meta") if draw(st.integers(0, 15)) == 0 else tensor


@st.composite
def arrays(draw):
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 8]), max_size=4))
    kind = draw(st.sampled_from(["u1", "f4", "f8", ">f4", "i8", "u2", "?", "O", "U3", "c8"]))
    return np.zeros(shape, kind)


PLAIN = st.one_of(st.none(), NUMBERS, WORDS, st.binary(max_size=4))

VALUES = st.one_of(
    PLAIN,
    tensors(),
    arrays(),
    st.lists(PLAIN, max_size=3),
    st.tuples(NUMBERS, NUMBERS),
    st.dictionaries(st.text(max_size=3), PLAIN, max_size=2),
    st.sampled_from([object(), object, Path("nowhere"), iter(()), {1}, slice(None), print]),
)
