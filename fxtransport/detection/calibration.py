"""From scores to p-values and thresholds, with guarantees that hold for any detector.

Split conformal prediction: images that a detector was not fitted on are scored, and a new image is
compared with them. The p-value of a score s among n calibration scores is

    p = (1 + #{calibration scores ≥ s}) / (n + 1).

If the new image is clean and exchangeable with the calibration images (independent draws of one
distribution are), P(p ≤ q) ≤ q for every q, for every n and whatever the distribution and the
detector are: Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World* (2005), section
2.2; as a test for outliers, Bates, Candès, Lei, Romano and Sesia, *Testing for outliers with
conformal p-values*, Annals of Statistics 51 (2023), section 2. The probability is over the
calibration images, too: with one calibration set, the rate varies around its mean by about
√(q(1 − q)/n). Nothing is guaranteed for images of another distribution than the calibration's.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxtransport.errors import UsageError

Scores = NDArray[np.float64]

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Calibration:
    """The scores of images that a detector was not fitted on.

    Attributes:
        clean: Of n clean images: float64, ascending.
        attacked: Of attacked images, likewise; there may be none.

    Raises:
        UsageError: there are no clean scores, or scores that are not numbers or not in order.
    """

    clean: Scores
    attacked: Scores = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        _check("clean", self.clean)
        _check("attacked", self.attacked)
        if not len(self.clean):
            raise UsageError("no clean images are left to calibrate with; give more")

    @classmethod
    def of(cls, clean: NDArray[Any], attacked: NDArray[Any] | None = None) -> "Calibration":
        """From scores in any order."""
        empty = np.empty(0) if attacked is None else attacked
        return cls(*(np.sort(np.asarray(scores, dtype=np.float64)) for scores in (clean, empty)))

    def p_value(self, scores: Scores) -> Scores:
        """The conformal p-value of each score: N, in [1/(n + 1), 1]."""
        at_least = len(self.clean) - np.searchsorted(self.clean, scores, side="left")
        return np.asarray((1 + at_least) / (len(self.clean) + 1))

    def threshold_of_fpr(self, fpr: float) -> float:
        """The threshold that a clean image's score exceeds with probability ``fpr`` at most.

        A score exceeds it just where its p-value is at most ``fpr``.

        Raises:
            UsageError: ``fpr`` is not between 0 and 1, or there are too few clean scores.
        """
        rank = _rank("fpr", fpr, fpr, len(self.clean), "clean")
        return float(self.clean[-rank])

    def supports_fpr(self, fpr: float) -> bool:
        """Whether there are enough clean scores for a false-positive rate."""
        return _highest_rank(fpr, len(self.clean)) > 0

    def supports_tpr(self, tpr: float) -> bool:
        """Whether there are enough attacked scores for a detection rate."""
        return _highest_rank(1 - tpr, len(self.attacked)) > 0

    def threshold_of_tpr(self, tpr: float) -> float:
        """The threshold that an attacked image's score exceeds with probability ``tpr`` at least.

        The guarantee is the same with attacked images in the place of clean ones: it holds for
        attacks like those that were given.

        Raises:
            UsageError: ``tpr`` is not between 0 and 1, or there are too few attacked scores.
        """
        rank = _rank("tpr", tpr, 1 - tpr, len(self.attacked), "attacked")
        return float(np.nextafter(self.attacked[rank - 1], -np.inf))


def _highest_rank(share: float, count: int) -> int:
    """The largest k ≤ count with k / (count + 1) at most a share."""
    # 1 − 0.95 is not quite 0.05, and 0.3 · 10 may be a little less than 3
    return min(count, math.floor(share * (count + 1) + _ROUNDING))


def _rank(name: str, value: float, share: float, count: int, kind: str) -> int:
    """The highest rank, which is not 0.

    Raises:
        UsageError: it is, or the value is not a rate.
    """
    if not 0 < value < 1:
        raise UsageError(f"{name} is a rate between 0 and 1, not {value}")
    rank = _highest_rank(share, count)
    if rank < 1:
        needed = math.ceil(1 / share - 1 - _ROUNDING / share)
        raise UsageError(
            f"{name}={value:g} needs {needed} {kind} images that the detector was not fitted on; "
            f"there are {count}: give more images, or another {name}"
        )
    return rank


def _check(name: str, scores: Scores) -> None:
    if scores.dtype != np.float64 or scores.ndim != 1:
        raise UsageError(f"the {name} calibration scores are not a 1-D array of float64")
    if not np.isfinite(scores).all():
        raise UsageError(f"the {name} calibration scores hold NaN or infinities")
    if not (scores[1:] >= scores[:-1]).all():
        raise UsageError(f"the {name} calibration scores are not in ascending order")
