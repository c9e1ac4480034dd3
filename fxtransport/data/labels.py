"""The classes of samples, without fetching their inputs."""

from typing import Any

import torch
from torch import Tensor


def labels_of(samples: Any) -> Tensor | None:
    """The class of each sample, int64, in order; None where samples do not tell.

    Args:
        samples: Those of :mod:`fxtransport.data.streams` tell by a method ``labels``.
    """
    tell = getattr(samples, "labels", None)
    return tell() if callable(tell) else None


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """N/(C·n_c) for each class c: equal for equally frequent ones, and 1 on average over samples.

    Args:
        labels: The class of each of N samples, int64.
        classes: The number of classes, C. One without samples has weight 0.

    >>> balanced_weights(torch.tensor([0, 0, 0, 1]), classes=2)
    tensor([0.6667, 2.0000])
    """
    counts = torch.bincount(labels, minlength=classes)
    weights = len(labels) / (classes * counts.clamp(min=1))
    return torch.where(counts > 0, weights, 0.0)
