"""Conversion of tensors between upstream's names and layouts and ours."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fovigraph.models.pretrained import unusable

log = logging.getLogger(__name__)

NOT_NEEDED = ("network.projector_ssl.",)
"""Prefixes of the names of upstream's tensors that classification does not use."""

_SHOWN = 10


def _same(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Link:
    """One tensor of both networks.

    Attributes:
        ours, theirs: Its names.
        to_ours, to_theirs: Bring it from one layout to the other; each undoes the other.
    """

    ours: str
    theirs: str
    to_ours: Callable[[Tensor], Tensor] = _same
    to_theirs: Callable[[Tensor], Tensor] = _same


def kernel_link(ours: str, theirs: str, in_channels: int) -> Link:
    """Link kNN convolution weights: ours ``[cells, in, out]``, theirs ``[out, in · cells]``."""
    return Link(
        ours,
        theirs,
        to_ours=lambda weight: weight.unflatten(1, (in_channels, -1)).permute(2, 1, 0),
        to_theirs=lambda weight: weight.permute(2, 1, 0).flatten(1),
    )


def features_link(ours: str, theirs: str, num_nodes: int) -> Link:
    """Link the weights of a linear map of the backbone's features, ``[out, nodes · channels]``.

    Ours come node by node, theirs channel by channel.
    """
    return Link(
        ours,
        theirs,
        to_ours=lambda weight: weight.unflatten(1, (-1, num_nodes)).transpose(1, 2).flatten(1),
        to_theirs=lambda weight: weight.unflatten(1, (num_nodes, -1)).transpose(1, 2).flatten(1),
    )


def norm_links(ours: str, theirs: str, norm: nn.Module, kind: str) -> list[Link]:
    """Link a norm's tensors.

    Args:
        ours, theirs: The names of the two norms, without the final dot.
        norm: Our norm.
        kind: Its name in configurations. The affine tensors of ``"node"`` are ours ``[N, 1]``,
            theirs ``[N]``; of ``"layer"`` ours ``[N, C]``, theirs ``[C, N]``; else the same.
    """
    layouts: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
        "node": (lambda affine: affine.unsqueeze(1), lambda affine: affine.squeeze(1)),
        "layer": (Tensor.t, Tensor.t),
    }
    layout = layouts.get(kind, (_same, _same))
    return [Link(f"{ours}.{name}", f"{theirs}.{name}", *layout) for name in norm.state_dict()]


def not_needed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those of upstream's tensors that classification does not use."""
    return {name: value for name, value in weights.items() if name.startswith(NOT_NEEDED)}


def to_ours(
    weights: Mapping[str, Tensor],
    links: Iterable[Link],
    own: Mapping[str, Tensor],
    *,
    source: object,
    strict: bool = True,
) -> dict[str, Tensor]:
    """Rename and lay out upstream's tensors as ours.

    Args:
        weights: Upstream's tensors by name.
        links: The pairs.
        own: Our network's ``state_dict``, for shapes and types.
        source: Where the weights were read, for errors.
        strict: Whether every tensor must be there and fit. Otherwise those that do not are left
            out, and logged.

    Raises:
        ValueError: If strict and tensors are missing, unexpected, of another shape, of another kind
            of number or not finite; all are listed.
    """
    links = list(links)
    missing, misfits, found = [], [], {}
    for link in links:
        needed = list(link.to_theirs(own[link.ours]).shape)
        given = weights.get(link.theirs)
        if given is None:
            missing.append(f"missing: {link.theirs} {needed}")
        elif list(given.shape) != needed:
            misfits.append(f"of another shape: {link.theirs} {list(given.shape)}, not {needed}")
        elif (reason := unusable(given, own[link.ours].dtype)) is not None:
            misfits.append(f"{link.theirs}: {reason}")
        else:
            found[link.ours] = link.to_ours(given).to(own[link.ours].dtype).contiguous()
    rest = {name: weights[name] for name in weights.keys() - {link.theirs for link in links}}
    unused = sorted(not_needed(rest))
    if unused:
        log.info("%s: not needed for classification: %s", source, ", ".join(unused))
    unexpected = [
        f"unexpected: {name} {list(rest[name].shape)}" for name in sorted(rest.keys() - unused)
    ]
    if missing or misfits or unexpected:
        report = _report(source, len(links), missing, unexpected, misfits)
        if strict:
            raise ValueError(report)
        log.warning("%s", report)
    return found


def _report(
    source: object, needed: int, missing: list[str], unexpected: list[str], misfits: list[str]
) -> str:
    lines = [*misfits, *missing, *unexpected]
    more = [f"… and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return (
        f"{source}: these are not the weights of its configuration: of {needed} tensors "
        f"{len(missing)} are missing and {len(misfits)} do not fit, and there are "
        f"{len(unexpected)} others:\n  " + ";\n  ".join(lines[:_SHOWN] + more)
    )


def to_theirs(own: Mapping[str, Tensor], links: Iterable[Link]) -> dict[str, Tensor]:
    """Rename and lay out our tensors as upstream's, each with a storage of its own."""
    return {
        link.theirs: link.to_theirs(own[link.ours]).clone(memory_format=torch.contiguous_format)
        for link in links
    }
