"""From what several fixations tell of an image to one answer: the ways to put them together."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fovigraph._checks import flag, fraction, one_of, positive_int
from fovigraph.nn.limits import check_weights

LEARNT = ("rnn", "gru", "lstm", "attention", "attention_alone")
"""Aggregations with weights of their own."""

AGGREGATIONS = ("mean", "mean_logits", *LEARNT)
"""What ``head.aggregation`` may be."""

_CELLS: dict[str, type[nn.RNNCellBase]] = {
    "rnn": nn.RNNCell,
    "gru": nn.GRUCell,
    "lstm": nn.LSTMCell,
}


class Aggregation(nn.Module, ABC):
    """From the logits of an image's fixations to those of the image.

    No image has an effect on another's answer.
    """

    @abstractmethod
    def forward(self, fixation_logits: Float[Tensor, "B F C"]) -> Float[Tensor, "B C"]:
        """Return the logits of images."""

    def first(self, fixation_logits: Float[Tensor, "B F C"]) -> Float[Tensor, "B F C"]:
        """Return the logits of images by only the first 1, 2, … F fixations."""
        counts = range(1, fixation_logits.shape[1] + 1)
        return torch.stack([self(fixation_logits[:, :count]) for count in counts], dim=1)

    def alone(self, fixation_logits: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return the logits of images by each fixation alone."""
        single = fixation_logits.flatten(0, -2)[:, None]
        return self(single).view(*fixation_logits.shape[:-1], -1)


class MeanLogits(Aggregation):
    """The mean over fixations of their logits.

    Example:
        >>> import torch
        >>> from fovigraph.models import MeanLogits
        >>> MeanLogits()(torch.tensor([[[0.0, 1.0], [2.0, 1.0]]]))
        tensor([[1., 1.]])
    """

    def forward(self, fixation_logits: Float[Tensor, "B F C"]) -> Float[Tensor, "B C"]:
        return fixation_logits.mean(1)

    def first(self, fixation_logits: Float[Tensor, "B F C"]) -> Float[Tensor, "B F C"]:
        count = torch.arange(1, fixation_logits.shape[1] + 1, device=fixation_logits.device)
        return fixation_logits.cumsum(1) / count[:, None]

    def alone(self, fixation_logits: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        return fixation_logits


class Recurrent(Aggregation):
    r"""A recurrent network over the fixations, in their order.

    .. math::
        h_f = \operatorname{cell}(\operatorname{LayerNorm}(p_f), h_{f-1}), \quad h_0 = 0, \quad
        z = W h_F + b

    with :math:`p_f` the probabilities of the classes by fixation f. *W* is left out where the
    state has as many entries as there are classes (FOVI, Blauch, Alvarez & Konkle 2026).

    Args:
        num_classes: Number of classes C.
        cell: ``"rnn"`` (tanh), ``"gru"`` or ``"lstm"``.
        width: Entries of the state *h*.
        dropout: Probability that a probability :math:`p` is dropped in training.
        multi_label: Whether an image may have several classes; the probability of each is then
            the sigmoid of its logit instead of a softmax.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import torch
        >>> from fovigraph.models import Recurrent
        >>> Recurrent(10, "gru", width=16)(torch.rand(2, 4, 10)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int,
        cell: str = "gru",
        *,
        width: int = 128,
        dropout: float = 0.0,
        multi_label: bool = False,
    ):
        super().__init__()
        _check(num_classes, width, dropout)
        kind = _CELLS[one_of("cell", cell, _CELLS)]
        self.multi_label = flag("multi_label", multi_label)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(num_classes)
        self.cell = kind(num_classes, width)  # type: ignore[call-arg]  # that of each kind
        self.projector = nn.Identity() if width == num_classes else nn.Linear(width, num_classes)

    def forward(self, fixation_logits: Float[Tensor, "B F C"]) -> Float[Tensor, "B C"]:
        return self.projector(self._states(fixation_logits)[-1])  # type: ignore[no-any-return]

    def first(self, fixation_logits: Float[Tensor, "B F C"]) -> Float[Tensor, "B F C"]:
        states = torch.stack(self._states(fixation_logits), dim=1)
        return self.projector(states)  # type: ignore[no-any-return]

    def _states(self, fixation_logits: Tensor) -> list[Tensor]:
        """Return the state after every fixation, ``[B, width]``."""
        chances = fixation_logits.sigmoid() if self.multi_label else fixation_logits.softmax(-1)
        state, states = None, []
        for seen in self.norm(self.dropout(chances)).unbind(1):
            state = self.cell(seen, state)
            states.append(state[0] if isinstance(state, tuple) else state)
        return states


class Attention(Aggregation):
    r"""Self-attention among an image's fixations, whatever their order.

    .. math::
        z = W \, \frac1F \sum_f \operatorname{block}
        \left(\operatorname{LayerNorm}(A z_f + a)\right)_f + b

    with one block of a transformer (``torch.nn.TransformerEncoderLayer``) of one head. In the fovi
    package, whose layers are the same, the images of a batch attend to each other instead: given
    one image at a time, each fixation to itself, which ``alone`` repeats for its checkpoints.

    Args:
        num_classes: Number of classes C.
        width: Of the block.
        dropout: Probability that an entry of the logits :math:`z_f` is dropped in training.
        alone: Whether every fixation attends to itself alone.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import torch
        >>> from fovigraph.models import Attention
        >>> Attention(10, width=16)(torch.rand(2, 4, 10)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, num_classes: int, *, width: int = 128, dropout: float = 0.0, alone: bool = False
    ):
        super().__init__()
        _check(num_classes, width, dropout)
        self.to_itself = flag("alone", alone)
        self.dropout = nn.Dropout(dropout)
        self.in_projector = nn.Linear(num_classes, width)
        self.norm = nn.LayerNorm(width)
        self.block = nn.TransformerEncoderLayer(width, 1, dim_feedforward=width, batch_first=True)
        self.projector = nn.Linear(width, num_classes)

    def forward(self, fixation_logits: Float[Tensor, "B F C"]) -> Float[Tensor, "B C"]:
        tokens = self.norm(self.in_projector(self.dropout(fixation_logits)))
        if self.to_itself:  # as if every fixation were an image's only one
            tokens = self.block(tokens.flatten(0, 1)[:, None]).view(tokens.shape)
        else:
            tokens = self.block(tokens)
        return self.projector(tokens.mean(1))  # type: ignore[no-any-return]


def make_aggregation(
    name: str,
    num_classes: int,
    *,
    width: int = 128,
    dropout: float = 0.0,
    multi_label: bool = False,
) -> Aggregation:
    """Return the aggregation of a name (:data:`AGGREGATIONS`); of no classes one without weights.

    For ``"mean"`` that is the mean of logits, as in training: the mean of probabilities in
    evaluation is part of the calibration (:class:`~fovigraph.models.Calibration`).

    Raises:
        ValueError, TypeError: If an argument is not of the kind said at :class:`Recurrent`.
    """
    one_of("head.aggregation", name, AGGREGATIONS)
    if name not in LEARNT or num_classes == 0:
        return MeanLogits()
    if name in ("attention", "attention_alone"):
        alone = name == "attention_alone"
        return Attention(num_classes, width=width, dropout=dropout, alone=alone)
    return Recurrent(num_classes, name, width=width, dropout=dropout, multi_label=multi_label)


def _check(num_classes: int, width: int, dropout: float) -> None:
    check_weights(
        num_classes=positive_int("num_classes", num_classes), width=positive_int("width", width)
    )
    check_weights(**{"4 · width": 4 * width, "width": width})
    fraction("dropout", dropout)
