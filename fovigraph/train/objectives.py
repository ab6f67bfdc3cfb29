"""Losses of self-supervised learning: an image's fixations are its views.

Every loss takes the embeddings of B images at F ≥ 2 fixations each, ``[B, F, D]``, and does not
depend on the order of images or fixations. With F = 2 it is the published formula; with more, its
mean over pairs of views.

Where several processes train together (:mod:`torch.distributed`), the loss is that of all their
images, the same in every process, and so are its gradients once they are averaged over processes,
as ``DistributedDataParallel`` does: what process v's loss adds to the gradient of process w's
embeddings is summed over v, which W processes that each compute the whole loss make W times too
large, and averaging mends.

Whatever the embeddings' type and inside ``torch.autocast``, losses are computed in single precision
at least.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, cast

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from torch.autograd.function import FunctionCtx

from fovigraph._checks import fraction, one_of, positive_float, shown
from fovigraph._schema import Section

VARIANCE_EPS = 1e-4
"""Added to the variance in :func:`vicreg`, as its paper does."""

NORM_EPS = 1e-5
"""Added to the variance in :func:`barlow_twins`, as its authors' batch norm does."""

OBJECTIVES = ("classify", "multi_label", "simclr", "vicreg", "barlow_twins")


@dataclass(frozen=True)
class ObjectiveConfig(Section):
    """The objective of a recipe: what is learnt.

    Attributes:
        name: ``"classify"``; ``"multi_label"``, where an image may have several classes or none,
            by the binary cross-entropy of each; or, without labels and with an image's fixations
            as its views, ``"simclr"``, ``"vicreg"`` or ``"barlow_twins"``. Then the head and the
            probes, whose gradients do not reach the network, still learn the labels.
        per_fixation: Whether ``classify`` and ``multi_label`` ask every fixation for the classes,
            not their mean.
        label_smoothing: Of ``classify`` and ``multi_label``: a share of each target is spread
            evenly, over all classes or over yes and no.
        temperature: Of ``simclr``.
        invariance, variance, covariance: Weights of the terms of ``vicreg``.
        redundancy: Weight of the off-diagonal term of ``barlow_twins``.
        probes: Whether every block gets a linear probe, which learns the labels from its features.
        probe_layers: Names of the blocks that get one, as ``layers.3``; ``None``: all.
    """

    SECTION = "objective"

    name: str = "classify"
    per_fixation: bool = False
    label_smoothing: float = 0.0
    temperature: float = 0.1
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    redundancy: float = 0.005
    probes: bool = False
    probe_layers: Sequence[str] | None = None

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several classes."""
        return self.name == "multi_label"

    @property
    def supervised(self) -> bool:
        """Whether the network learns the labels."""
        return self.name in ("classify", "multi_label")

    def check(self) -> None:
        one_of("objective.name", self.name, OBJECTIVES)
        if self.probe_layers is not None and not (self.probes and self.probe_layers):
            raise ValueError(
                "objective.probe_layers must be null, or name blocks with objective.probes=true, "
                f"got {shown(self.probe_layers)}"
            )
        fraction("objective.label_smoothing", self.label_smoothing)
        positive_float("objective.temperature", self.temperature)
        for name in ("invariance", "variance", "covariance", "redundancy"):
            positive_float(f"objective.{name}", getattr(self, name))


P = ParamSpec("P")


def _of_all_images(
    formula: Callable[Concatenate[Tensor, P], Tensor],
) -> Callable[Concatenate[Tensor, P], Tensor]:
    """Make a loss of the embeddings it is given one of all processes' embeddings."""

    @functools.wraps(formula)
    def loss(embeddings: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        if not isinstance(embeddings, Tensor) or not embeddings.is_floating_point():
            given = embeddings.dtype if isinstance(embeddings, Tensor) else shown(embeddings)
            raise TypeError(f"embeddings must be a floating-point tensor [B, F, D], got {given}")
        if embeddings.ndim != 3 or embeddings.shape[1] < 2 or 0 in embeddings.shape:
            raise ValueError(
                "embeddings must have shape [B, F, D] with at least 2 fixations F, "
                f"got {list(embeddings.shape)}"
            )
        with torch.autocast(embeddings.device.type, enabled=False):
            everyone = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
            if distributed.is_available() and distributed.is_initialized():
                everyone = _Gathered.apply(everyone)
            if len(everyone) < 2:
                raise ValueError("embeddings must be of at least 2 images, got those of 1")
            return formula(everyone, *args, **kwargs)

    return cast(Callable[Concatenate[Tensor, P], Tensor], loss)


class _Gathered(torch.autograd.Function):
    """The tensors of all processes, one after the other; their gradients are summed."""

    @staticmethod
    def forward(ctx: FunctionCtx, own: Tensor) -> Tensor:
        own = own.contiguous()
        parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, own)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.chunk(distributed.get_world_size())[distributed.get_rank()]


@_of_all_images
def simclr(embeddings: Tensor, temperature: float) -> Tensor:
    """Tell the views of an image from those of all other images: NT-Xent.

    With z the embeddings scaled to length 1 and P(i) the other views of the image of view i,
    ℓᵢ = −1/|P(i)| · Σ_{p ∈ P(i)} log( exp(zᵢ·z_p / τ) / Σ_{a ≠ i} exp(zᵢ·z_a / τ) ), averaged over
    all views i (Chen et al. 2020, eq. 1; for more than two views Khosla et al. 2020, eq. 2).

    Args:
        embeddings: ``[B, F, D]``; in several processes, as many images in each.
        temperature: τ.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError, TypeError: If there are fewer than 2 images or 2 fixations, or the temperature
            is not above 0.

    Example:
        >>> import torch
        >>> from fovigraph.train.objectives import simclr
        >>> simclr(torch.eye(2)[:, None].expand(2, 2, 2), temperature=0.1).item() < 1e-3
        True
    """
    positive_float("temperature", temperature)
    images, views, _ = embeddings.shape
    z = F.normalize(embeddings.flatten(0, 1), dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    log_share = (z @ z.T / temperature).masked_fill(itself, -torch.inf).log_softmax(dim=1)
    image = torch.arange(images, device=z.device).repeat_interleave(views)
    positive = (image[:, None] == image) & ~itself
    return -log_share[positive].mean()


@_of_all_images
def vicreg(embeddings: Tensor, invariance: float, variance: float, covariance: float) -> Tensor:
    """Make an image's views alike, and the embeddings' dimensions varied and uncorrelated.

    λ s(Z, Z') + μ (v(Z) + v(Z')) + ν (c(Z) + c(Z')), averaged over pairs of views, with s the mean
    squared difference, v the mean over dimensions of max(0, 1 − √(Var + 10⁻⁴)), and c the sum of
    the squares of the covariance matrix's off-diagonal entries, divided by D (Bardes, Ponce & LeCun
    2022, eq. 6, as in their Algorithm 1, whose s is a mean over dimensions too).

    Args:
        embeddings: ``[B, F, D]``; in several processes, as many images in each.
        invariance: λ.
        variance: μ.
        covariance: ν.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError, TypeError: If there are fewer than 2 images or 2 fixations, or a weight is not
            above 0.

    Example:
        >>> import torch
        >>> from fovigraph.train.objectives import vicreg
        >>> embeddings = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])[:, :, None]  # views that disagree
        >>> vicreg(embeddings, invariance=25.0, variance=25.0, covariance=1.0).item()
        100.0
    """
    positive_float("invariance", invariance)
    positive_float("variance", variance)
    positive_float("covariance", covariance)
    images, _, dim = embeddings.shape
    # The mean over pairs of (x − y)² is twice the variance; that of v(x) + v(y) twice the mean.
    unlike = 2 * embeddings.var(dim=1).mean()
    centred = embeddings - embeddings.mean(dim=0)
    flat = F.relu(1 - (centred.var(dim=0) + VARIANCE_EPS).sqrt()).mean()
    z = centred.transpose(0, 1)
    matrix = z.mT @ z / (images - 1)
    squares = matrix.square().sum() - matrix.diagonal(dim1=1, dim2=2).square().sum()
    tied = squares / (dim * len(matrix))
    return invariance * unlike + 2 * variance * flat + 2 * covariance * tied


@_of_all_images
def barlow_twins(embeddings: Tensor, redundancy: float) -> Tensor:
    """Bring the cross-correlation of an image's views close to the identity matrix.

    Σᵢ (1 − Cᵢᵢ)² + λ Σᵢ Σ_{j ≠ i} Cᵢⱼ², averaged over pairs of views, with C the correlation over
    images of the one view's dimension i with the other's dimension j (Zbontar et al. 2021, eq. 1
    and 2; 10⁻⁵ is added to variances, as in the authors' code).

    Args:
        embeddings: ``[B, F, D]``; in several processes, as many images in each.
        redundancy: λ.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError, TypeError: If there are fewer than 2 images or 2 fixations, or the weight is
            not above 0.

    Example:
        >>> import torch
        >>> from fovigraph.train.objectives import barlow_twins
        >>> x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> barlow_twins(torch.stack((x, x), dim=1), redundancy=0.005).item() < 1e-6
        True
    """
    positive_float("redundancy", redundancy)
    images, _, dim = embeddings.shape
    centred = embeddings - embeddings.mean(dim=0)
    z = centred / (centred.square().mean(dim=0) + NORM_EPS).sqrt()
    wanted = torch.eye(dim, dtype=z.dtype, device=z.device)
    weight = redundancy + (1 - redundancy) * wanted
    pairs = list(itertools.combinations(z.unbind(dim=1), 2))
    losses = [(weight * (x.T @ y / images - wanted).square()).sum() for x, y in pairs]
    return torch.stack(losses).mean()
