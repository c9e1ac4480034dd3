"""Means with 95 % intervals, beside published ones."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats


class Mean(NamedTuple):
    """A mean, and half of its 95 % interval."""

    mean: float
    half: float

    def __str__(self) -> str:
        """``82.1 ± 2.6``."""
        return f"{self.mean:.1f} ± {self.half:.1f}"

    def against(self, other: "Mean") -> str:
        """Whether the intervals overlap; if not, on which side of the other this one is."""
        distance = self.mean - other.mean
        if abs(distance) <= self.half + other.half:
            return "agrees"
        return f"differs by {distance:+.1f}"

    @property
    def sign(self) -> int:
        """1 or -1 if the interval is above or below 0, else 0."""
        return 0 if abs(self.mean) <= self.half else int(math.copysign(1, self.mean))


def mean_of(values: Sequence[float]) -> Mean:
    """The mean, with the interval by Student's t."""
    count = len(values)
    if count < 2:
        return Mean(statistics.fmean(values), math.inf)
    error = statistics.stdev(values) / math.sqrt(count)
    return Mean(statistics.fmean(values), float(stats.t.ppf(0.975, count - 1)) * error)


def paired(values: Sequence[float], base: Sequence[float]) -> Mean:
    """The mean difference of values that belong together, one by one."""
    return mean_of([a - b for a, b in zip(values, base, strict=True)])
