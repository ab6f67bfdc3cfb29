"""What a training step computes: a network, its objective, and linear probes of its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fovigraph._checks import shown
from fovigraph.models import Backbone, FoviNet, FoviOutput, Intermediate
from fovigraph.models.evaluating import evaluating
from fovigraph.models.wrapped import unwrapped
from fovigraph.nn.norm import Counted
from fovigraph.sensing import as_images
from fovigraph.sensing.fixation import Fixations
from fovigraph.train import batch_norms, objectives
from fovigraph.train.augment import Augment, Variation
from fovigraph.train.recipe import Recipe


class Draws(NamedTuple):
    """All that is random about a batch of B images but dropout, drawn on the CPU.

    Attributes:
        views: Where each image is looked at.
        variation: How each image is varied; or each of the B · F views.
    """

    views: Fixations
    variation: Variation

    def pick(self, rows: Tensor) -> Draws:
        """Return those of some images of the batch, ``[b]``."""
        batch, total = len(self.views.location), len(self.variation.flip)
        views = Fixations(*(entry[rows] for entry in self.views))
        per_image = total // batch
        rows = (rows[:, None] * per_image + torch.arange(per_image)).flatten()
        return Draws(views, self.variation.pick(rows))


class Figures(NamedTuple):
    """Losses and answers of b images.

    Attributes:
        loss: What the optimiser minimises, a scalar: the objective, and the losses of head and
            probes.
        objective: The objective alone, a scalar; in evaluation the head's cross-entropy.
        correct: How many images were classified correctly, ``[1 + probes]``: by the head, by each
            probe. Where an image may have several classes, the share of them that was, summed.
        logits: Of the head, ``[b, C]``.
        features: The backbone's output at each fixation, ``[b, F, D]``.
    """

    loss: Tensor
    objective: Tensor
    correct: Tensor
    logits: Tensor
    features: Tensor


class Learner(nn.Module):
    """A network, its objective and its probes.

    With a self-supervised objective the head still learns the labels, from detached embeddings; so
    do linear probes, one for each block of the backbone, with any objective.

    Args:
        recipe: The whole recipe.
        net: The network: a :class:`~fovigraph.FoviNet`, or what has its ``views``, ``see``,
            ``head``, ``aggregation`` and ``retina``, and for probes ``see_intermediates`` and a
            ``backbone``.
    """

    def __init__(self, recipe: Recipe, net: FoviNet):
        super().__init__()
        self.config = recipe.objective
        self.augment = Augment(recipe.augment)
        self.when = recipe.augment.when
        self.net = net
        self.probes = None
        if self.config.probes:
            layers = self.config.probe_layers
            self.probes = LayerProbes(net, recipe.head.num_classes, layers)
        if recipe.train.activation_checkpointing:
            backbone = unwrapped(net.backbone)
            if not isinstance(backbone, Backbone) or not backbone.block_names:
                raise ValueError(
                    "train.activation_checkpointing must be false for a backbone that is not made "
                    f"of blocks, got {type(backbone).__name__}"
                )
            backbone.activation_checkpointing = True
        self._frozen = [_part(net, name) for name in recipe.train.freeze]
        self._statistics = recipe.train.frozen_statistics
        for module in self._frozen:
            module.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise ValueError(
                f"train.freeze must leave something to learn, got {list(recipe.train.freeze)}"
            )
        self.train(self.training)

    def train(self, mode: bool = True) -> Learner:
        """Set the mode; what is frozen stays in evaluation mode, but perhaps for batch norms."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
            for part in module.modules():
                if self._statistics == "updated" and isinstance(part, batch_norms.KINDS):
                    part.train(mode)
        return self

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Draws:
        """Draw all that is random about a batch of images of ``shape`` [B, 3, H, W]."""
        policy = self.net.fixation_policy
        drawn = generator if self.net.training or policy.in_eval == "random" else None
        views = self.net.views(torch.empty(()).expand(shape), generator=drawn)
        batch, count = views.location.shape[:2]
        count = 1 if self.when == "before" else count
        return Draws(views, self.augment.draw(batch, generator, count))

    def forward(self, images: Tensor, labels: Tensor, draws: Draws) -> Figures:
        """Return the figures of a batch; in evaluation, of its images as they are.

        Args:
            images: ``[b, 3, H, W]``, uint8.
            labels: ``[b]``; for the objective ``multi_label``, bool ``[b, C]``.
            draws: Of these images.
        """
        images = as_images(images)
        views = Fixations(*(entry.to(images.device) for entry in draws.views))
        vary, how, count = None, draws.variation, views.location.shape[1]
        if self.training and self.when == "before":
            images = self.augment.images(images, how)
        elif self.training and self.when == "each":
            images = images.repeat_interleave(count, dim=0)
            images = self.augment.images(images, how).unflatten(0, (-1, count))
        elif self.training:
            images = self.augment.flipped(images, how.flip[::count])
            vary = partial(self.augment.samples, how=how)
        if self.probes is None:
            return self._figures(self.net.see(images, views, vary), {}, labels)
        return self._figures(*self.net.see_intermediates(images, views, vary), labels)

    def _figures(
        self, out: FoviOutput, blocks: Mapping[str, Intermediate], labels: Tensor
    ) -> Figures:
        logits = [out.logits]
        if not self.training:
            objective = loss = self._loss(out.logits, labels)
        elif self.config.supervised:
            objective = loss = self._classify(out, labels)
        else:
            objective = self._compare(out.embeddings)
            logits = [self.net.aggregation(self.net.head(out.embeddings.detach()))]
            loss = objective + self._loss(logits[0], labels)
        if self.probes is not None:
            probed = self.probes(blocks, len(labels))
            loss = loss + sum(self._loss(probe, labels) for probe in probed)
            logits += probed
        correct = torch.stack([self._correct(each, labels) for each in logits])
        return Figures(loss, objective, correct, logits[0], out.features)

    def _classify(self, out: FoviOutput, labels: Tensor) -> Tensor:
        logits = out.logits
        if self.config.per_fixation:
            logits = out.fixation_logits.flatten(0, 1)
            labels = labels.repeat_interleave(out.fixation_logits.shape[1], dim=0)
        return self._loss(logits, labels, self.config.label_smoothing)

    def _loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        if self.config.multi_label:
            target = labels.to(logits.dtype) * (1 - smoothing) + smoothing / 2
            return functional.binary_cross_entropy_with_logits(logits, target)
        return functional.cross_entropy(logits, labels, label_smoothing=smoothing)

    def _correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.config.multi_label:
            return ((logits > 0) == labels).double().mean(dim=-1).sum()
        return (logits.argmax(dim=-1) == labels).sum()

    def _compare(self, embeddings: Tensor) -> Tensor:
        config = self.config
        if config.name == "simclr":
            return objectives.simclr(embeddings, config.temperature)
        if config.name == "vicreg":
            weights = (config.invariance, config.variance, config.covariance)
            return objectives.vicreg(embeddings, *weights)
        return objectives.barlow_twins(embeddings, config.redundancy)


def _part(net: FoviNet, name: str) -> nn.Module:
    """Return the module of a network that ``train.freeze`` names."""
    try:
        if not name:
            raise AttributeError
        return net.get_submodule(name)
    except AttributeError:
        learnt = dict.fromkeys(key.partition(".")[0] for key, _ in net.named_parameters())
        raise ValueError(
            f"train.freeze must name modules of the network ({', '.join(learnt)}) or parts of "
            f"them, as backbone.layers.0, got {name!r}"
        ) from None


class LayerProbes(nn.Module):
    """A linear classifier on every block of a backbone, whose features it takes detached.

    Each takes the mean of its block's features over nodes that are not masked; its logits are
    averaged over fixations.

    Args:
        net: The network, whose backbone is made of blocks.
        num_classes: Number of classes.
        layers: Names of the blocks that get one; ``None``: all.

    Raises:
        ValueError: If the backbone is not made of blocks, or has no such block.
    """

    def __init__(self, net: FoviNet, num_classes: int, layers: Sequence[str] | None = None):
        super().__init__()
        backbone = unwrapped(net.backbone)
        if not isinstance(backbone, Backbone) or not backbone.block_names:
            kind = type(backbone).__name__
            raise ValueError(f"objective.probes needs a backbone made of blocks, got {kind}")
        self.layers = list(backbone.block_names if layers is None else layers)
        for name in self.layers:
            if name not in backbone.block_names:
                known = ", ".join(backbone.block_names)
                raise ValueError(f"objective.probe_layers must be of {known}, got {shown(name)}")
        with evaluating(backbone), torch.no_grad():
            blocks = backbone.intermediates(backbone.zero_samples(), self.layers)
        probed = [blocks[name] for name in self.layers]
        self.maps = nn.ModuleList(nn.Linear(b.features.shape[-1], num_classes) for b in probed)
        masks = [backbone.pyramid.levels[block.level].mask for block in probed]
        self.nodes = nn.ModuleList(nn.Identity() if m is None else Counted(m) for m in masks)

    def forward(self, blocks: Mapping[str, Intermediate], batch: int) -> list[Tensor]:
        """Return every probe's logits, ``[B, classes]``.

        Args:
            blocks: What every block gave, ``[B · F, N, C]``.
            batch: Number of images B.
        """
        features = [blocks[name].features.detach() for name in self.layers]
        parts = zip(self.maps, self.nodes, features, strict=True)
        means = [(probe, nodes(x).mean(dim=-2)) for probe, nodes, x in parts]
        return [probe(mean).unflatten(0, (batch, -1)).mean(dim=1) for probe, mean in means]
