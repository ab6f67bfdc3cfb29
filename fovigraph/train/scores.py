"""ROC AUC and average precision of every class, by scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np
from torch import Tensor


def need_sklearn() -> ModuleType:
    """Return scikit-learn's metrics.

    Raises:
        ImportError: If it is not installed; the message names the extra.
    """
    try:
        from sklearn import metrics
    except ImportError as error:
        raise ImportError(
            "ROC AUC and average precision need scikit-learn: pip install 'fovigraph[train]'"
        ) from error
    return metrics  # type: ignore[no-any-return]


def roc_auc(scores: Tensor, labels: Tensor) -> list[float | None]:
    """Return the area under the ROC curve of every class against all others.

    Args:
        scores: Higher for images of the class, ``[N, C]``.
        labels: Which images are of it, bool ``[N, C]``.

    Returns:
        For each class; ``None`` where all images, or none, are of it.

    Raises:
        ImportError: If scikit-learn is not installed.
    """
    return _of_classes(need_sklearn().roc_auc_score, scores, labels, all_will_do=False)


def average_precision(scores: Tensor, labels: Tensor) -> list[float | None]:
    """Return the average precision of every class.

    Arguments and errors are those of :func:`roc_auc`.

    Returns:
        For each class; ``None`` where no image is of it.
    """
    return _of_classes(need_sklearn().average_precision_score, scores, labels, all_will_do=True)


def mean(scores: Sequence[float | None], weights: Sequence[float] | None = None) -> float | None:
    """Return the mean over the classes that have a score; ``None``: none has.

    Args:
        scores: Of every class.
        weights: Of every class; ``None``: all the same.
    """
    weights = [1.0] * len(scores) if weights is None else weights
    known = [(w, score) for w, score in zip(weights, scores, strict=True) if score is not None]
    total = sum(w for w, _ in known)
    return sum(w * score for w, score in known) / total if known else None


def _of_classes(
    score: Callable[[np.ndarray, np.ndarray], float],
    scores: Tensor,
    labels: Tensor,
    *,
    all_will_do: bool,
) -> list[float | None]:
    found: list[float | None] = []
    for values, truth in zip(scores.T.numpy(), labels.T.numpy(), strict=True):
        enough = truth.any() and (all_will_do or not truth.all())
        found.append(float(score(truth, values)) if enough else None)
    return found
