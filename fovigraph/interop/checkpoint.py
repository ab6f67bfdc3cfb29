"""Upstream's folders, local or on the Hugging Face Hub: finding them, and reading them safely."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fovigraph._checks import instance, path_of, shown
from fovigraph._hub import hub_problem
from fovigraph._plain import ConfigError, as_plain, read_text, read_yaml, said

log = logging.getLogger(__name__)

ORGANISATION = "fovi-pytorch"
"""Upstream's organisation on the Hub: the owner of an id that names none."""

CONFIGS = ("resolved_config.yaml", "hydra/config.yaml", "config.yaml", "params.json")
"""Files of the configuration, in upstream's order of preference."""

INDEX = "state_dict.index.json"
"""The index of weights in several files: the file of every tensor."""

WEIGHTS = ("state_dict.pth", "final_weights.pth", "model.pth")
"""Files of all weights, in upstream's order of preference."""

SECTIONS = ("state_dict", "model")
"""Keys of the weights in a file that has other entries as well."""

PROBES = "probes"
"""The key, in such a file, of the probes that upstream's trainer has of every layer."""

_PREFIXES = ("module.", "_orig_mod.")  # of distributed training, of torch.compile

_LFS = b"version https://git-lfs"


def find_upstream(
    path_or_hub_id: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """Return the folder of a network, fetched from the Hub if it is not a folder here.

    Args:
        path_or_hub_id: A folder; or ``"owner/name"`` on the Hugging Face Hub, or the bare name of a
            network that upstream publishes.
        revision: Branch, tag or commit on the Hub.
        cache_dir: Folder of the Hub's cache; ``None``: huggingface_hub's own.

    Raises:
        TypeError: If an argument is of another type.
        FileNotFoundError: If there is no such folder, and the Hub does not give it. What is in the
            cache needs no network.
    """
    cache = None if cache_dir is None else path_of("cache_dir", cache_dir)
    if revision is not None:
        instance("revision", revision, str, allowed="a string or None")
    try:
        folder, text = path_of("path_or_hub_id", path_or_hub_id), os.fspath(path_or_hub_id)
    except ValueError as error:
        raise FileNotFoundError(str(error)) from None
    if os.path.isdir(folder):
        return folder
    if os.path.exists(folder):
        raise FileNotFoundError(
            "path_or_hub_id must be a folder with a configuration and weights, "
            f"got the file {text!r}"
        )
    if "://" in text:
        raise FileNotFoundError(
            f"path_or_hub_id must be a folder or an id on the Hugging Face Hub, got {text!r}: "
            "download its files to a folder first"
        )
    hub_id = text if "/" in text else f"{ORGANISATION}/{text}"
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", hub_id):
        raise FileNotFoundError(
            f"there is no folder {shown(text)}, and it cannot be an id on the Hub"
        )
    return _fetch(hub_id, revision, cache, f"there is no folder {text!r}")


def _fetch(hub_id: str, revision: str | None, cache_dir: Path | None, here: str) -> Path:
    """Fetch the configuration, then one set of weights."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise FileNotFoundError(
            f"{here}; to fetch {hub_id!r} from the Hugging Face Hub, install the extra: "
            "pip install 'fovigraph[hub]'"
        ) from error

    def fetch(*names: str) -> Path:
        try:
            return Path(
                snapshot_download(
                    hub_id, revision=revision, cache_dir=cache_dir, allow_patterns=list(names)
                )
            )
        except Exception as error:  # no such repository or revision, no network, no disk, …
            raise FileNotFoundError(
                f"{here}, and the Hugging Face Hub did not give {hub_id!r}"
                f"{f' at revision {revision!r}' if revision else ''}: {hub_problem(error)}"
            ) from error

    folder = fetch(*CONFIGS, INDEX)
    if (folder / INDEX).is_file():
        files = sorted(set(_read_index(folder / INDEX).values()))
        cached = all((folder / file).is_file() for file in files)
        return folder if cached else fetch(*files)
    if any((folder / name).is_file() for name in WEIGHTS):
        return folder
    for name in WEIGHTS:
        folder = fetch(name)
        if (folder / name).is_file():
            return folder
    raise FileNotFoundError(
        f"{here}, and {hub_id!r} on the Hugging Face Hub has no weights, none of "
        f"{', '.join((INDEX, *WEIGHTS))} "
        "(or there is no network, and they are not in the cache)"
    )


def read_config(folder: Path) -> tuple[DictConfig, Path]:
    """Read upstream's configuration from a folder, interpolations left unresolved.

    Returns:
        The configuration, and the file that it was in.

    Raises:
        FileNotFoundError: If there is none.
        ConfigError: If it cannot be read, or is not the whole configuration of a network.
    """
    path = next((folder / name for name in CONFIGS if (folder / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder} has no configuration: none of {', '.join(CONFIGS)}")
    text = read_text(path)
    try:
        stated = json.loads(text) if path.suffix == ".json" else read_yaml(text, str(path))
        stated = as_plain(stated, str(path), check=False)
        if not isinstance(stated, dict):
            raise ConfigError(f"{path}: must hold sections of keys and values")
        content = OmegaConf.create(stated)
    except ConfigError:
        raise
    except (ValueError, RecursionError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: cannot be read: {said(error)}") from None
    if "retina" in content and "saccades" not in content:
        raise ConfigError(
            f"{path} is a configuration of fovigraph, not of upstream: "
            "FoviNet.from_pretrained loads this folder"
        )
    if "model" not in content or "saccades" not in content:
        parts = " (its 'defaults' name the parts, which upstream's hydra composes)"
        raise ConfigError(
            f"{path}: is not the whole configuration of a network: it has no section "
            f"{'model' if 'model' not in content else 'saccades'!r}"
            + (parts if "defaults" in content else "")
        )
    return content, path


class Stored(NamedTuple):
    """Upstream's tensors, by name, on the CPU.

    Attributes:
        weights: Those of the network.
        probes: Those of the trainer's probes of every layer, if they were saved.
        source: The file, or the index of files, that they were in.
    """

    weights: dict[str, Tensor]
    probes: dict[str, Tensor]
    source: Path


def read_weights(folder: Path) -> Stored:
    """Read upstream's tensors from a folder, prefixes of distributed training removed.

    Raises:
        FileNotFoundError: If there are none, or files that the index names are missing.
        ValueError: If a file is damaged, holds more than tensors and plain values (none of its code
            runs), or lacks tensors that the index lists.
    """
    probes: dict[str, Tensor] = {}
    if (folder / INDEX).is_file():
        path = folder / INDEX
        weights = _read_shards(folder, _read_index(path))
    else:
        found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
        if found is None:
            raise FileNotFoundError(
                f"{folder} has no weights: none of {', '.join((INDEX, *WEIGHTS))}"
            )
        path, content = found, read_tensors(found)
        weights = _tensors(path, content)
        if isinstance(content.get(PROBES), Mapping):
            probes = _named(path, content[PROBES])
    return Stored(
        {_without_prefix(name): tensor for name, tensor in weights.items()},
        {_without_prefix(name): tensor for name, tensor in probes.items()},
        path,
    )


def _read_index(path: Path) -> dict[str, str]:
    """Return the file of every tensor."""
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        files = {str(name): str(file) for name, file in weight_map.items()}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{path} cannot be read: it must be JSON with a 'weight_map' of tensors to files"
        ) from None
    for file in files.values():
        if PurePosixPath(file).name != file or "\\" in file or file in ("", ".", ".."):
            raise ValueError(f"{path}: weight_map must name files beside it, got {file!r}")
    return files


def _read_shards(folder: Path, weight_map: Mapping[str, str]) -> dict[str, Tensor]:
    files = sorted(set(weight_map.values()))
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} is not complete: it lacks {len(missing)} of the {len(files)} files of "
            f"weights that {INDEX} names: {', '.join(missing[:5])}{', …' if missing[5:] else ''}"
        )
    weights: dict[str, Tensor] = {}
    for file in files:
        weights.update(_tensors(folder / file, read_tensors(folder / file)))
    absent = sorted(name for name in weight_map if name not in weights)
    if absent:
        raise ValueError(
            f"{folder} is not complete: {weight_map[absent[0]]} lacks {absent[0]}, which {INDEX} "
            f"says it has (and {len(absent) - 1} more)"
        )
    return weights


def _tensors(path: Path, content: Any) -> dict[str, Tensor]:
    """Return the tensors of a file of weights, which holds them alone or in one section."""
    if isinstance(content, Mapping):
        content = next((content[key] for key in SECTIONS if key in content), content)
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path}: must hold named tensors, alone or as {' or '.join(SECTIONS)}")
    return _named(path, content)


def _named(path: Path, content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return named tensors, which nothing else may be among."""
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{path}: must hold named tensors, alone or as {' or '.join(SECTIONS)}; "
                f"got {type(value).__name__} as {name!r}"
            )
    return dict(content)


def _without_prefix(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    return name


def read_tensors(path: Path) -> Any:
    """Read a pickle (``torch.save``) or safetensors file; never runs what a pickle contains.

    Raises:
        FileNotFoundError: If there is no such file, or it is no regular one.
        ValueError: If it is damaged, or a pickle of more than tensors and plain values.
    """
    if not path.is_file():  # opening a named pipe waits for a writer
        raise FileNotFoundError(f"no such file: {path}")
    with path.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise ValueError(
                f"{path} is a placeholder of git-lfs, not the weights: "
                "fetch them with `git lfs pull`"
            )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():  # torch warns of pickles, and then refuses them
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message names the function that the pickle would call.
        foreign = re.search(r"GLOBAL\s+`?([\w.]+)", str(error))
        if foreign is None:
            raise ValueError(
                f"{path} is damaged, or holds more than tensors and plain values; nothing in it "
                "was run"
            ) from error
        raise ValueError(
            f"{path} holds more than tensors and plain values: {foreign.group(1)}. Loading that "
            "could run code of its author's choice, so it is not loaded. Whoever trusts the file "
            "can save the weights alone, where it was made: "
            "torch.save({'state_dict': model.state_dict()}, 'state_dict.pth')"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in reading
        known = isinstance(error, (SafetensorError, RuntimeError)) and "weights_only" not in str(
            error
        )
        reason = f": {str(error).partition('. ')[0].strip()}" if known else ""
        raise ValueError(f"{path} is damaged, or not a file of weights{reason}") from error
