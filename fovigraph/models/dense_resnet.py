"""ResNets that were trained on images: their weights in a ResNet on a graph pyramid."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from fovigraph._checks import flag, instance, shown
from fovigraph.models.lora import plain
from fovigraph.models.pretrained import unusable
from fovigraph.models.resnet import KNNResNet, ResidualBlock
from fovigraph.nn import BatchNorm, KNNConv

SHORTCUT = {"shortcut": "downsample.0", "shortcut_norm": "downsample.1"}
"""Our names of a block's layers → the dense network's, where they are not nearly the same."""

COUNT = ".num_batches_tracked"
"""End of the names of tensors that older checkpoints lack."""

CLASSIFIER = "fc."
"""Prefix of the tensors that are left out."""

_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.")
_SHOWN = 10

Shape = tuple[int | None, ...]


@torch.no_grad()
def load_dense_resnet(
    backbone: KNNResNet, weights: Mapping[str, Tensor], *, preserve_kernel_norm: bool = False
) -> None:
    """Give a ResNet on a pyramid the weights of a dense one, with its batch norms' statistics.

    A kernel's pixels become the cells of the reference kernel, as
    :meth:`~fovigraph.nn.KNNConv.load_conv2d` has it; a reference kernel of another size takes it
    resized. The dense network's classifier is left out.

    Args:
        backbone: The network, of as many blocks and channels, with full convolutions and batch
            norms; adapters stay as they are. A dense network that was trained on normalised images
            needs the same ``retina.mean`` and ``.std``.
        weights: A ``state_dict`` with the names that torchvision and timm have: ``conv1.weight``,
            ``bn1.*``, ``layer1.0.conv1.weight``, …, ``layer2.0.downsample.0.weight``, …
        preserve_kernel_norm: Whether a kernel that is resized is scaled, for every output channel,
            to the L2 norm that it had.

    Raises:
        ValueError: If tensors are missing, unexpected or of another shape, or not finite; all are
            listed, and nothing was changed then.
        TypeError: If an argument is of another type.

    Example:
        .. code-block:: python

            net = fg.create_model("fovi_resnet18", retina={"mean": [0.485, 0.456, 0.406],
                                                           "std": [0.229, 0.224, 0.225]})
            dense = torchvision.models.resnet18(weights="IMAGENET1K_V1")
            fg.models.load_dense_resnet(net.backbone, dense.state_dict())
    """
    instance("backbone", backbone, KNNResNet)
    if not isinstance(weights, Mapping):
        raise TypeError(f"weights must be named tensors, got {shown(weights)}")
    for name, tensor in weights.items():
        instance(f"weights[{name!r}]", tensor, Tensor, allowed="a tensor")
    flag("preserve_kernel_norm", preserve_kernel_norm)
    layers = _layers(backbone, weights)
    _check(layers, weights)
    for name, layer in layers.items():
        if isinstance(layer, KNNConv):
            _load_kernel(layer, weights[f"{name}.weight"], preserve_kernel_norm)
        else:
            keys = [key for key in layer.state_dict() if f"{name}.{key}" in weights]
            tensors = {key: weights[f"{name}.{key}"] for key in keys}
            layer.load_state_dict(tensors, strict=False)  # batches need not have been counted


def _layers(backbone: KNNResNet, weights: Mapping[str, Tensor]) -> dict[str, nn.Module]:
    """Return the layers that have weights, by the dense network's names."""
    found = {match.groups() for name in weights if (match := _BLOCK.match(name))}
    places = sorted((int(stage), int(index)) for stage, index in found)
    blocks = [block for block in backbone.layers if isinstance(block, ResidualBlock)]
    if len(places) != len(blocks):
        raise ValueError(
            f"weights must be of a ResNet of {len(blocks)} blocks like the backbone, "
            f"got {len(places)} blocks"
        )
    stem = backbone.layers[0]
    layers = {"conv1": plain(stem.conv), "bn1": stem.norm}
    for (stage, index), block in zip(places, blocks, strict=True):
        for name, layer in block.named_children():
            if re.fullmatch(r"(conv|norm)\d", name):
                layers[f"layer{stage}.{index}.{name.replace('norm', 'bn')}"] = plain(layer)
            elif name in SHORTCUT:
                layers[f"layer{stage}.{index}.{SHORTCUT[name]}"] = plain(layer)
    return layers


def _check(layers: Mapping[str, nn.Module], weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not those of these layers."""
    problems, known = [], set()
    for name, layer in layers.items():
        for key, own, shape in _tensors(name, layer):
            known.add(key)
            given = weights.get(key)
            if given is None:
                if not key.endswith(COUNT):
                    problems.append(f"missing: {key} {_shown(shape)}")
            elif not _fits(given, shape):
                problems.append(f"of another shape: {key} {list(given.shape)}, not {_shown(shape)}")
            elif (reason := unusable(given, own.dtype)) is not None:
                problems.append(f"{key}: {reason}")
    rest = sorted(weights.keys() - known)
    problems += [f"unexpected: {key}" for key in rest if not key.startswith(CLASSIFIER)]
    if problems:
        more = [f"… and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        lines = ";\n  ".join(problems[:_SHOWN] + more)
        raise ValueError(f"weights must be those of a dense ResNet like the backbone:\n  {lines}")


def _tensors(name: str, layer: nn.Module) -> Iterator[tuple[str, Tensor, Shape]]:
    """Yield the names of a layer's tensors there, the tensors here, and the shapes needed."""
    if isinstance(layer, KNNConv):
        yield f"{name}.weight", layer.weight, (layer.out_channels, layer.in_channels, None, None)
    elif isinstance(layer, BatchNorm):
        for key, tensor in layer.state_dict().items():
            yield f"{name}.{key}", tensor, tuple(tensor.shape)
    else:
        raise ValueError(
            "backbone must have full convolutions and batch norms, as dense ResNets do, "
            f"got a {type(layer).__name__} in place of {name}"
        )


def _fits(tensor: Tensor, shape: Shape) -> bool:
    return tensor.dim() == len(shape) and all(
        needed in (None, size) for needed, size in zip(shape, tensor.shape, strict=True)
    )


def _shown(shape: Shape) -> str:
    return f"[{', '.join('any' if size is None else str(size) for size in shape)}]"


def _load_kernel(layer: KNNConv, kernel: Tensor, preserve_norm: bool) -> None:
    size = (kernel.shape[2], kernel.shape[3])
    conv = nn.Conv2d(layer.in_channels, layer.out_channels, size, bias=False, device="meta")
    conv.weight = nn.Parameter(kernel.to(layer.weight), requires_grad=False)
    layer.load_conv2d(conv, preserve_kernel_norm=preserve_norm)
