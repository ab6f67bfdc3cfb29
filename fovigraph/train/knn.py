"""Evaluation of features without training anything: neighbours vote for the class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fovigraph._checks import positive_float, positive_int
from fovigraph._tensors import real_tensor

SIMILARITIES = 2**24
"""Similarities that are held at a time."""


@torch.no_grad()
def knn_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Return the accuracy of the weighted k-nearest-neighbour classifier.

    The k training features of the largest cosine similarity s vote for their class with the weight
    exp(s / τ) (Wu et al. 2018, Section 3.4).

    Args:
        train_features: ``[N, D]``.
        train_labels: Classes, whole numbers from 0, ``[N]``.
        test_features: ``[M, D]``, on the same device.
        test_labels: ``[M]``.
        k: Neighbours that vote; all, if there are fewer.
        temperature: τ.

    Returns:
        The fraction of test features whose class got most of the votes.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import torch
        >>> from fovigraph.train.knn import knn_accuracy
        >>> features, labels = torch.eye(3), torch.arange(3)
        >>> knn_accuracy(features, labels, features, labels, k=2)
        1.0
    """
    k, temperature = positive_int("k", k), positive_float("temperature", temperature)
    _check("train", train_features, train_labels)
    _check("test", test_features, test_labels)
    if train_features.shape[1] != test_features.shape[1]:
        raise ValueError(
            f"test_features must have as many dimensions as train_features, "
            f"{train_features.shape[1]}, got {test_features.shape[1]}"
        )
    train, test = (F.normalize(x.float(), dim=1) for x in (train_features, test_features))
    classes = int(train_labels.max()) + 1
    chunk = max(1, SIMILARITIES // len(train))
    correct = 0
    for queries, wanted in zip(test.split(chunk), test_labels.split(chunk), strict=True):
        similarity, index = (queries @ train.T).topk(min(k, len(train)), dim=1)
        weight = (similarity / temperature).softmax(dim=1)  # in proportion to exp, and finite
        votes = weight.new_zeros(len(queries), classes)
        votes.scatter_add_(1, train_labels[index].long(), weight)
        correct += int((votes.argmax(dim=1) == wanted).sum())
    return correct / len(test)


def _check(name: str, features: Tensor, labels: Tensor) -> None:
    real_tensor(f"{name}_features", features)
    real_tensor(f"{name}_labels", labels)
    if features.ndim != 2 or not len(features):
        raise ValueError(f"{name}_features must be [N, D], N ≥ 1, got {list(features.shape)}")
    if not features.isfinite().all():
        raise ValueError(f"{name}_features must be finite, got some that are NaN or infinite")
    if labels.shape != features.shape[:1]:
        raise ValueError(
            f"{name}_labels must be one for each of {len(features)} features, "
            f"got shape {list(labels.shape)}"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError(f"{name}_labels must be whole numbers, got {labels.dtype}")
    if int(labels.min()) < 0:
        raise ValueError(f"{name}_labels must be at least 0, got {int(labels.min())}")
