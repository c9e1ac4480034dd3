"""The rule on the transport cost alone, without a classifier (Karkar's thesis, 5.4.1)."""

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fxtransport.detection.blocks import costs
from fxtransport.detection.checks import State
from fxtransport.detection.detector import Classes, Detector, Scores, not_fitted
from fxtransport.detection.observations import Observations
from fxtransport.errors import UsageError

FEWEST = 50
"""Clean images from which quantiles of 2 % and 98 % are taken."""
_MOST_DIRECTIONS = 1 << 16


class QuantileRule(Detector):
    """Rejects images whose transport cost is outside the quantiles of clean images.

    The cost is C = Σ ‖r_m‖²/d_m over the blocks. The score is how far C is outside the quantiles,
    negative within: (C − high)/(high − median) or (low − C)/(median − low), whichever is larger.
    So the rule itself is the threshold 0, which about ``low + 1 − high`` of clean images exceed.

    Args:
        low: The lower quantile.
        high: The upper one.
        directions: To how many directions the features have cosines.

    Raises:
        UsageError: the quantiles do not enclose the median, or a value is out of range.
    """

    name = "quantile"
    reads = ("transport",)
    own_threshold: ClassVar[float | None] = 0.0

    def __init__(self, low: float = 0.02, high: float = 0.98, directions: int = 1) -> None:
        if not 0 <= low < 0.5 < high <= 1 or not 1 <= directions <= _MOST_DIRECTIONS:
            raise UsageError(
                f"low={low}, high={high}, directions={directions}: quantiles are below and above "
                "0.5, and there is one direction or more"
            )
        self.low, self.high, self.directions = low, high, directions
        self._quantiles: NDArray[np.float64] | None = None

    @property
    def quantiles(self) -> NDArray[np.float64]:
        """The lower quantile, the median, and the upper quantile, of C on clean images: 3.

        Raises:
            UsageError: it was not fitted.
        """
        if self._quantiles is None:
            raise not_fitted(self.name)
        return self._quantiles

    def _fit(
        self, clean: Observations, attacked: Observations | None, predicted: Classes | None
    ) -> None:
        if len(clean) < FEWEST:
            raise UsageError(
                f"quantiles need {FEWEST} clean images beside those that are held out; there are "
                f"{len(clean)}"
            )
        found = np.quantile(self._cost(clean), (self.low, 0.5, self.high))
        _check(found)
        self._quantiles = found

    def _score(self, observed: Observations, predicted: Classes | None) -> Scores:
        low, median, high = self.quantiles
        cost = self._cost(observed)
        above = (cost - high) / (high - median)
        return np.asarray(np.maximum(above, (low - cost) / (median - low)))

    def _cost(self, observed: Observations) -> NDArray[np.float64]:
        """C of N images: N."""
        found = costs(observed["transport"], self.directions)
        return np.asarray(found.sum(1, dtype=np.float64))

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """What was learned: see :meth:`Detector.state`."""
        settings = {"low": self.low, "high": self.high, "directions": self.directions}
        return {"quantiles": self.quantiles}, settings

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """A fitted detector: see :meth:`Detector.from_state`."""
        state = State(arrays, settings)
        detector = cls(
            state.number("low", 0, 1),
            state.number("high", 0, 1),
            state.integer("directions", 1, _MOST_DIRECTIONS),
        )
        detector._quantiles = state.array("quantiles", np.float64, 3)
        state.finish()
        _check(detector._quantiles)
        return detector


def _check(quantiles: NDArray[np.float64]) -> None:
    low, median, high = quantiles
    if not low < median < high:
        raise UsageError(
            f"the quantiles of the transport cost of clean images are {low}, {median} and {high}: "
            "they must differ"
        )
