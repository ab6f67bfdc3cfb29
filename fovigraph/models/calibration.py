"""Calibrated probabilities: confidences that equal accuracies, for one fixation and for many."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fovigraph._checks import finite_float, positive_float

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
        return logits if self.sharpening == 0 else logits * count**self.sharpening

    def of_first(self, fixation_logits: Float[Tensor, "B F C"]) -> Float[Tensor, "B F C"]:
        """Return log-probabilities with only the first 1, 2, … F fixations (:meth:`of_one`)."""
        count = torch.arange(1, fixation_logits.shape[1] + 1, device=fixation_logits.device)
        summed = fixation_logits.log_softmax(-1).logcumsumexp(dim=1)
        log_mean = summed - count.log()[:, None]
        if self.sharpening == 0:
            return log_mean
        return (log_mean * (count**self.sharpening)[:, None]).log_softmax(-1)


def fit_calibration(
    fixation_logits: Float[Tensor, "B F C"], labels: Int64[Tensor, " B"]
) -> Calibration:
    """Return the calibration that makes held-out images' classes likeliest.

    Averaged over numbers of fixations: 1, 2, 4 and so on, and all F. With a single fixation, the
    sharpening stays 0. Of N images, each counts for its class with a weight of (N + 1) / (N + 2)
    and for the others with the rest (Platt 1999), so that a few images that are all right do not
    make the network certain.

    Args:
        fixation_logits: Of images that the network did not learn from; not calibrated.
        labels: Their classes.

    Raises:
        ValueError: If there are no images, or logits are not finite.
    """
    if len(labels) == 0:
        raise ValueError("fixation_logits must be those of at least 1 image, got none")
    if not fixation_logits.isfinite().all():
        raise ValueError("fixation_logits must be finite, got some that are not")
    looks = fixation_logits.shape[1]
    counts = sorted({*(2**i for i in range(looks.bit_length()) if 2**i <= looks), looks})
    logits, which = fixation_logits.double().cpu(), torch.tensor(counts) - 1
    target = labels.cpu()[:, None, None].expand(-1, len(counts), 1)
    doubt = 1 / (len(labels) + 2)
    free = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # log T and β
    steps = torch.optim.LBFGS([free], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        steps.zero_grad()
        log_t, beta = MOST * (free / MOST).tanh()
        scaled = (logits / log_t.exp()).log_softmax(-1).logcumsumexp(dim=1)[:, which]
        count = torch.tensor(counts, dtype=torch.float64)[:, None]
        log_p = ((scaled - count.log()) * count**beta).log_softmax(-1)
        right = log_p.gather(-1, target)
        wrong = (log_p.sum(-1, keepdim=True) - right) / max(log_p.shape[-1] - 1, 1)
        mean = -(right + doubt * (wrong - right)).mean()
        mean.backward()
        return mean

    steps.step(loss)
    log_t, beta = (MOST * (free.detach() / MOST).tanh()).tolist()
    return Calibration(math.exp(log_t), beta if looks > 1 else 0.0)
