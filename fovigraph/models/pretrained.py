"""Networks in folders: ``config.yaml`` and ``model.safetensors``."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
import shlex
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fovigraph._checks import flag, instance, path_of, shown
from fovigraph._compose import checked, to_dict, write_yaml
from fovigraph._hub import hub_problem
from fovigraph._names import HUB_ID
from fovigraph._shipped import BUNDLED as BUNDLED
from fovigraph._shipped import pretrained_names as pretrained_names
from fovigraph.graph import KNNGraph
from fovigraph.models.config import FoviConfig
from fovigraph.models.wrapped import names_without_wrappers

if TYPE_CHECKING:
    from fovigraph.models.fovinet import FoviNet

log = logging.getLogger(__name__)

FILES = ("config.yaml", "model.safetensors")

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""Types that weights may be stored in: they are converted to the network's own."""

TIED = "tied"
"""The key, in the metadata of ``model.safetensors``, of the names that stand for one tensor."""

_SHOWN = 10


def save_pretrained(net: FoviNet, folder: Path) -> None:
    """Write a network's configuration and weights, each complete or not at all.

    Raises:
        ValueError: If they would not load again; nothing was written then.
        OSError: If they cannot be written.
    """
    weights, tied = checked_weights(net), tied_names(net)
    metadata = {"format": "pt"} | ({TIED: json.dumps(tied)} if tied else {})
    folder.mkdir(parents=True, exist_ok=True)
    partial = {name: folder / f".{name}.partial" for name in FILES}
    try:
        save_file(weights, partial["model.safetensors"], metadata=metadata)
        write_yaml(net.config, partial["config.yaml"])
        for name, path in partial.items():
            path.replace(folder / name)
    except SafetensorError as error:  # a full disk, said in another way
        raise OSError(f"cannot write to {folder}: {error}") from error
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)


def checked_weights(net: FoviNet) -> dict[str, Tensor]:
    """Return a network's weights as they are saved: without wrappers, each by itself.

    Raises:
        ValueError: If they are not those of a network of its class and configuration, or not
            finite numbers.
    """
    rename, kind = names_without_wrappers(net), type(net)
    weights = {rename(name): tensor for name, tensor in net.state_dict().items()}
    try:
        config = json.dumps(to_dict(net.config))
        expected = _expected(kind, config)  # type: ignore[arg-type]  # mypy: not hashable
    except Exception as error:  # a subclass may do anything
        raise ValueError(
            f"net cannot be saved, as {kind.__name__}.from_pretrained could not make it again: "
            f"{kind.__name__}(config) raises {type(error).__name__}: {error}"
        ) from error
    if problem := refusal(weights, expected.weights):
        hint = "\n(for other classes, make the network with another head.num_classes)"
        raise ValueError(f"net cannot be saved: its weights {problem}{hint * ('head.' in problem)}")
    if not expected.graphs.items() <= _graphs(net, rename).items():
        log.warning(
            "the graphs of this network are not those of its configuration, and are not saved: "
            "loaded again, it has those of its configuration"
        )
    # Each in memory of its own, as safetensors has them, and not in that of a GPU.
    own = {"device": "cpu", "copy": True, "memory_format": torch.contiguous_format}
    return {name: tensor.to(**own) for name, tensor in weights.items()}


class _Expected(NamedTuple):
    """What a network made of a configuration has.

    Attributes:
        weights: Its ``state_dict``, on the meta device.
        graphs: Fingerprints of its graphs, by name.
    """

    weights: dict[str, Tensor]
    graphs: dict[str, bytes]


@functools.lru_cache(maxsize=4)  # training saves the same network again and again
def _expected(kind: type[FoviNet], config: str) -> _Expected:
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        net = kind(checked(json.loads(config), FoviConfig))
    weights = {name: tensor.to("meta") for name, tensor in net.state_dict().items()}
    return _Expected(weights, _graphs(net, names_without_wrappers(net)))


def _graphs(net: nn.Module, rename: Callable[[str], str]) -> dict[str, bytes]:
    return {
        rename(name): b"".join(
            hashlib.sha256(part.cpu().numpy().tobytes()).digest()
            for part in (graph.edge_index, graph.offset.float())
        )
        for name, graph in net.named_modules()
        if isinstance(graph, KNNGraph)
    }


def tied_names(net: nn.Module) -> list[list[str]]:
    """Return the names, in its ``state_dict``, of every tensor that has several."""
    rename, named, saved = names_without_wrappers(net), defaultdict(list), net.state_dict().keys()
    for all_of in (net.named_parameters, net.named_buffers):
        for name, tensor in all_of(remove_duplicate=False):
            if name in saved:
                named[id(tensor)].append(rename(name))
    return [names for names in named.values() if len(names) > 1]


class HubOptions(NamedTuple):
    """How the Hugging Face Hub is asked, as huggingface_hub names it.

    Attributes:
        cache_dir: Its cache; ``None``: where huggingface_hub has it.
        token: Access token; ``None`` or True: the one that was logged in with; False: none.
        local_files_only: Whether to take what is in the cache, and not ask the Hub.
    """

    cache_dir: str | os.PathLike[str] | None = None
    token: str | bool | None = None
    local_files_only: bool = False

    def check(self) -> None:
        """Raise a TypeError if a value is of another type than said above."""
        if self.cache_dir is not None:
            path_of("cache_dir", self.cache_dir)
        if self.token is not None and not isinstance(self.token, (str, bool)):
            raise TypeError(f"token must be a string, true, false or None, got {shown(self.token)}")
        flag("local_files_only", self.local_files_only)


def find_pretrained(
    folder_or_hub_id: str | os.PathLike[str],
    revision: str | None,
    hub: HubOptions = HubOptions(),  # noqa: B008  # it cannot be changed
    also: Sequence[str] = (),
) -> Path:
    """Return the folder that holds a network, fetched from the Hub if it is not a folder here.

    Args:
        folder_or_hub_id: One of :func:`pretrained_names`, a folder, or ``"owner/name"`` on the Hub.
        revision: Branch, tag or commit on the Hub.
        hub: How the Hub is asked.
        also: Other files to fetch from the Hub, those that there are.

    Raises:
        TypeError: If an argument is of another type.
        FileNotFoundError: If there is no such folder, or it lacks one of the two files.
    """
    try:
        folder, text = path_of("folder_or_hub_id", folder_or_hub_id), os.fspath(folder_or_hub_id)
    except ValueError as error:
        raise FileNotFoundError(str(error)) from None
    if revision is not None:
        instance("revision", revision, str, allowed="a string or None")
    hub.check()
    if text in pretrained_names():
        return BUNDLED / text
    if not os.path.exists(folder) and HUB_ID.fullmatch(text):
        folder = _from_hub(text, revision, hub, (*FILES, *also))
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        found = _found_instead(folder, missing)
        raise FileNotFoundError(f"folder_or_hub_id must hold {' and '.join(FILES)}, but {found}")
    return folder


def _found_instead(folder: Path, missing: Sequence[str]) -> str:
    if not folder.is_dir():
        return f"{folder} is not a folder"
    recipe, checkpoint = folder / "recipe.yaml", folder / "checkpoints" / "last.pt"
    if not recipe.is_file():
        return f"{folder} lacks {' and '.join(missing)}"
    go_on = ["fovigraph", "train", str(recipe), "--out", str(folder)]
    return (
        f"{folder} is a training run that has not written its network yet; unless it is still "
        f"running, go on with: {shlex.join(go_on + ['--resume'] * checkpoint.is_file())}"
    )


def _from_hub(hub_id: str, revision: str | None, hub: HubOptions, files: Sequence[str]) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise FileNotFoundError(
            f"there is no folder {hub_id!r}; to fetch it from the Hugging Face Hub, "
            "install the extra: pip install 'fovigraph[hub]'"
        ) from error
    try:
        return Path(
            snapshot_download(
                hub_id, revision=revision, allow_patterns=list(files), **hub._asdict()
            )
        )
    except Exception as error:  # the Hub's errors are many: no network, no such repository, …
        raise FileNotFoundError(
            f"there is no folder {hub_id!r}, and the Hugging Face Hub did not give it: "
            f"{hub_problem(error)}"
        ) from error


def load_weights(
    net: nn.Module,
    path: Path,
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> None:
    """Load safetensors into a network that they must fit exactly.

    Weights in another floating-point type are converted to the network's: from half precision
    exactly, from double precision with rounding. Tensors that were one when they were saved are one
    again. A network on the meta device moves to the CPU.

    Args:
        net: The network.
        path: The file.
        adapt: Changes the weights, by name, before they are loaded.

    Raises:
        ValueError: If they cannot be read, do not fit, or are not finite numbers.
    """
    weights = read_weights(path, net)
    weights = weights if adapt is None else adapt(weights)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    own = net.state_dict()
    if problem := refusal(weights, own):
        raise ValueError(f"the weights in {path} {problem}")
    if any(tensor.is_meta for tensor in own.values()):
        net.to_empty(device="cpu")
    net.load_state_dict(weights)
    try:
        _tie(net, json.loads(metadata.get(TIED, "[]")))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"cannot read weights from {path}: damaged metadata {TIED!r}") from error


def read_weights(path: Path, net: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, by their names in a network.

    Raises:
        ValueError: If they cannot be read.
    """
    try:
        weights = load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"cannot read weights from {path}: {error}") from error
    own = net.state_dict()
    return {_found_as(name, own): tensor for name, tensor in weights.items()}


def _found_as(name: str, own: Collection[str]) -> str:
    """Return a name without what wrappers had added to it when earlier versions saved them."""
    plain = re.sub(r"(?<![^.])(_orig_mod|module)\.", "", name)
    return plain if name not in own and plain in own else name


def _tie(net: nn.Module, groups: list[list[str]]) -> None:
    """Make one tensor again of those that were one when they were saved."""
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    for first, *others in groups:
        for name in others:
            if tensors[name].shape != tensors[first].shape:
                raise ValueError(f"{name} cannot be {first}")
            path, _, own_name = name.rpartition(".")
            setattr(net.get_submodule(path), own_name, tensors[first])


def refusal(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """Return why weights cannot be loaded into a network, or ``None`` if they can.

    Args:
        weights: The tensors.
        own: The network's ``state_dict``.

    Returns:
        What to say of the weights: that they "are of another architecture …" or "cannot be used …",
        and a line for each tensor.
    """
    if others := _of_another_architecture(weights, own):
        return f"are of another architecture than its configuration:{_listed(others)}"
    broken = _broken(weights, own)
    return f"cannot be used:{_listed(broken)}" if broken else None


def misfits(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Return why weights cannot be loaded into a network, by name; nothing if they can."""
    return _of_another_architecture(weights, own) or _broken(weights, own)


def _of_another_architecture(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    problems = [f"missing: {name}" for name in own if name not in weights]
    problems += [f"unexpected: {name}" for name in weights if name not in own]
    problems += [
        f"{name}: shape {list(weights[name].shape)}, needed {list(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    return problems


def _broken(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    reasons = {name: unusable(weights[name], own[name].dtype) for name in own}
    return [f"{name}: {reason}" for name, reason in reasons.items() if reason is not None]


def unusable(tensor: Tensor, needed: torch.dtype) -> str | None:
    """Return why a tensor cannot be converted to a type of weights; ``None`` if it can be."""
    if tensor.is_meta:
        return "on the meta device, without values"
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided:
        return f"a {type(tensor).__name__} of layout {tensor.layout}, needed a plain dense tensor"
    if needed.is_floating_point:
        if tensor.dtype not in FLOATS:
            return f"dtype {tensor.dtype}, needed {needed} or another of floating point"
        broken = int((~tensor.to(needed).isfinite()).sum())
        if broken:
            return f"{broken} of {tensor.numel()} values are NaN, infinite or too large"
    elif tensor.dtype != needed:
        return f"dtype {tensor.dtype}, needed {needed}"
    return None


def _listed(problems: Sequence[str]) -> str:
    more = [f"… and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return "".join(f"\n  {line}" for line in [*problems[:_SHOWN], *more])
