"""ODIN: the softmax of an image that was moved along the gradient of its own class.

Enhancing the Reliability of Out-of-distribution Image Detection in Neural Networks, ICLR 2018.
It needs the model, so that its score is observed, and its detector reads that.
"""

from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from fxtransport.detection.checks import State
from fxtransport.detection.detector import Classes, Detector, Scores
from fxtransport.detection.extractor import Extractor
from fxtransport.detection.observations import Observations
from fxtransport.detection.ood import pytorch_ood
from fxtransport.errors import UsageError
from fxtransport.modes import eval_mode


class OdinScores:
    """What ODIN makes of images, for ``Extractor.observe(…, further={"odin": …})``.

    Args:
        extractor: Of the model.
        eps: How far an image is moved, in units of the images.
        temperature: By which logits are divided.

    Raises:
        UsageError: a number is out of range, or pytorch-ood is not installed.
    """

    def __init__(
        self, extractor: Extractor, eps: float = 0.0014, temperature: float = 1000.0
    ) -> None:
        if not 0 <= eps < float("inf") or not 0 < temperature < float("inf"):
            raise UsageError(
                f"eps is 0 or more and temperature above 0, not {eps} and {temperature}"
            )
        self._extractor = extractor
        self._own = pytorch_ood("ODIN")(extractor.logits, eps=eps, temperature=temperature)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The scores of B images: B×1."""
        with eval_mode(self._extractor.program), torch.enable_grad():
            scores: torch.Tensor = self._own.predict(images)
        return scores[:, None]


class Odin(Detector):
    """The score that :class:`OdinScores` has observed: -max softmax(logits / T)."""

    name: ClassVar[str] = "odin"
    reads: ClassVar[tuple[str, ...]] = ("odin",)

    def _fit(
        self, clean: Observations, attacked: Observations | None, predicted: Classes | None
    ) -> None:
        self._score(clean, predicted)

    def _score(self, observed: Observations, predicted: Classes | None) -> Scores:
        found = observed["odin"]
        if found.shape[1] != 1:
            raise UsageError(f"odin is one number for each image, not {found.shape[1]}")
        return found[:, 0].astype(np.float64)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Nothing: nothing is learned."""
        return {}, {}

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """The detector.

        Raises:
            UsageError: the state is not empty.
        """
        State(arrays, settings).finish()
        return cls()
