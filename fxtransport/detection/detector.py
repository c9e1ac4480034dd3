"""What every detector does: fit, score, decide, and give p-values."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fxtransport.detection.observations import Array, Observations
from fxtransport.errors import UsageError

Scores = NDArray[np.float64]
Classes = NDArray[np.int64]


class Detector(ABC):
    """Scores images: the larger the score, the more suspicious.

    A detector reads some of the arrays of :class:`Observations`. Where it reads one, the bare
    array (N×F) may be given in their place.
    """

    name: ClassVar[str]
    """Its name on the command line and in tables."""
    reads: ClassVar[tuple[str, ...]]
    """The arrays that it reads; ``layer`` stands for all of ``layer.0``, ``layer.1``, …"""
    needs_attacked: ClassVar[bool] = False
    """Whether it is fitted on attacked images, too."""

    def fit(
        self,
        clean: Observations | Array,
        attacked: Observations | Array | None = None,
        predicted: Classes | None = None,
    ) -> Self:
        """Learn from images.

        Args:
            clean: Of N clean images.
            attacked: Of A attacked images; a detector that needs none leaves them alone.
            predicted: The predicted class of each image, the clean ones first: N + A. By
                default those of the logits, where there are logits.

        Raises:
            UsageError: there are too few images, or attacked ones are needed.
        """
        if attacked is None and self.needs_attacked:
            raise UsageError(f"{self.name} is fitted on clean and attacked images; give both")
        own = self._observations(clean)
        others = None if attacked is None else self._observations(attacked)
        self._fit(own, others, predicted)
        return self

    def score(self, observed: Observations | Array, predicted: Classes | None = None) -> Scores:
        """The scores of N images: N, float64, the larger the more suspicious."""
        return self._score(self._observations(observed), predicted)

    def _observations(self, given: Observations | Array) -> Observations:
        if isinstance(given, Observations):
            return given
        if len(self.reads) != 1 or self.reads[0] == "layer":
            raise UsageError(
                f"{self.name} reads {', '.join(self.reads)}; give it Observations, not an array"
            )
        return Observations({self.reads[0]: np.asarray(given, dtype=np.float32)})

    @abstractmethod
    def _fit(
        self, clean: Observations, attacked: Observations | None, predicted: Classes | None
    ) -> None:
        """Learn from clean images, and attacked ones."""

    @abstractmethod
    def _score(self, observed: Observations, predicted: Classes | None) -> Scores:
        """The scores of N images: N."""

    @abstractmethod
    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """What was learned: arrays for safetensors, and settings for JSON."""

    @classmethod
    @abstractmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """A fitted detector from :meth:`state`, all of which is checked.

        Raises:
            UsageError: the state is not of such a detector.
        """
