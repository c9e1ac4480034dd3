"""A regularizer with its teacher, as a trainer takes them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fxtransport.objectives.transfer import Reference, Regularizer
from fxtransport.training.batches import Epochs
from fxtransport.training.cache import check_cacheable
from fxtransport.training.learner import autocast
from fxtransport.training.teacher import Teacher
from fxtransport.training.teacher_cache import CachedTeacher


@dataclass(frozen=True)
class Transfer:
    """What a student is trained near to.

    Args:
        regularizer: The penalties.
        teacher: What they refer to; None where none of them needs one.
        cache: A folder in which the teacher's answers for the training set are kept; None: it
            is asked at every step.
    """

    regularizer: Regularizer
    teacher: Teacher | None = None
    cache: Path | None = None

    def to(self, device: torch.device) -> "Transfer":
        """Move the regularizer and the teacher."""
        self.regularizer.to(device)
        if self.teacher is not None:
            self.teacher.to(device)
        return self

    def describe(self) -> dict[str, Any]:
        """What must be the same when a run is resumed, as JSON."""
        return {
            "regularizer": repr(self.regularizer),
            "teacher": None if self.teacher is None else self.teacher.sha256,
            "teacher_cache": None if self.cache is None else True,
        }


class Guide:
    """Asks a teacher about batches, in a run.

    Args:
        transfer: The regularizer and the teacher, on the device.
        device: Where the program is.
        amp: ``bf16``, ``fp16``, or None.
    """

    def __init__(self, transfer: Transfer, device: torch.device, amp: str | None) -> None:
        self.regularizer = transfer.regularizer
        self._teacher = transfer.teacher
        self._cached: CachedTeacher | None = None
        if self._teacher is not None and transfer.cache is not None:
            self._cached = CachedTeacher(self._teacher, transfer.cache)
        self._device = device
        self._amp = amp

    def prepare(self, train: Epochs, observe: Callable[[], None]) -> None:
        """Fill the cache, if there is one.

        Raises:
            UsageError: images are random, so that answers cannot be kept.
            CheckpointError: the cache cannot be written or read.
        """
        if self._cached is not None:
            stream = check_cacheable(train, "teacher_cache")
            self._cached.fill(stream, self._device, observe)

    def __call__(self, images: Any) -> Reference | None:
        """What the teacher says of a batch; None if there is none."""
        if self._teacher is None:
            return None
        if self._cached is not None:
            return _moved(self._cached(images), self._device)
        with autocast(self._device, self._amp):
            return self._teacher(images)


def _moved(reference: Reference, device: torch.device) -> Reference:
    logits = reference.logits
    return Reference(
        {name: value.to(device) for name, value in reference.activations.items()},
        None if logits is None else logits.to(device),
    )
