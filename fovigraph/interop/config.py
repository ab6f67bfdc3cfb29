"""Conversion of configurations: upstream's to ours, and ours to upstream's.

Retina, fixation, projector and head are converted here, for all networks; each family of backbones
has a file of its own (as :mod:`fovigraph.interop.alexnet`), which registers its mapping.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from fovigraph._checks import shown
from fovigraph.config import ConfigError, FoviConfig, as_config
from fovigraph.geometry import cmf_a_of_pixels
from fovigraph.geometry.layout import EXTENTS, NORMS
from fovigraph.interop.family import family_of, upstream_family
from fovigraph.interop.upstream_config import UpstreamConfig, only, reverse
from fovigraph.models.aggregation import LEARNT
from fovigraph.sensing import RetinaConfig
from fovigraph.sensing.retina_config import ARRAY

log = logging.getLogger(__name__)

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]

ASPECT = [3 / 4, 4 / 3]
"""The range of aspect ratios in training, where upstream varies them."""


IRRELEVANT = (
    "barlow.*",
    "data.*",  # but data.num_classes
    "dist.*",
    "hydra.*",
    "logging.*",
    "pretrained_model.*",
    "simclr.*",
    "training.*",  # but training.resolution
    "transforms.*",  # but transforms.normalize
    "validation.*",  # but validation.no_color
    "vicreg.*",
    "model.dropout_all",
    "model.dropout_probes",
    "model.final_grid_size",
    "model.output_mode",
    "saccades.branches",
    "saccades.camera_model",  # for field_geometry: spherical
    "saccades.circular",
    "saccades.fix_ior_width",
    "saccades.fix_temp",
    "saccades.fixation_noise",
    "saccades.fov_reference_side",
    "saccades.gaze_convention",
    "saccades.isotropic_plotting_type",
    "saccades.n_fixations_val",
    "saccades.sampler_backend",
    "saccades.ssl_policy",
    # Used with some fixation policies only.
    "saccades.add_aspect_variation",
    "saccades.fixation_size",
    "saccades.fixation_size_*",
    "saccades.fovea",
    "saccades.n_fixations",
    "saccades.nearcenter_dist",
    "saccades.nonrandom_first",
)
"""Patterns of keys that do not change a trained network's output, or only with some values of other
keys. Each family has a few more."""

LAYOUTS = {
    "isotropic": "isotropic",
    "isotropic_fixn": "isotropic_fixn",
    "logpolar": "logpolar_image",
    "warped_cartesian": "warped_cartesian",
    "uniform": "uniform_square",
}
"""``saccades.mode`` → our ``retina.layout``."""

POLICIES = {
    "multi_random": ("random_crop", True),
    "multi_random_train": ("random_crop", False),
    "multi_random_nearcenter": ("near_center", True),
    "multi_random_nearcenter_train": ("near_center", False),
    "none": ("center", True),
    "MultiRandomSaccadePolicy": ("random_crop", True),
    "NoSaccadePolicy": ("center", True),
}
"""``saccades.sup_policy`` → our policy, and whether its fixations are random in evaluation."""

SAMPLERS = {"grid_nn": "nearest", "grid_bilinear": "bilinear", "pooling": "knn_mean"}
"""``saccades.sampler`` → our ``retina.sampling``."""

AGGREGATIONS = {
    "mean": "mean",
    "force_mean": "mean_logits",
    "rnn": "rnn",
    "gru": "gru",
    "attn": "attention_alone",
}
"""``saccades.fix_agg`` → our ``head.aggregation``."""

NO_AGGREGATIONS = {
    "lstm": "upstream's cannot run",
    "attention": "upstream's attends across the images of a batch, as attention_alone does of one",
}
"""Why our others are not exchanged."""

_WIDTH = 128
"""Width of upstream's learnt aggregations."""

_CLASSES = 1000
"""What is written of a network without a probe, of whose classes upstream asks for a number."""

_GROUPS = 32
"""Groups of upstream's projector norm, whatever the channels."""


def read_config(content: Mapping[Any, Any], source: str = "config") -> FoviConfig:
    """Return our configuration of the network that one of upstream's describes.

    Args:
        content: Nested mappings, as upstream's 1.x and 2.x write them.
        source: Where they were read, for errors.

    Raises:
        ConfigError: If a key is missing, or has a value that is not allowed or not supported yet.
            The message names the key.
    """
    theirs = UpstreamConfig(content, source)
    family = upstream_family(theirs)
    _refuse(theirs)
    retina = _retina(theirs)
    backbone = family.read_config(theirs, retina)
    if (reason := _masked_norm(retina, backbone.get("norm"))) is not None:
        theirs.fail("model.norm", reason)
    ours = {
        "retina": retina,
        "fixation": _fixation(theirs, retina),
        "backbone": backbone,
        "projector": _projector(theirs),
        "head": _head(theirs),
    }
    unknown = theirs.not_looked_at((*IRRELEVANT, *family.irrelevant))
    if unknown:
        log.warning("%s: unknown keys are ignored: %s", source, ", ".join(unknown))
    try:
        return as_config(ours)
    except ConfigError as error:
        raise ConfigError(f"{source}: as a configuration of fovigraph, {error}") from None


def write_config(config: FoviConfig) -> dict[str, Any]:
    """Return upstream's configuration of the network that one of ours describes.

    Args:
        config: A configuration (:func:`fovigraph.load_config`).

    Returns:
        Nested mappings, complete for upstream to build the network and to run it.

    Raises:
        ConfigError: If it is not a configuration, or upstream has no equivalent. The message names
            our key.
    """
    config = as_config(config)
    family = family_of(config.backbone)
    retina = {key: getattr(config.retina, key) for key in ("side", *ARRAY)}
    if (reason := _masked_norm(retina, getattr(config.backbone, "norm", None))) is not None:
        raise ConfigError(f"backbone.norm {reason}")
    flat = {
        "model.arch": family.names[0],
        **_write_retina(config),
        **_write_fixation(config),
        **family.write_config(config.backbone),
        "data.num_classes": config.head.num_classes or _CLASSES,
        "training.loss": "supervised",
        "training.amp_dtype": "float16",
        "training.load_cpu": 0,
        "transforms.where": "pre_warp",
        **{f"transforms.{name}": 0 for name in ("flip", "color_jitter", "gray", "blur")},
    }
    flat |= _write_projector(config, flat["model.norm"])
    theirs = OmegaConf.create()
    for key, value in flat.items():
        OmegaConf.update(theirs, key, value, force_add=True)
    nested = OmegaConf.to_container(theirs)
    assert isinstance(nested, dict)
    return {str(section): content for section, content in nested.items()}


def _refuse(theirs: UpstreamConfig) -> None:
    """Refuse, by key, what upstream supports and fovigraph does not."""
    mode = theirs.get("saccades.mode")
    if mode is None or str(mode).endswith("_as_grid"):
        theirs.fail(
            "saccades.mode",
            f"must be one of {', '.join(map(repr, LAYOUTS))} for a network on graphs, "
            f"got {shown(mode)}: then upstream gives images to a dense network",
        )
    matched = theirs.whole("saccades.auto_match_cart_resources")
    if matched <= 0:
        theirs.fail(
            "saccades.auto_match_cart_resources",
            f"must be 1, got {matched}: without matching, upstream's pools do not start from the "
            "level of the convolution before them, and the last one stays on its level",
        )
    channels = theirs.whole("model.in_channels", 3)
    if channels != 3:
        theirs.fail("model.in_channels", f"must be 3 (red, green, blue), got {channels}")


def _masked_norm(retina: Mapping[str, Any], norm: Any) -> str | None:
    """Return why a norm of ours is not upstream's on a retina; ``None``: it is."""
    if norm not in ("node", "layer", "group"):
        return None
    try:
        mask = RetinaConfig(**retina).array().mask
    except (TypeError, ValueError):  # which is said where the configuration is read
        return None
    return (
        None
        if mask is None
        else (
            "must be one of 'batch', 'channel', 'none' with a masked layout: of others, upstream "
            f"takes the statistics of masked nodes too, got {norm!r}"
        )
    )


AUTO = ("auto", -1)
"""Values of ``saccades.cmf_a`` for which upstream chooses it when it builds the network."""


def _retina(theirs: UpstreamConfig) -> dict[str, Any]:
    normalised = theirs.flag("transforms.normalize", 1)
    darkening = theirs.get("saccades.color_sigma", None)
    if darkening is not None:
        darkening = theirs.number("saccades.color_sigma")
    layout = theirs.choice("saccades.mode", LAYOUTS)
    extent = theirs.choice("saccades.fov_type", {name: name for name in EXTENTS}, "circular")
    if (layout, extent) == ("isotropic_fixn", "circular"):
        log.warning(
            "%s: saccades.mode 'isotropic_fixn': upstream draws at random which rings lose nodes, "
            "whenever it makes an array; here they follow a rule",
            theirs.source,
        )
    return {
        "side": theirs.whole("saccades.resize_size"),
        "layout": layout,
        "extent": extent,
        "norm": theirs.choice("saccades.radius_norm", {norm: norm for norm in NORMS}, 2.0),
        "fov": _fov(theirs),
        "cmf_a": _cmf_a(theirs),
        # Configurations without the key are older than the planar manifold.
        "field_geometry": theirs.choice(
            "saccades.field_geometry", {"planar": "planar", "legacy": "legacy"}, "legacy"
        ),
        "sampling": theirs.choice("saccades.sampler", SAMPLERS),
        "mean": IMAGENET_MEAN if normalised else None,
        "std": IMAGENET_STD if normalised else None,
        "darkening": darkening,
        "grey_in_eval": theirs.flag("validation.no_color", 0),
    }


def _cmf_a(theirs: UpstreamConfig) -> float:
    if theirs.get("saccades.cmf_a", None) is None:
        if theirs.get("saccades.mode") == "uniform":  # which does not use it
            return RetinaConfig().cmf_a
        fovea = theirs.get("saccades.fovea", None)
        if fovea is None:
            theirs.fail("saccades.cmf_a", "is missing (and so is its older form, saccades.fovea)")
        return theirs.number("saccades.fovea") / 2
    value = theirs.get("saccades.cmf_a")
    if value in AUTO:
        size = math.sqrt(_area(theirs)[1]) * theirs.number("saccades.fixation_size")
        try:
            return cmf_a_of_pixels(size, theirs.whole("saccades.resize_size"), _fov(theirs))
        except ValueError as error:
            theirs.fail("saccades.cmf_a", f"cannot be {value!r}: {error}")
    if isinstance(value, list):
        theirs.fail(
            "saccades.cmf_a",
            f"must be one number, got {shown(value)}: several are not supported yet",
        )
    return theirs.number("saccades.cmf_a")


def _fov(theirs: UpstreamConfig) -> float:
    """Return the field of view that upstream builds with, scaled by the size of a fixation."""
    fov = theirs.number("saccades.fov")
    if not theirs.flag("saccades.rescale_fov") and theirs.get("saccades.cmf_a", None) not in AUTO:
        size = theirs.number("saccades.fixation_size")
        resolution = theirs.number("training.resolution")
        if resolution <= 0:
            theirs.fail("training.resolution", f"must be above 0, got {resolution:g}")
        return fov * (size / resolution)
    low, high = _area(theirs)
    if low != high:
        theirs.fail(
            "saccades.rescale_fov",
            "must be 0 unless saccades.fixation_size_min_frac and …_max_frac are equal, got "
            f"{low} and {high}",
        )
    return fov * math.sqrt(low)


def _area(theirs: UpstreamConfig) -> tuple[float, float]:
    area = {}
    for end in ("min", "max"):
        key = f"saccades.fixation_size_{end}_frac"
        area[end] = theirs.number(key)
        if area[end] <= 0:
            theirs.fail(key, f"must be above 0, got {area[end]:g}")
    return area["min"], area["max"]


def _fixation(theirs: UpstreamConfig, retina: dict[str, Any]) -> dict[str, Any]:
    """Return our section ``fixation``; for the policy center, set ``retina.fixation_size``."""
    policy, random_in_eval = theirs.choice("saccades.sup_policy", POLICIES)
    if policy == "center":
        retina["fixation_size"] = theirs.number("saccades.fixation_size")
        return {"policy": policy, "count": 1}
    spread = {}
    if policy == "near_center":
        if theirs.get("saccades.nearcenter_dist") is None:
            policy = "random_crop"
        else:
            spread = {"spread": theirs.number("saccades.nearcenter_dist")}
    varied = theirs.flag("saccades.add_aspect_variation")
    return {
        "policy": policy,
        "count": theirs.whole("saccades.n_fixations"),
        "area": list(_area(theirs)),
        "aspect": ASPECT if varied else [1.0, 1.0],
        "eval_area": theirs.number("saccades.fixation_size_frac_val"),
        "center_first": theirs.flag("saccades.nonrandom_first", 0),
        "in_eval": "random" if random_in_eval else "center",
        **spread,
    }


def _head(theirs: UpstreamConfig) -> dict[str, Any]:
    head = {"dropout": _dropout(theirs), "aggregation_width": _WIDTH}
    given = theirs.get("saccades.fix_agg")
    if given is None:
        return {**head, "num_classes": 0, "aggregation": "mean"}
    classes = theirs.whole("data.num_classes")
    if classes < 1:
        theirs.fail(
            "data.num_classes",
            f"must be at least 1, got {classes}: for embeddings alone saccades.fix_agg is null",
        )
    if given == "lstm":
        allowed, reason = ", ".join(map(repr, AGGREGATIONS)), NO_AGGREGATIONS["lstm"]
        theirs.fail("saccades.fix_agg", f"must be null or one of {allowed}, got 'lstm': {reason}")
    aggregation = theirs.choice("saccades.fix_agg", AGGREGATIONS)
    return {**head, "num_classes": classes, "aggregation": aggregation}


def _dropout(theirs: UpstreamConfig) -> float:
    return 0.0 if theirs.get("model.dropout") is None else theirs.number("model.dropout")


def projector_channels(theirs: UpstreamConfig) -> list[int]:
    """Return the output channels of the projector's layers, written ``1024-1024``."""
    written = theirs.get("model.mlp")
    text = "" if written is None else str(written)
    try:
        return [int(part) for part in text.split("-")] if text else []
    except ValueError:
        theirs.fail("model.mlp", f"must be whole numbers joined by '-', got {shown(written)}")


def _projector(theirs: UpstreamConfig) -> dict[str, Any]:
    channels = projector_channels(theirs)
    if len(channels) == 1:  # it has no norm, and a ReLU where others have none
        theirs.flag("model.norm_mlp")
        return {
            "channels": channels,
            "norm": "none",
            "dropout": _dropout(theirs),
            "last_relu": True,
        }
    norm = "none"
    if theirs.flag("model.norm_mlp"):
        norm = "batch" if theirs.get("model.norm") == "force_batch" else "group"
    if norm == "group" and any(width < 4 * _GROUPS or width % _GROUPS for width in channels[:-1]):
        theirs.fail(
            "model.norm_mlp",
            f"must be 0, or model.norm be 'force_batch', with model.mlp {channels}: its group norm "
            f"has {_GROUPS} groups, as ours has from {4 * _GROUPS} channels in multiples of "
            f"{_GROUPS}",
        )
    return {"channels": channels, "norm": norm, "dropout": _dropout(theirs)}


def _write_retina(config: FoviConfig) -> dict[str, Any]:
    retina = config.retina
    only("retina.matching", retina.matching, "at_most")
    only("retina.max_val", retina.max_val, 1.0)
    only("retina.color_decay", retina.color_decay, None)
    if retina.sampling == "knn_mean":
        plain = RetinaConfig()
        for name in ("oversampling", "cmf_a_mult", "k", "metric"):
            only(f"retina.{name}", getattr(retina, name), getattr(plain, name))
    if retina.mean is not None and retina.std is not None:
        only("retina.mean", list(retina.mean), IMAGENET_MEAN)
        only("retina.std", list(retina.std), IMAGENET_STD)
    # The size of a fixation is the retina's for the policy center, and the policy's for others.
    if (retina.fixation_size is None) == (config.fixation.policy == "center"):
        needed = "a number" if config.fixation.policy == "center" else "null"
        raise ConfigError(
            f"retina.fixation_size must be {needed} with fixation.policy="
            f"{config.fixation.policy!r} to be written for upstream, got {retina.fixation_size}"
        )
    size = retina.fixation_size or 256.0
    return {
        "saccades.resize_size": retina.side,
        "saccades.auto_match_cart_resources": 1,
        "saccades.mode": reverse(LAYOUTS, "retina.layout", retina.layout),
        "saccades.fov_type": retina.extent,
        "saccades.radius_norm": retina.norm,
        "saccades.fov": retina.fov,
        "saccades.rescale_fov": 0,
        "saccades.cmf_a": retina.cmf_a,
        "saccades.field_geometry": retina.field_geometry,
        "saccades.sampler": reverse(SAMPLERS, "retina.sampling", retina.sampling),
        "saccades.color_sigma": retina.darkening,
        "validation.no_color": int(retina.grey_in_eval),
        # Equal, so that upstream does not scale the field of view.
        "saccades.fixation_size": int(size) if size == int(size) else size,
        "training.resolution": int(size) if size == int(size) else size,
        "transforms.normalize": int(retina.mean is not None),
    }


def _write_fixation(config: FoviConfig) -> dict[str, Any]:
    fixation = config.fixation
    # Upstream has no fixed fixations in evaluation: several are random there.
    random_in_eval = fixation.in_eval != "center" or fixation.policy == "center"
    if fixation.policy == "center":
        only("fixation.count", fixation.count, 1)
    aspect = [round(ratio, 3) for ratio in fixation.aspect]
    if aspect not in ([1.0, 1.0], [0.75, 1.333]):
        raise ConfigError(
            "fixation.aspect must be [1, 1] or [3/4, 4/3] to be written for upstream, "
            f"got {list(fixation.aspect)}"
        )
    return {
        "saccades.sup_policy": reverse(
            POLICIES,
            "(fixation.policy, fixation.in_eval is not center)",
            (fixation.policy, random_in_eval),
        ),
        "saccades.ssl_policy": "none",
        "saccades.n_fixations": fixation.count,
        "saccades.fixation_size_min_frac": fixation.area[0],
        "saccades.fixation_size_max_frac": fixation.area[1],
        "saccades.fixation_size_frac_val": fixation.eval_area,
        "saccades.nearcenter_dist": fixation.spread if fixation.policy == "near_center" else None,
        "saccades.nonrandom_first": int(fixation.center_first),
        "saccades.add_aspect_variation": int(aspect != [1.0, 1.0]),
        "saccades.fix_agg": _write_aggregation(config),
    }


def _write_aggregation(config: FoviConfig) -> str | None:
    """Return upstream's ``saccades.fix_agg``."""
    aggregation = config.head.aggregation
    if config.head.num_classes == 0:
        return None
    if aggregation in NO_AGGREGATIONS:
        raise ConfigError(
            f"head.aggregation must be one of {', '.join(map(repr, AGGREGATIONS.values()))} to be "
            f"written for upstream, got {aggregation!r}: {NO_AGGREGATIONS[aggregation]}"
        )
    if aggregation in LEARNT:
        only("head.aggregation_width", config.head.aggregation_width, _WIDTH)
    return str(reverse(AGGREGATIONS, "head.aggregation", aggregation))


def _write_projector(config: FoviConfig, norm: str) -> dict[str, Any]:
    """Return upstream's keys of the projector; ``norm`` is its ``model.norm`` of the backbone."""
    projector = config.projector
    only("head.dropout", config.head.dropout, projector.dropout)
    only("head.multi_label", config.head.multi_label, False)
    if projector.last_relu != (len(projector.channels) == 1):
        raise ConfigError(
            "projector.last_relu must be true with one entry of projector.channels and false with "
            "any other number to be written for upstream, "
            f"got {projector.last_relu} with {list(projector.channels)}"
        )
    if projector.norm == "batch":
        ours = getattr(config.backbone, "norm", "batch")
        only("backbone.norm (with projector.norm='batch')", ours, "batch")
        norm = "force_batch"
    elif projector.norm not in ("none", "group"):
        raise ConfigError(
            "projector.norm must be one of 'batch', 'group', 'none' to be written for upstream, "
            f"got {projector.norm!r}"
        )
    widths = list(projector.channels)[:-1]
    if projector.norm == "group" and any(w < 4 * _GROUPS or w % _GROUPS for w in widths):
        raise ConfigError(
            f"projector.channels must be multiples of {_GROUPS} from {4 * _GROUPS} on with "
            f"projector.norm='group' to be written for upstream, got {list(projector.channels)}"
        )
    return {
        "model.mlp": "-".join(map(str, projector.channels)),
        "model.norm": norm,
        "model.norm_mlp": int(projector.norm != "none"),
        "model.dropout": projector.dropout,
        "model.dropout_all": 1,
    }
