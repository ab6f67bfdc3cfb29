"""The typed schema of a configuration, and reading one from YAML.

A configuration is an OmegaConf ``DictConfig`` of the schema :class:`FoviConfig`, read-only. A
misspelt key or a wrong type is a :class:`ConfigError` that names the key, where it was written and
what is allowed. Lists are replaced, never merged.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fovigraph._checks import (
    finite_float,
    fraction,
    nearest,
    one_of,
    path_of,
    positive_float,
    positive_int,
    shown,
)
from fovigraph._plain import (
    DEEPEST,
    References,
    as_plain,
    read_text,
    read_value,
    read_yaml,
    said,
)
from fovigraph._plain import ConfigError as ConfigError
from fovigraph._shipped import config_names as config_names
from fovigraph._shipped import shipped_folder

MOST_CHANNELS = 2**20
"""Channels of a layer, and classes: two layers of so many have terabytes of weights."""

MOST_FIXATIONS = 100_000
"""Fixations of an image."""


@dataclass
class RetinaConfig:
    """What the eye samples, and how.

    Attributes:
        side: The sensor array is matched to an image of ``side``² pixels.
        fov: Diameter of the field of view, degrees.
        cmf_a: The constant *a* of the cortical magnification, degrees; smaller is more foveated.
        layout: Where the nodes lie in the field of view, as :class:`~fovigraph.SensorArray` says.
        field_geometry: The sensor manifold, as :class:`~fovigraph.SensorArray` says.
        sampling: How pixels are read: ``"nearest"``, ``"bilinear"`` or ``"area"``.
        acuity: For the sampling ``"area"``: finest cells across the field of view; ``None``: any.
        fixation_size: Pixels that the field of view's diameter spans; ``None``: the policy's.
        color_decay: Eccentricity scale at which colour fades, degrees; ``None``: it does not.
        mean: What is subtracted from red, green and blue, in [0, 1]; ``None``: nothing.
        std: What they are divided by then; given with ``mean`` or not at all.
    """

    side: int = 64
    fov: float = 16.0
    cmf_a: float = 0.5
    layout: str = "isotropic"
    field_geometry: str = "planar"
    sampling: str = "nearest"
    acuity: float | None = None
    fixation_size: float | None = None
    color_decay: float | None = None
    mean: list[float] | None = None
    std: list[float] | None = None

    def __post_init__(self) -> None:
        check_types("retina", self)
        positive_int("retina.side", self.side)
        positive_float("retina.fov", self.fov)
        positive_float("retina.cmf_a", self.cmf_a)
        if self.acuity is not None:
            positive_float("retina.acuity", self.acuity)
        if self.fixation_size is not None:
            positive_float("retina.fixation_size", self.fixation_size)
        if self.color_decay is not None:
            positive_float("retina.color_decay", self.color_decay)
        if (self.mean is None) != (self.std is None):
            raise ValueError("retina.mean and retina.std must be given together or not at all")
        if self.mean is not None and self.std is not None:
            if not len(self.mean) == len(self.std) == 3:
                raise ValueError(
                    "retina.mean and retina.std must have 3 entries, red, green and blue, "
                    f"got {self.mean} and {self.std}"
                )
            for i, value in enumerate(self.std):
                positive_float(f"retina.std[{i}]", value)


@dataclass
class FixationConfig:
    """Where the eye looks.

    Attributes:
        policy: Name of the fixation policy.
        count: Fixations per image.
        eval_count: Fixations per image in evaluation; ``None``: ``count``.
        area: Smallest and largest fraction of the image's area that a fixation covers in training.
        aspect: Smallest and largest ratio of its width to its height in training.
        eval_area: Fraction of the image's area that a fixation covers in evaluation.
        spread: How far from the image's centre a fixation may be, as a fraction of the image.
        center_first: Whether the first fixation is at the centre.
        in_eval: Where to look in evaluation, as :class:`~fovigraph.FixationPolicy` says: in
            ``"fixed"`` places, ``"random"`` ones, or at the ``"center"``.
        fixations: For the policy ``"explicit"``, its ``count`` places (row, column) in [0, 1].
    """

    policy: str = "near_center"
    count: int = 4
    eval_count: int | None = None
    area: list[float] = field(default_factory=lambda: [1.0, 1.0])
    aspect: list[float] = field(default_factory=lambda: [1.0, 1.0])
    eval_area: float = 1.0
    spread: float = 0.25
    center_first: bool = False
    in_eval: str = "fixed"
    fixations: list[list[float]] | None = None

    def __post_init__(self) -> None:
        check_types("fixation", self)
        positive_int("fixation.count", self.count, MOST_FIXATIONS)
        if self.eval_count is not None:
            positive_int("fixation.eval_count", self.eval_count, MOST_FIXATIONS)
        _check_range("fixation.area", self.area)
        _check_range("fixation.aspect", self.aspect)
        positive_float("fixation.eval_area", self.eval_area)
        fraction("fixation.spread", self.spread)


@dataclass
class BackboneConfig:
    """What all backbones share: a name, by which :data:`BACKBONES` finds the rest."""

    name: str = "alexnet"


@dataclass
class AlexNetConfig(BackboneConfig):
    """A stack of kNN convolutions, some followed by a pool.

    Attributes:
        name: ``"alexnet"``.
        channels: Output channels of every layer.
        strides: Stride of every layer.
        k: Neighbours of every layer's convolution.
        kernel_multiplier: The reference kernel's side is ``ceil(kernel_multiplier * sqrt(k))``.
        pool_after: Layers (from 0) that a pool follows.
        pool: The reduction of these pools.
        pool_k: Their neighbours.
        pool_stride: Their stride.
        out_side: Mean pool at the end to the array matched to this side; ``None``: no such pool.
        conv: ``"full"``, ``"depthwise"`` or ``"depthwise_separable"``.
        norm: The normalisation after every convolution.
        metric: What makes neighbours near, as :func:`~fovigraph.knn_graph` says.
    """

    channels: list[int] = field(default_factory=lambda: [96, 256, 384, 384, 256])
    strides: list[int] = field(default_factory=lambda: [2, 1, 1, 1, 1])
    k: list[int] = field(default_factory=lambda: [121, 25, 9, 9, 9])
    kernel_multiplier: float = 2.0
    pool_after: list[int] = field(default_factory=lambda: [0, 1, 4])
    pool: str = "max"
    pool_k: int = 9
    pool_stride: int = 2
    out_side: int | None = 1
    conv: str = "full"
    norm: str = "batch"
    metric: str = "cortical"

    def __post_init__(self) -> None:
        check_types("backbone", self)
        layers = len(self.channels)
        if layers == 0:
            raise ValueError("backbone.channels must have at least one entry, got []")
        for name in ("channels", "strides", "k"):
            values = getattr(self, name)
            if len(values) != layers:
                raise ValueError(
                    f"backbone.{name} must have {layers} entries like backbone.channels, "
                    f"got {len(values)}"
                )
            _check_counts(f"backbone.{name}", values)
        _check_counts("backbone.channels", self.channels, MOST_CHANNELS)
        for layer in self.pool_after:
            if not 0 <= layer < layers:
                raise ValueError(
                    f"backbone.pool_after must name layers from 0 to {layers - 1}, got {layer}"
                )
        if len(set(self.pool_after)) < len(self.pool_after):
            raise ValueError(
                f"backbone.pool_after must name each layer once, got {self.pool_after}"
            )
        positive_float("backbone.kernel_multiplier", self.kernel_multiplier)
        positive_int("backbone.pool_k", self.pool_k)
        positive_int("backbone.pool_stride", self.pool_stride)
        if self.out_side is not None:
            positive_int("backbone.out_side", self.out_side)


@dataclass
class ProjectorConfig:
    """The MLP after the backbone.

    Attributes:
        channels: Output channels of every layer; none: no projector.
        norm: The normalisation after every layer.
        dropout: Probability that an activation is dropped in training.
    """

    channels: list[int] = field(default_factory=lambda: [1024, 1024])
    norm: str = "batch"
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_types("projector", self)
        _check_counts("projector.channels", self.channels, MOST_CHANNELS)
        fraction("projector.dropout", self.dropout)


@dataclass
class HeadConfig:
    """The linear probe.

    Attributes:
        num_classes: Number of classes.
        class_names: Their names, in order; ``None``: their numbers, from 0.
        dropout: Probability that an embedding's entry is dropped in training.
        temperature: What logits are divided by in evaluation, so that probabilities are calibrated.
        sharpening: With F fixations, their joint log-probabilities are multiplied by
            F^sharpening in evaluation: the more looks agree, the surer.
    """

    num_classes: int = 1000
    class_names: list[str] | None = None
    dropout: float = 0.5
    temperature: float = 1.0
    sharpening: float = 0.0

    def __post_init__(self) -> None:
        check_types("head", self)
        positive_int("head.num_classes", self.num_classes, MOST_CHANNELS)
        if self.class_names is not None:
            check_class_names("head.class_names", self.class_names, self.num_classes)
        fraction("head.dropout", self.dropout)
        positive_float("head.temperature", self.temperature)
        finite_float("head.sharpening", self.sharpening)


@dataclass
class FoviConfig:
    """A whole foveated network: the schema that every configuration is read against."""

    retina: RetinaConfig = field(default_factory=RetinaConfig)
    fixation: FixationConfig = field(default_factory=FixationConfig)
    backbone: BackboneConfig = field(default_factory=AlexNetConfig)
    projector: ProjectorConfig = field(default_factory=ProjectorConfig)
    head: HeadConfig = field(default_factory=HeadConfig)


BACKBONES: dict[str, type[BackboneConfig]] = {"alexnet": AlexNetConfig}
"""The schema of each backbone, by ``backbone.name``."""

LONGEST_KEY = 100
"""Characters that errors quote of a key that is none."""

TRAINING = ("data", "augment", "objective", "optimizer", "train")
"""The sections that a training recipe (:mod:`fovigraph.train`) adds to a network's."""


def check_class_names(argument: str, names: Sequence[str], count: int) -> None:
    """Refuse names that are not one for each of ``count`` classes, distinct and not empty."""
    if len(names) != count:
        raise ValueError(f"{argument} must be {count} names, one for each class, got {len(names)}")
    if any(not name.strip() for name in names):
        raise ValueError(f"{argument} must not be empty, got {list(names)}")
    if len(set(names)) < count:
        twice = next(name for name in names if list(names).count(name) > 1)
        raise ValueError(f"{argument} must be distinct, got {twice!r} more than once")


def check_types(name: str, section: Any) -> None:
    """Check that a section's fields are of the types that its dataclass says.

    Raises:
        TypeError: If not, with the section's ``name`` and the field's.
    """
    for key, kind in get_type_hints(type(section)).items():
        value = getattr(section, key)
        try:
            _typed(value, kind)
        except TypeError:
            wanted = _described(kind)
            raise TypeError(f"{name}.{key} must be {wanted}, got {shown(value)}") from None


def _check_counts(name: str, values: Sequence[int], most: int | None = None) -> None:
    for i, value in enumerate(values):
        positive_int(f"{name}[{i}]", value, most)


def _check_range(name: str, values: Sequence[float]) -> None:
    if len(values) != 2 or not 0 < values[0] <= values[1] < float("inf"):
        raise ValueError(
            f"{name} must be two numbers above 0, the smaller first, got {list(values)}"
        )


def load_config(
    name_or_path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    schema: type[FoviConfig] = FoviConfig,
    defaults: Mapping[str, Any] | None = None,
) -> DictConfig:
    """Read a configuration.

    A YAML file may begin with ``base: other`` (a name, or a path relative to the file) and then
    states only what differs. What no file states has the schema's default. A file or override that
    changes ``backbone.name`` starts that backbone from its own defaults. ``${retina.side}`` stands
    for the value of that key; nothing else is evaluated, so that a stranger's file can be read.

    Args:
        name_or_path: One of :func:`config_names`, or the path of a YAML file (with its suffix).
        overrides: ``"dotted.key=value"`` strings with the value in YAML, applied in order (but
            ``backbone.name`` first).
        schema: What it is read against. Of a training recipe, :class:`FoviConfig` reads the
            network and leaves the :data:`TRAINING` sections alone.
        defaults: Nested mappings, for what no file and no override states, before the schema's.

    Returns:
        A ``DictConfig`` of that schema, complete and read-only;
        ``OmegaConf.to_object`` makes the dataclasses of it.

    Raises:
        ConfigError: If something cannot be found or read, or does not fit the schema.

    Example:
        >>> from fovigraph.config import load_config
        >>> config = load_config("fovi_alexnet", overrides=["fixation.count=2"])
        >>> config.fixation.count, config.backbone.k
        (2, [121, 25, 9, 9, 9])
    """
    path = _find(name_or_path)
    if isinstance(overrides, (str, bytes)) or not isinstance(overrides, Sequence):
        raise ConfigError(
            f"overrides must be a list of 'dotted.key=value' strings, got {shown(overrides)}"
        )
    if not (isinstance(schema, type) and issubclass(schema, FoviConfig)):
        raise ConfigError(f"schema must be FoviConfig or a class of it, got {shown(schema)}")
    layers = [_parse_override(override) for override in overrides]
    # Which backbone it is must be known before its settings are.
    layers.sort(key=lambda layer: _backbone_name(layer.content) is None)
    where = ", ".join([str(path), *(layer.source for layer in layers)])
    below = [] if defaults is None else [_Layer("defaults", defaults)]
    return _compose(below + _read_layers(path) + layers, where, schema)


def as_config(
    config: DictConfig | Mapping[str, Any] | FoviConfig, *, schema: type[FoviConfig] = FoviConfig
) -> DictConfig:
    """Validate a mapping as :func:`load_config` does a file, and complete it with the defaults.

    Args:
        config: Nested mappings like a YAML file's (without ``base``), or a :class:`FoviConfig`.
        schema: What it is read against, as in :func:`load_config`.

    Returns:
        A new ``DictConfig`` of that schema, complete and read-only.

    Raises:
        ConfigError: If it does not fit the schema.
    """
    content = as_plain(config, "config")
    if not isinstance(content, dict):
        raise ConfigError(
            f"config must be a mapping like a configuration file's, got {shown(config)}; "
            "load_config reads one by name or path"
        )
    return _compose([_Layer("config", content)], "config", schema)


def save_config(config: DictConfig | Mapping[str, Any] | FoviConfig, path: str | Path) -> None:
    """Write the complete configuration to a YAML file, from which :func:`load_config` reads it.

    Raises:
        ConfigError: If ``config`` does not fit the schema.
        TypeError: If ``path`` is no path.
        OSError: If the file cannot be written.
    """
    text = OmegaConf.to_yaml(as_config(config))
    path_of("path", path).write_text(text, encoding="utf-8")


def _find(name_or_path: Any, *, within: Path | None = None) -> Path:
    """Return the file meant by a name or path; ``within`` is the file whose ``base`` it is."""
    said_by = f"{within}: base" if within else "name_or_path"
    text = os.fspath(name_or_path) if isinstance(name_or_path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise ConfigError(
            f"{said_by} must be the name of a configuration or the path of a YAML file, "
            f"got {shown(name_or_path)}"
        )
    names = config_names()
    if name_or_path in names:
        return shipped_folder() / f"{text}.yaml"
    if isinstance(name_or_path, str) and Path(text).name == text and not Path(text).suffix:
        hint = nearest(text, names)
        raise ConfigError(
            f"{said_by} must be the path of a YAML file or one of "
            f"{', '.join(map(repr, names))}, got {shown(text)}"
            + (f" (did you mean {hint!r}?)" if hint else "")
        )
    path = Path(text)
    try:
        path = path.expanduser()
        path = within.parent / path if within else path
        there = path.is_file()
    except (OSError, RuntimeError, ValueError):  # too long, no such user, a NUL in it
        there = False
    if not there:
        raise ConfigError(f"{said_by} must be an existing file, got {shown(str(path))}")
    return path


@dataclass
class _Layer:
    """Part of a configuration: nested mappings, and where they were written."""

    source: str
    content: Mapping[Any, Any]


def _read_layers(path: Path, below: tuple[Path, ...] = ()) -> list[_Layer]:
    """Read a file and what it is based on, the base first; ``below`` are the files based on it."""
    chain = (*below, path)
    if path.resolve() in [other.resolve() for other in below]:
        raise ConfigError(f"base makes a cycle: {' → '.join(map(str, chain))}")
    if len(below) > DEEPEST:
        raise ConfigError(f"{path}: base must lead through at most {DEEPEST} files")
    content = as_plain(read_yaml(read_text(path), str(path)), str(path))
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold 'key: value' pairs, got {shown(content)}")
    base = content.pop("base", None)
    based_on = [] if base is None else _read_layers(_find(base, within=path), chain)
    return [*based_on, _Layer(str(path), content)]


def _parse_override(override: Any) -> _Layer:
    source = f"override {shown(override)}"
    match = isinstance(override, str) and re.fullmatch(
        r"\s*(?P<key>[\w-]+(\.[\w-]+)*)\s*=(?P<value>.*)", override, re.DOTALL
    )
    if not match:
        raise ConfigError(f"{source}: must be of the form 'dotted.key=value'")
    content = read_value(match["value"], source)
    for key in reversed(match["key"].split(".")):
        content = {key: content}
    return _Layer(source, as_plain(content, source))


def _compose(layers: Sequence[_Layer], where: str, schema: type[FoviConfig]) -> DictConfig:
    """Lay ``layers`` over the schema's defaults, each over the last, and check the whole."""
    config: DictConfig = OmegaConf.structured(schema)
    beside = set(TRAINING) - set(config)
    for layer in layers:
        layer.content = {key: layer.content[key] for key in layer.content if key not in beside}
        _rename(layer.content)
        name = _backbone_name(layer.content)
        if name is not None and not (isinstance(name, str) and name == config.backbone.name):
            try:
                config.backbone = BACKBONES[one_of("backbone.name", name, BACKBONES)]()
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{layer.source}: {error}") from None
        _merge(config, layer.content, layer.source, root=config)
    stated: Any = OmegaConf.to_container(config)
    try:
        followed = References(stated).within()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if followed != stated:
        _merge(config, followed, where, root=config)
    try:
        if missing := sorted(OmegaConf.missing_keys(config)):
            raise ValueError(f"{', '.join(missing)} must be given a value, got '???'")
        OmegaConf.to_object(config)  # makes the dataclasses, which check themselves
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}: {said(error)}") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from None
    OmegaConf.set_readonly(config, True)
    return config


def _rename(content: dict[Any, Any]) -> None:
    """Give keys that released versions wrote under another name the present one."""
    fixation = content.get("fixation")
    if isinstance(fixation, Mapping) and isinstance(fixation.get("random_in_eval"), bool):
        fixation = dict(fixation)
        in_eval = "random" if fixation.pop("random_in_eval") else "center"
        content["fixation"] = {"in_eval": in_eval, **fixation}


def _backbone_name(content: Mapping[Any, Any]) -> Any:
    section = content.get("backbone")
    return section.get("name") if isinstance(section, Mapping) else None


def _merge(
    node: DictConfig, content: Mapping[Any, Any], source: str, *, root: DictConfig, prefix: str = ""
) -> None:
    """Write ``content`` into the typed ``node``, whose keys begin with ``prefix``."""
    schema = get_type_hints(OmegaConf.get_type(node))
    for key, value in content.items():
        word = key if isinstance(key, str) and len(key) <= LONGEST_KEY else shown(key)
        path = f"{prefix}{word}"
        if key not in schema:
            raise ConfigError(f"{source}: {path} is not a key{_suggestion(word, prefix, root)}")
        if dataclasses.is_dataclass(schema[key]) and isinstance(value, Mapping):
            _merge(node[key], value, source, root=root, prefix=f"{path}.")
            continue
        try:
            OmegaConf.update(node, key, _typed(value, schema[key]))
        except TypeError:
            wanted = _described(schema[key])
            raise ConfigError(f"{source}: {path} must be {wanted}, got {shown(value)}") from None
        except OmegaConfBaseException as error:
            raise ConfigError(f"{source}: {said(error)}") from None


def _typed(value: Any, kind: Any) -> Any:
    """Return ``value`` as a field of type ``kind`` holds it, or raise a bare TypeError.

    Stricter than OmegaConf, which would take "3", nested lists or 2 for a whole number, a list of
    them or true. Types that are not known here are left to it.
    """
    if dataclasses.is_dataclass(kind):
        raise TypeError
    if isinstance(value, str) and ("${" in value or value == "???"):
        return value  # resolved, or found missing, once all is composed
    if get_origin(kind) in (Union, UnionType):
        if value is None and NoneType in get_args(kind):
            return None
        kinds = [option for option in get_args(kind) if option is not NoneType]
        return _typed(value, kinds[0]) if len(kinds) == 1 else value
    if get_origin(kind) is list:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise TypeError
        return [_typed(entry, get_args(kind)[0]) for entry in value]
    if kind is int and isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if kind is float and isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    if kind in (int, float) or (kind in (str, bool) and not isinstance(value, kind)):
        raise TypeError
    return value


def _described(kind: Any) -> str:
    """A type of the schema in words."""
    words = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_described(option) for option in get_args(kind))
    if get_origin(kind) is list:
        return f"a list, each entry {_described(get_args(kind)[0])}"
    if dataclasses.is_dataclass(kind):
        return "a section of 'key: value' pairs"
    return "null" if kind is NoneType else words.get(kind, str(kind))


def _suggestion(key: str, prefix: str, root: DictConfig) -> str:
    """The valid key nearest to a misspelt one: in its section, else in any, else the section's."""
    keys = list(_keys(OmegaConf.to_container(root)))
    section = [known for known in keys if known.rpartition(".")[0] == prefix.rstrip(".")]
    for known in (section, keys):
        names = {path: path.rpartition(".")[2] for path in known}
        if near := nearest(key, dict.fromkeys(names.values())):
            paths = [path for path, name in names.items() if name == near]
            return f" (did you mean {' or '.join(paths)}?)"
    return f"; {prefix.rstrip('.') or 'a configuration'} has {', '.join(section)}"


def _keys(content: Any, prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")
