"""DINOv3 on foveated patches: transformers' own blocks, published weights, LoRA."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jaxtyping import Float
from torch import Tensor, nn

from fovigraph._checks import instance, one_of, path_of, positive_int, shown, whole_number
from fovigraph.geometry import SensorArray
from fovigraph.graph import GraphPyramid, Plan
from fovigraph.models._registry import register
from fovigraph.models.backbone import Backbone, Block
from fovigraph.models.lora import adapt, check_lora, plain
from fovigraph.models.vit import AGGREGATIONS, PatchConfig, aggregate, rows, with_tokens
from fovigraph.nn import KNNConv, Rotary

GATED = {"use_gated_mlp": True, "hidden_act": "silu"}

SIZES: dict[str, dict[str, Any]] = {
    name: {
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": blocks,
        "intermediate_size": 4 * width,
        "num_register_tokens": 4,
        **options,
    }
    for name, width, heads, blocks, options in (
        ("small", 384, 6, 12, {}),
        ("small_plus", 384, 6, 12, GATED),
        ("base", 768, 12, 12, {}),
        ("large", 1024, 16, 24, {}),
        ("huge_plus", 1280, 20, 32, GATED),
    )
}
"""The published sizes: values of transformers' ``DINOv3ViTConfig``."""

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")
"""The linear maps of a block that upstream adapts: all but the gate."""

LAYOUTS = ("layer.", "model.layer.", "encoder.layer.")
"""Where transformers' releases have the blocks."""


@dataclass(frozen=True)
class DINOv3Config(PatchConfig):
    """A DINOv3 vision transformer (Siméoni et al. 2025) on patches of the retina.

    Attributes:
        name: ``"dinov3"``.
        size: ``"small"``, ``"small_plus"``, ``"base"``, ``"large"`` or ``"huge_plus"``.
        options: Other values of transformers' ``DINOv3ViTConfig``, each as ``"key=value"``.
        aggregation: What becomes of the normalised tokens: ``"class"``, ``"mean"``,
            ``"mean_patches"``, ``"patches"`` or ``"tokens"``, as in
            :class:`~fovigraph.models.vit.ViTConfig`.
        trainable: Names of parts that learn, or patterns of names, besides adapters; ``None``: all
            of them, or with adapters none.
        lora_rank: Rank of low-rank adapters (:mod:`fovigraph.models.lora`); ``None``: none.
        lora_alpha: Their factor; ``None``: the rank.
        lora_blocks: Blocks that have them, from 0; -1: the patch embedding.
        lora_targets: Linear maps of these blocks that have them, by name.
    """

    name: str = "dinov3"
    kernel_size: int | None = 16
    size: str = "small_plus"
    options: Sequence[str] = ()
    aggregation: str = "class"
    trainable: Sequence[str] | None = None
    lora_rank: int | None = None
    lora_alpha: float | None = None
    lora_blocks: Sequence[int] = (-1, 0, 1, 2, 3, 4, 5)
    lora_targets: Sequence[str] = LORA_TARGETS

    def check(self) -> None:
        super().check()
        one_of("backbone.size", self.size, SIZES)
        one_of("backbone.aggregation", self.aggregation, AGGREGATIONS)
        values = self.values()
        width, heads = values["hidden_size"], values["num_attention_heads"]
        for key in ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size"):
            positive_int(f"{key} in backbone.options", values[key])
        whole_number("num_register_tokens in backbone.options", values["num_register_tokens"])
        if width % heads or width // heads % 4:
            raise ValueError(
                "backbone.options must have a hidden_size that is a multiple of 4 · "
                f"num_attention_heads, got {width} and {heads}"
            )
        check_lora(self, values["num_hidden_layers"])

    def values(self) -> dict[str, Any]:
        """Return the values of transformers' configuration that differ from its defaults."""
        values = dict(SIZES[self.size])
        for option in self.options:
            key, equals, value = option.partition("=")
            if not equals:
                raise ValueError(f"backbone.options must be like 'key=value', got {option!r}")
            values[key.strip()] = yaml.safe_load(value)
        return values

    @classmethod
    def of_transformers(cls, source: Any, **options: Any) -> DINOv3Config:
        """Return the configuration of a network of transformers.

        Args:
            source: A ``DINOv3ViTConfig``, or a folder with its ``config.json``.
            **options: Other keys of the section.

        Raises:
            ValueError: If it is the configuration of another model, or damaged.
            FileNotFoundError: If the folder has none.
        """
        values = dict(source) if isinstance(source, dict) else _read_values(source)
        if values.get("model_type") != "dinov3_vit":
            raise ValueError(
                "source must be the configuration of a dinov3_vit, got one of "
                f"{values.get('model_type')!r}"
            )
        known = _transformers().DINOv3ViTConfig().to_dict()
        base = SIZES["small_plus"]
        kept = {
            key: values[key]
            for key in {*known, *base}
            if key in values
            and not key.startswith("_")
            and key not in ("architectures", "model_type", "transformers_version", "dtype")
            and key not in ("torch_dtype", "stage_names", "out_features", "out_indices")
            and values[key] != base.get(key, known.get(key))
        }
        written = [f"{key}={json.dumps(value)}" for key, value in sorted(kept.items())]
        return cls(options=written, **options)


def _read_values(source: Any) -> dict[str, Any]:
    if hasattr(source, "to_dict"):
        return dict(source.to_dict())
    path = path_of("source", source) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"source must have a config.json, got {path.parent}")
    try:
        values = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"source: {path} cannot be read: it must be JSON ({error})") from None
    if not isinstance(values, dict):
        raise ValueError(f"source: {path} must hold keys and values, got {shown(values)}")
    return values


def _transformers() -> Any:
    """Return transformers' module of DINOv3.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        from transformers.models.dinov3_vit import modeling_dinov3_vit
    except ImportError as error:
        raise ImportError(
            "DINOv3 needs transformers 4.56 or newer: pip install 'fovigraph[vit]'"
        ) from error
    return modeling_dinov3_vit


class DINOv3Embedding(Block):
    """From the retina's samples to tokens: class token, register tokens, patches.

    Args:
        plan: The plan of the pyramid, which the block adds its step to.
        in_channels: Channels of the samples.
        config: The network's configuration.
    """

    def __init__(self, plan: Plan, in_channels: int, config: DINOv3Config):
        super().__init__()
        values = config.values()
        width, registers = values["hidden_size"], values["num_register_tokens"]
        self.runs_on["conv"] = step = plan.add(config.patch_step())
        assert step.kernel_size is not None  # it is a convolution's step
        self.conv = KNNConv(in_channels, width, step.kernel_size)
        self.class_token = nn.Parameter(torch.empty(1, width))
        self.register_tokens: nn.Parameter | None = None
        if registers:
            self.register_tokens = nn.Parameter(torch.empty(registers, width))
        for token in self.parameters(recurse=False):
            nn.init.trunc_normal_(token, std=0.02)
        # For masked images, which only DINOv3's own training has; kept for its checkpoints.
        self.mask_token = nn.Parameter(torch.zeros(1, width), requires_grad=False)

    def forward(
        self, x: Float[Tensor, "*batch N C"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch T D"]:
        """Map ``[*, N, in_channels]`` to tokens ``[*, 1 + registers + patches, D]``."""
        patches = self.run("conv", x, pyramid)
        return with_tokens(patches, self.class_token, self.register_tokens)


class DINOv3Block(Block):
    """A block of transformers' DINOv3.

    Args:
        layer: A ``DINOv3ViTLayer``.
        positions: Positions of the patches.
    """

    def __init__(self, layer: nn.Module, positions: Rotary):
        super().__init__()
        self.layer = layer
        self.positions = positions

    @property
    def mixes_all(self) -> bool:
        """True: all tokens attend to all."""
        return True

    def forward(
        self, x: Float[Tensor, "*batch T D"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch T D"]:
        """Map tokens to tokens."""
        tokens = x.reshape(-1, *x.shape[-2:])
        places = (self.positions.cos.to(x.dtype), self.positions.sin.to(x.dtype))
        out = self.layer(tokens, position_embeddings=places)
        return out.view(x.shape)  # type: ignore[no-any-return]


@register("dinov3", DINOv3Config)
class DINOv3(Backbone):
    """A DINOv3 vision transformer (Siméoni et al. 2025) whose patches are foveated.

    All blocks are transformers' own; patches and their positions are the retina's (FOVI, Blauch,
    Alvarez & Konkle 2026). Built with random weights: :meth:`load_published` takes published ones.

    Args:
        retina: The lowest level; or a ready pyramid, which the configuration must fit.
        config: The configuration.
        in_channels: Channels of the retina's samples.
        num_classes: Classes of a linear classifier on the aggregated tokens; ``None`` for no
            classifier.

    Attributes:
        prefix_tokens: The class token and the register tokens, which come before the patches in the
            features of every block.

    Raises:
        ValueError, TypeError: If the configuration does not fit the retina or the pyramid, or an
            argument is of another type.
        ImportError: If transformers, or with adapters peft, is not installed.
    """

    def __init__(
        self,
        retina: SensorArray | GraphPyramid,
        config: DINOv3Config,
        in_channels: int = 3,
        num_classes: int | None = None,
    ):
        super().__init__()
        library = _transformers()
        instance("config", config, DINOv3Config)
        positive_int("in_channels", in_channels)
        theirs = transformers_config(config)
        plan = Plan(retina, config.metric)
        embedding = DINOv3Embedding(plan, in_channels, config)
        head = theirs.hidden_size // theirs.num_attention_heads
        positions = Rotary(plan.levels[-1], head, config.position_space, theirs.rope_theta)
        blocks = []
        for _ in range(theirs.num_hidden_layers):
            layer = library.DINOv3ViTLayer(theirs)
            _draw(layer, theirs.initializer_range)
            blocks.append(DINOv3Block(layer, positions))
        self.aggregation = config.aggregation
        self.prefix_tokens = 1 + theirs.num_register_tokens
        self.assemble(
            [embedding, *blocks],
            plan,
            in_channels=in_channels,
            out_channels=theirs.hidden_size,
            num_classes=num_classes,
            rows=rows(config.aggregation, self.prefix_tokens, plan.num_nodes),
        )
        self.norm = nn.LayerNorm(theirs.hidden_size, eps=theirs.layer_norm_eps)
        adapt(self, config, _targets(self, config))

    @classmethod
    def from_config(cls, config: DINOv3Config, retina: SensorArray, in_channels: int = 3) -> DINOv3:
        """Build the backbone that a configuration describes on a retina."""
        return cls(retina, config, in_channels)

    def finish(self, x: Float[Tensor, "*batch T D"]) -> Tensor:
        """Normalise and aggregate the tokens; map them to logits, if there is a classifier."""
        return super().finish(aggregate(self.norm(x), self.aggregation, self.prefix_tokens))

    def input_weight(self) -> str | None:
        """The patch embedding's weight; ``None`` if an adapter takes the channels as well."""
        return "layers.0.conv.weight" if isinstance(self.layers[0].conv, KNNConv) else None

    @torch.no_grad()
    def load_published(self, folder: str | os.PathLike[str], *, patches: bool = True) -> None:
        """Take over published weights of a DINOv3 of the same size, tensor by tensor.

        The kernel of the patches is copied into the cells of the reference kernel; nothing is
        resampled where that has the kernel's side (16).

        Args:
            folder: A folder with ``config.json`` and ``*.safetensors``, as
                ``huggingface_hub.snapshot_download`` makes it (weights published by Meta need a
                token).
            patches: Whether to take over the kernel of the patches, too.

        Raises:
            FileNotFoundError: If there are no such files.
            ValueError: If they are of another model or size, or have blocks in several layouts.
        """
        source = path_of("folder", folder)
        kind = _read_values(source).get("model_type")
        if kind != "dinov3_vit":
            raise ValueError(f"folder must be of a dinov3_vit, got one of a {kind!r}")
        files = sorted(source.glob("*.safetensors"))
        if not files:
            raise FileNotFoundError(f"folder must have *.safetensors, got {source}")
        own = self._published_names()
        tensors = _published_tensors(files)
        missing = sorted(own.keys() - tensors.keys())
        if missing:
            raise ValueError(f"folder must have the tensors {missing[:5]}, got {source}")
        for name, (file, key) in tensors.items():
            if name in own:
                _take_over(name, own[name], _read_tensor(file, key))
        if patches:
            kernel, bias = (
                _read_tensor(*tensors[f"embeddings.patch_embeddings.{part}"])
                for part in ("weight", "bias")
            )
            _load_kernel(self.layers[0].conv, kernel, bias)

    def _published_names(self) -> dict[str, Tensor]:
        """Return our tensors by the names in transformers' newest layout, but for the kernel."""
        embedding, *blocks = self.layers
        names = {
            "embeddings.cls_token": embedding.class_token,
            "embeddings.mask_token": embedding.mask_token,
        }
        if embedding.register_tokens is not None:
            names["embeddings.register_tokens"] = embedding.register_tokens
        for index, block in enumerate(blocks):
            for name, value in block.layer.state_dict().items():
                if ".lora_" not in name:
                    plain = name.replace(".base_layer.", ".")
                    names[f"layer.{index}.{plain}"] = value
        return names | {f"norm.{name}": value for name, value in self.norm.state_dict().items()}


def transformers_config(config: DINOv3Config) -> Any:
    """Return transformers' ``DINOv3ViTConfig`` of a section ``backbone``.

    Raises:
        ValueError, TypeError: If an option is not one of transformers'.
        ImportError: If it is not installed.
    """
    library = _transformers()
    values, known = config.values(), library.DINOv3ViTConfig().to_dict()
    for key in values:
        one_of("backbone.options", key, known)
    theirs = library.DINOv3ViTConfig(**values)
    one_of("hidden_act in backbone.options", theirs.hidden_act, library.ACT2FN)
    theirs._attn_implementation = "sdpa"
    return theirs


def _draw(layer: nn.Module, deviation: float) -> None:
    """Draw the weights of a block as transformers does."""
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _targets(net: DINOv3, config: DINOv3Config) -> list[str]:
    """Return the names of the layers that have adapters."""
    if config.lora_rank is None:
        return []
    maps = [name for name, each in net.layers[-1].named_modules() if isinstance(each, nn.Linear)]
    for target in config.lora_targets:
        one_of("backbone.lora_targets", target, {name.rpartition(".")[2] for name in maps})
    names = ["layers.0.conv"] if -1 in config.lora_blocks else []
    for index in config.lora_blocks:
        if index >= 0:
            names += [f"layers.{index + 1}.layer.*.{target}" for target in config.lora_targets]
    return names


def _published_tensors(files: Sequence[Path]) -> dict[str, tuple[Path, str]]:
    """Return the file and key of every tensor, by its name in transformers' newest layout."""
    from safetensors import safe_open

    found: dict[str, tuple[Path, str]] = {}
    layouts: set[str] = set()
    for file in files:
        with safe_open(file, "pt") as content:
            for key in content.keys():  # noqa: SIM118  # it is no mapping
                layout = next((each for each in LAYOUTS if key.startswith(each)), None)
                if layout is not None:
                    layouts.add(layout)
                name = key if layout is None else "layer." + key.removeprefix(layout)
                found[name] = (file, key)
    if len(layouts) > 1:
        raise ValueError(
            f"folder must have all blocks under one of {', '.join(LAYOUTS)}; "
            f"got {', '.join(sorted(layouts))}"
        )
    return found


def _read_tensor(file: Path, key: str) -> Tensor:
    from safetensors import safe_open

    with safe_open(file, "pt") as content:
        return content.get_tensor(key)  # type: ignore[no-any-return]


def _take_over(name: str, own: Tensor, given: Tensor) -> None:
    given = given.reshape(own.shape) if given.numel() == own.numel() and own.ndim == 2 else given
    if given.shape != own.shape:
        raise ValueError(
            f"folder must be of a network of the same size: {name} must have shape "
            f"{list(own.shape)}, got {list(given.shape)}"
        )
    own.copy_(given)


def _load_kernel(conv: nn.Module, kernel: Tensor, bias: Tensor) -> None:
    """Copy a dense kernel ``[D, C, P, P]`` into the cells of a kNN convolution."""
    target = plain(conv)
    dense = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[-1], device="meta")
    dense = dense.to_empty(device=kernel.device).to(kernel.dtype)
    dense.weight.copy_(kernel)
    assert dense.bias is not None  # as a Conv2d has unless told otherwise
    dense.bias.copy_(bias)
    target.load_conv2d(dense)
