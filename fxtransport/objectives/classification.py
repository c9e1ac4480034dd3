"""Classification losses, of class indices or of probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

from fxtransport.errors import UsageError


class Classification(Protocol):
    """A loss of logits, B×C or B×C×positions, against targets."""

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar, averaged over the batch."""


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy, with label smoothing.

    Args:
        label_smoothing: The share of each target that is spread evenly over all classes.

    Raises:
        UsageError: the share is not between 0 and 1.
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing <= 1:
            raise UsageError(f"label_smoothing must be in 0..1, not {self.label_smoothing}")

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar in float32 at least.

        Args:
            logits: B×C, or B×C×positions.
            targets: Class indices, int64, of the shape of the logits without C; or
                probabilities of the shape of the logits, as mixup makes them.

        Raises:
            UsageError: the targets do not match the logits.
        """
        logits = _check(logits, targets)
        return F.cross_entropy(
            logits, _convert(targets, logits.dtype), label_smoothing=self.label_smoothing
        )


class WeightedCrossEntropy(nn.Module):
    """Cross-entropy in which each class counts as its weight says, with label smoothing.

    The sum of w_y · L is divided by the number of samples, not by the sum of their weights, so that
    the loss of a batch is the mean over its pieces.

    Args:
        weights: w, one for each class.
        label_smoothing: The share of each target that is spread evenly over all classes.

    Raises:
        UsageError: a weight is negative, all are 0, or the share is not between 0 and 1.
    """

    weights: torch.Tensor

    def __init__(self, weights: Sequence[float], label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not (all(weight >= 0 for weight in weights) and any(weights)):
            raise UsageError(f"class weights are numbers of at least 0, not {[*weights][:5]}")
        self.label_smoothing = CrossEntropy(label_smoothing).label_smoothing
        self.register_buffer(
            "weights", torch.tensor([*weights], dtype=torch.float32), persistent=False
        )

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar in float32 at least; arguments are as for :class:`CrossEntropy`.

        Raises:
            UsageError: the targets do not match the logits, or there is another number of classes.
        """
        logits = _check(logits, targets)
        if logits.shape[1] != len(self.weights):
            raise UsageError(
                f"there are {len(self.weights)} class weights, and {logits.shape[1]} classes"
            )
        total = F.cross_entropy(
            logits,
            _convert(targets, logits.dtype),
            weight=self.weights.to(logits.dtype),
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        return total * (logits.shape[1] / logits.numel())

    def extra_repr(self) -> str:
        """The weights and the share."""
        return f"weights={self.weights.tolist()}, label_smoothing={self.label_smoothing}"


@dataclass(frozen=True)
class ReverseCrossEntropy:
    """Cross-entropy of softmax(-z) against the reversed label (1 - 1_y)/(C - 1).

    L = -1/(C - 1) · Σ_{c≠y} log softmax(-z)_c. It makes the logits of the wrong classes equal,
    so that adversarial inputs stand out; the class is still the largest logit (RCE; Pang et
    al., *Towards Robust Detection of Adversarial Examples*, NeurIPS 2018, section 3, whose
    network computes -z while it trains; compared with in THESIS 5.4).
    """

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar in float32 at least.

        Args:
            logits: z, B×C, or B×C×positions; C is at least 2.
            targets: Class indices or probabilities, as for :class:`CrossEntropy`.

        Raises:
            UsageError: the targets do not match the logits, or there is only one class.
        """
        logits = _check(logits, targets)
        classes = logits.shape[1]
        if classes < 2:
            raise UsageError("reverse cross-entropy needs at least two classes")
        if not targets.is_floating_point():
            targets = F.one_hot(targets, classes).movedim(-1, 1)
        return F.cross_entropy(-logits, (1 - _convert(targets, logits.dtype)) / (classes - 1))


def _convert(targets: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Probabilities in the precision of the logits; class indices unchanged."""
    return targets.to(dtype) if targets.is_floating_point() else targets


def _check(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The logits, in float32 at least, if the targets match them."""
    expected = logits.shape
    if not targets.is_floating_point():
        expected = torch.Size((*logits.shape[:1], *logits.shape[2:]))
        if targets.dtype != torch.int64:
            raise UsageError(f"class indices are {targets.dtype}, not int64; use targets.long()")
    if logits.dim() < 2 or targets.shape != expected:
        raise UsageError(
            f"targets of shape {tuple(targets.shape)} do not match logits of shape "
            f"{tuple(logits.shape)}: give class indices (B) or probabilities (B×C)"
        )
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
