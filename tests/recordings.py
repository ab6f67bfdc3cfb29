"""Recorded answers of the peer's networks: what is kept of them, and how it is read and compared.

Used by the tests and, under the peer's Python, by the scripts that record.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ACCURACY = 1e-5
"""Largest difference, relative to the largest value of a layer."""


def some(output: Tensor) -> Tensor:
    """Up to 20 and 2 places, from first to last, along the last two axes of a layer's output.

    An output is `[image, fixation, node, channel]`, or as the peer has it, the other way round.
    """
    for dim, most in ((2, 20), (3, 2)):
        size = output.shape[dim]
        kept = torch.linspace(0, size - 1, min(size, most)).long()
        output = output.index_select(dim, kept)
    return output


def close(ours: Tensor, theirs: Tensor) -> bool:
    """Whether outputs agree to ACCURACY."""
    return float((ours - theirs).abs().max()) <= ACCURACY * float(theirs.abs().max())


def read(name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, str]]:
    """The networks of a file of `tests/data`, what was recorded of them, and texts beside."""
    with np.load(Path(__file__).parent / "data" / name) as file:
        assert str(file["version"]) == "2.4.0"
        arrays = {key: file[key] for key in file.files}
    texts = {key: str(arrays.pop(key)) for key in list(arrays) if arrays[key].dtype.kind == "U"}
    networks = json.loads(texts.pop("networks"))
    return networks, {key: torch.from_numpy(array) for key, array in arrays.items()}, texts


def outputs_of(name: str, networks: dict[str, Any], arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """What layers of a network gave, by their names."""
    shapes = networks[name]["outputs"]
    values = arrays[f"outputs/{name}"].split([math.prod(shape) for _, shape in shapes])
    return {key: value.view(shape) for (key, shape), value in zip(shapes, values, strict=True)}


def empty(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Tensors of a network, by names and shapes, without values."""
    whole = {True: torch.int64, False: torch.float32}
    return {
        name: torch.empty(shape, dtype=whole[name.endswith("num_batches_tracked")])
        for name, shape in shapes.items()
    }


def lists_of(name: str, networks: dict[str, Any], arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """The neighbourhoods of a network, as `use_neighbours` takes them."""
    return {key: arrays[f"list{number}"] for key, number in networks[name]["lists"].items()}


def changed(content: Any, *remove: str, **changes: Any) -> Any:
    """A configuration of the peer's with other values.

    Args:
        content: The configuration.
        remove: Keys to leave out, `section.key`.
        changes: Values by `section__key`; the section `vit` is that in `model`.
    """
    content = copy.deepcopy(content)
    for key, value in changes.items():
        section, _, name = key.partition("__")
        (content["model"]["vit"] if section == "vit" else content[section])[name] = value
    for key in remove:
        section, name = key.split(".")
        del content[section][name]
    return content


def run(net: Any, names: Iterable[str], arrays: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
    """What our network gives at the recorded fixations, and its modules of these names."""
    found: dict[str, Tensor] = {}
    for name in {*names, "retina"}:
        net.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: found.update({name: out})
        )
    with torch.no_grad():
        return net(arrays["images"], arrays["fixations"]), found


def check_answers(
    out: Any, found: dict[str, Tensor], outputs: dict[str, Tensor], samples: Tensor
) -> None:
    """Our samples are the peer's, and so are our answers but for rounding."""
    assert torch.equal(found["retina"], samples)
    assert close(out.fixation_logits, outputs["fixation_logits"])
    assert close(out.logits.exp(), outputs["probabilities"])


def check_there_and_back(back: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """The peer's tensors have come back, bit for bit."""
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], theirs[name]) for name in back)
    assert all(tensor.is_contiguous() for tensor in back.values())
