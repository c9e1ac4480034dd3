"""How well scores tell attacked images from clean ones, with intervals over seeds."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from fxtransport.errors import UsageError

TPR = 0.95
"""The detection rate at which the false-positive rate is reported."""
CONFIDENCE = 0.95
"""Of intervals over seeds."""


@dataclass(frozen=True)
class Metrics:
    """Figures of one test, each from 0 to 1.

    Attributes:
        auroc: The area below the ROC curve.
        aupr_in: Average precision where clean images are to be found (by low scores).
        aupr_out: Average precision where attacked images are to be found.
        fpr95tpr: The share of clean images that is flagged where at least 95 % of the attacked
            ones are.
        accuracy: The mean over all images of whether the decision is right.
        fpr: The share of clean images that is flagged.
        tpr: The share of attacked images that is flagged.
        successful: The share of those attacked images that is flagged whose attack succeeded;
            NaN where none did.
    """

    auroc: float
    aupr_in: float
    aupr_out: float
    fpr95tpr: float
    accuracy: float
    fpr: float
    tpr: float
    successful: float


def metrics(
    clean: ArrayLike,
    attacked: ArrayLike,
    threshold: float,
    succeeded: ArrayLike | None = None,
) -> Metrics:
    """The figures of one test.

    Args:
        clean: The scores of N clean images, the larger the more suspicious.
        attacked: The scores of A attacked images.
        threshold: What the scores of flagged images exceed.
        succeeded: Whether each attack fooled the network, A; by default all did.

    Raises:
        UsageError: there are no images of a kind, or a score is not a number.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    own, other = (np.asarray(each, dtype=np.float64) for each in (clean, attacked))
    fooled = np.ones(len(other), bool) if succeeded is None else np.asarray(succeeded, dtype=bool)
    if own.ndim != 1 or other.ndim != 1 or not len(own) or not len(other):
        raise UsageError("metrics need the scores of clean and of attacked images, one or more")
    if fooled.shape != other.shape:
        raise UsageError(f"succeeded is of shape {fooled.shape} for {len(other)} attacked images")
    scores = np.concatenate([own, other])
    if not np.isfinite(scores).all():
        raise UsageError("a score is not a finite number")
    labels = np.repeat([0, 1], [len(own), len(other)])
    flags = scores > threshold
    rates, detected, _ = roc_curve(labels, scores, drop_intermediate=False)
    found = flags[len(own) :]
    return Metrics(
        auroc=float(roc_auc_score(labels, scores)),
        aupr_in=float(average_precision_score(1 - labels, -scores)),
        aupr_out=float(average_precision_score(labels, scores)),
        fpr95tpr=float(rates[np.argmax(detected >= TPR)]),
        accuracy=float((flags == labels).mean()),
        fpr=float(flags[: len(own)].mean()),
        tpr=float(found.mean()),
        successful=float(found[fooled].mean()) if fooled.any() else math.nan,
    )


@dataclass(frozen=True)
class Interval:
    """A mean over seeds, and half of its interval.

    Attributes:
        mean: The mean of the values that are numbers.
        half: Half of the 95 % interval by Student's t; infinite for fewer than two values.
        count: How many values are numbers.
    """

    mean: float
    half: float
    count: int

    def __str__(self) -> str:
        """In percent: ``97.1 ± 0.4``."""
        return f"{100 * self.mean:.1f} ± {100 * self.half:.1f}"


def interval(values: Sequence[float]) -> Interval:
    """The mean of one figure over seeds, with its interval by Student's t.

    The interval assumes that the seeds' values are independent draws of a normal distribution. Of
    no values that are numbers, the mean is NaN.

    >>> print(interval([0.97, 0.98, 0.975, 0.96, 0.99]))
    97.5 ± 1.4
    """
    from scipy import stats

    numbers = np.asarray([value for value in values if not math.isnan(value)])
    count = len(numbers)
    if not count:
        return Interval(math.nan, math.inf, 0)
    mean = float(numbers.mean())
    if count < 2:
        return Interval(mean, math.inf, count)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
    return Interval(mean, quantile * float(numbers.std(ddof=1)) / math.sqrt(count), count)


def over_seeds(many: Sequence[Metrics]) -> dict[str, Interval]:
    """Each figure's mean over seeds, by its name, with its interval by Student's t.

    Raises:
        UsageError: there are none.
    """
    if not many:
        raise UsageError("there are no figures to take a mean of")
    rows = [asdict(each) for each in many]
    return {name: interval([row[name] for row in rows]) for name in rows[0]}
