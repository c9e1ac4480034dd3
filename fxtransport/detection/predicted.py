"""The predicted classes of images: given, or those of the logits."""

import numpy as np
from numpy.typing import NDArray

from fxtransport.detection.observations import Observations
from fxtransport.errors import UsageError

Classes = NDArray[np.int64]


def classes_of(observed: Observations, predicted: Classes | None) -> Classes | None:
    """The classes of N images: N, as given or of the logits; None where neither is there.

    Raises:
        UsageError: they are not whole numbers from 0, one for each image.
    """
    if predicted is None:
        return observed.predicted if "logits" in observed.values else None
    found = np.asarray(predicted)
    if found.shape != (len(observed),) or found.dtype.kind not in "iu" or (found < 0).any():
        raise UsageError(
            f"predicted classes are whole numbers from 0, one for each of {len(observed)} images"
        )
    return found.astype(np.int64)


def classes_of_both(
    clean: Observations, attacked: Observations | None, predicted: Classes | None
) -> tuple[Classes | None, Classes | None]:
    """The classes of clean and of attacked images; of none, if those of some are not known.

    Args:
        clean: N images.
        attacked: A images, or None.
        predicted: N + A, the clean ones first, or None.

    Raises:
        UsageError: they are not whole numbers from 0, one for each image.
    """
    if predicted is None:
        own = classes_of(clean, None)
        others = None if attacked is None else classes_of(attacked, None)
        known = own is not None and (attacked is None or others is not None)
        return (own, others) if known else (None, None)
    total = len(clean) + (0 if attacked is None else len(attacked))
    if len(predicted) != total:
        raise UsageError(f"{len(predicted)} predicted classes for {total} images")
    own = classes_of(clean, np.asarray(predicted)[: len(clean)])
    if attacked is None:
        return own, None
    return own, classes_of(attacked, np.asarray(predicted)[len(clean) :])


def joined(own: Classes | None, others: Classes | None) -> Classes | None:
    """The classes of clean images, and after them those of attacked ones, where they are known."""
    known = [each for each in (own, others) if each is not None]
    return np.concatenate(known) if known else None
