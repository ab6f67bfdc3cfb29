"""Calibrated probabilities: confidences that equal accuracies, for one fixation and for many."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from fovigraph._checks import finite_float, positive_float, positive_int

MOST = 4.0
"""Bound of the logarithms of temperature and of the sharpening that are fitted."""


@dataclass(frozen=True)
class Calibration:
    r"""How the logits of F fixations become probabilities.

    .. math::
        \log p = F^{\beta} \, \log \frac1F \sum_f \operatorname{softmax}(z_f / T) + \text{const}

    Temperature scaling (Guo et al. 2017) for one fixation. The mean of the fixations' probabilities
    is less confident than it is accurate, the more so the more fixations there are: the exponent
    corrects that.

    Args:
        temperature: *T*; 1 leaves the logits of one fixation as they are.
        sharpening: β; 0 leaves the mean over fixations as it is.

    Example:
        >>> import torch
        >>> from fovigraph.models import Calibration
        >>> looks = torch.tensor([[[2.0, 0.0], [2.0, 0.0]]])
        >>> sharper = Calibration(sharpening=1.0)
        >>> bool(sharper.of_all(looks).softmax(-1).max() > looks.softmax(-1).max())
        True
    """

    temperature: float = 1.0
    sharpening: float = 0.0

    def __post_init__(self) -> None:
        positive_float("temperature", self.temperature)
        finite_float("sharpening", self.sharpening)

    def of_one(self, logits: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return the calibrated logits of single fixations."""
        return logits if self.temperature == 1 else logits / self.temperature

    def of_all(self, fixation_logits: Float[Tensor, "B F C"]) -> Float[Tensor, "B C"]:
        """Return the logits of images, from those of their fixations (:meth:`of_one`)."""
        count = fixation_logits.shape[1]
        logits = fixation_logits.log_softmax(-1).logsumexp(1) - math.log(count)
        return self.sharpened(logits, count)

    def sharpened(self, logits: Float[Tensor, "B C"], count: int) -> Float[Tensor, "B C"]:
        """Return the logits of images, more certain the more fixations they are of."""
        return logits if self.sharpening == 0 else logits * count**self.sharpening

    def of_first(self, fixation_logits: Float[Tensor, "B F C"]) -> Float[Tensor, "B F C"]:
        """Return log-probabilities with only the first 1, 2, … F fixations (:meth:`of_one`)."""
        count = torch.arange(1, fixation_logits.shape[1] + 1, device=fixation_logits.device)
        summed = fixation_logits.log_softmax(-1).logcumsumexp(dim=1)
        log_mean = summed - count.log()[:, None]
        if self.sharpening == 0:
            return log_mean
        return (log_mean * (count**self.sharpening)[:, None]).log_softmax(-1)

    @staticmethod
    def probabilities(logits: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return the probabilities of classes, from logits of either kind."""
        return logits.softmax(-1)


@dataclass(frozen=True)
class MultiLabelCalibration(Calibration):
    r"""The same for classes of which an image may have several, or none.

    Each has a probability of its own, which is a sigmoid of its logit:

    .. math::
        \operatorname{logit} p = F^{\beta} \,
        \operatorname{logit} \frac1F \sum_f \operatorname{sigmoid}(z_f / T)

    Example:
        >>> import torch
        >>> from fovigraph.models import MultiLabelCalibration
        >>> looks = torch.tensor([[[2.0, 2.0], [2.0, -2.0]]])
        >>> MultiLabelCalibration().of_all(looks).sigmoid()
        tensor([[0.8808, 0.5000]])
    """

    def of_all(self, fixation_logits: Float[Tensor, "B F C"]) -> Float[Tensor, "B C"]:
        """Return the logits of images, from those of their fixations (:meth:`of_one`)."""
        yes, no = (
            functional.logsigmoid(z).logsumexp(1) for z in (fixation_logits, -fixation_logits)
        )
        return self.sharpened(yes - no, fixation_logits.shape[1])

    def of_first(self, fixation_logits: Float[Tensor, "B F C"]) -> Float[Tensor, "B F C"]:
        """Return logits with only the first 1, 2, … F fixations (:meth:`of_one`)."""
        yes, no = (
            functional.logsigmoid(z).logcumsumexp(dim=1)
            for z in (fixation_logits, -fixation_logits)
        )
        count = torch.arange(1, fixation_logits.shape[1] + 1, device=fixation_logits.device)
        return (yes - no) * (count**self.sharpening)[:, None]

    @staticmethod
    def probabilities(logits: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return the probability of each class, from logits of either kind."""
        return logits.sigmoid()


class JointCalibration(Calibration):
    r"""The same for logits that the first f of an image's fixations give together, not each alone.

    .. math::
        \log p_f = f^{\beta} \, z_f / T + \text{const}

    So it is where an :class:`~fovigraph.models.aggregation.Aggregation` gives the image's logits.

    Example:
        >>> import torch
        >>> from fovigraph.models import JointCalibration
        >>> JointCalibration(sharpening=1.0).of_all(torch.tensor([[[2.0, 0.0], [3.0, 0.0]]]))
        tensor([[6., 0.]])
    """

    def of_all(self, joint: Float[Tensor, "B F C"]) -> Float[Tensor, "B C"]:
        """Return the logits of images, from those that their fixations give (:meth:`of_one`)."""
        return self.sharpened(joint[:, -1], joint.shape[1])

    def of_first(self, joint: Float[Tensor, "B F C"]) -> Float[Tensor, "B F C"]:
        """Return log-probabilities with only the first 1, 2, … F fixations (:meth:`of_one`)."""
        return (joint * self._powers(joint)).log_softmax(-1)

    def _powers(self, joint: Tensor) -> Tensor:
        """Return f^β, ``[F, 1]``."""
        count = torch.arange(1, joint.shape[1] + 1, device=joint.device)
        return (count**self.sharpening)[:, None]


class MultiLabelJointCalibration(JointCalibration):
    """The same for classes of which an image may have several, or none."""

    def of_first(self, joint: Float[Tensor, "B F C"]) -> Float[Tensor, "B F C"]:
        """Return logits with only the first 1, 2, … F fixations (:meth:`of_one`)."""
        return joint * self._powers(joint)

    probabilities = staticmethod(MultiLabelCalibration.probabilities)


def calibration_of(*, multi_label: bool, joint: bool) -> type[Calibration]:
    """Return the kind of calibration of a network.

    Args:
        multi_label: Whether an image may have several classes.
        joint: Whether its fixations' logits give those of the image, and not their probabilities.
    """
    if joint:
        return MultiLabelJointCalibration if multi_label else JointCalibration
    return MultiLabelCalibration if multi_label else Calibration


def fit_calibration(
    fixation_logits: Float[Tensor, "B F C"],
    labels: Int64[Tensor, " B"] | Bool[Tensor, "B C"],
    own: int | None = None,
    *,
    joint: bool = False,
) -> Calibration:
    """Return the calibration that makes held-out images' labels likeliest.

    Averaged over numbers of fixations: 1, 2, 4 and so on, and all F; ``own``, the network's own
    number, counts as much as the others together. With a single fixation, the sharpening stays 0.
    Of N images, each counts for its class with a weight of (N + 1) / (N + 2) and for the others
    with the rest (Platt 1999), so that a few images that are all right do not make the network
    certain.

    Args:
        fixation_logits: Of images that the network did not learn from; not calibrated.
        labels: Their classes; or which classes each has, for a :class:`MultiLabelCalibration`.
        own: From 1 to F; ``None``: all numbers count alike.
        joint: Whether ``fixation_logits`` are what the first 1, 2, … F fixations give together, for
            a :class:`JointCalibration`.

    Raises:
        ValueError: If there are no images, logits are not finite, or ``own`` is not one of F.
    """
    if len(labels) == 0:
        raise ValueError("fixation_logits must be those of at least 1 image, got none")
    if not fixation_logits.isfinite().all():
        raise ValueError("fixation_logits must be finite, got some that are not")
    looks = fixation_logits.shape[1]
    counts = {*(2**i for i in range(looks.bit_length()) if 2**i <= looks), looks}
    if own is not None:
        counts.add(positive_int("own", own, looks))
    count = torch.tensor(sorted(counts), dtype=torch.float64)
    weight = torch.ones_like(count)
    if own is not None and len(count) > 1:
        weight[count == own] = len(count) - 1
    logits, which, labels = fixation_logits.double().cpu(), count.long() - 1, labels.cpu()
    kind = calibration_of(multi_label=labels.ndim != 1, joint=joint)
    loss_of = _class_loss if labels.ndim == 1 else _label_loss
    free = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # log T and β
    steps = torch.optim.LBFGS([free], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        steps.zero_grad()
        log_t, beta = MOST * (free / MOST).tanh()
        # Without a sharpening, which then multiplies by a number that has a gradient.
        together = kind().of_first(logits / log_t.exp())[:, which] * (count**beta)[:, None]
        mean = (loss_of(together, labels) * weight).sum() / weight.sum()
        mean.backward()
        return mean

    steps.step(loss)
    log_t, beta = (MOST * (free.detach() / MOST).tanh()).tolist()
    return kind(math.exp(log_t), beta if looks > 1 else 0.0)


def _class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of ``[B, K, C]`` with classes ``[B]``, ``[K]``."""
    log_p, doubt = logits.log_softmax(-1), 1 / (len(labels) + 2)
    right = log_p.gather(-1, labels[:, None, None].expand(-1, log_p.shape[1], 1))
    wrong = (log_p.sum(-1, keepdim=True) - right) / max(log_p.shape[-1] - 1, 1)
    return -(right + doubt * (wrong - right)).mean((0, 2))


def _label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of ``[B, K, C]`` with labels ``[B, C]``, ``[K]``."""
    doubt = 1 / (len(labels) + 2)
    target = labels.to(logits.dtype)[:, None] * (1 - 2 * doubt) + doubt
    every = functional.binary_cross_entropy_with_logits(
        logits, target.expand_as(logits), reduction="none"
    )
    return every.mean((0, 2))
