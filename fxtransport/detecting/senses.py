"""What detectors read of images: an extractor, and what is taken of the pixels themselves."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from fxtransport.detection import Extractor, Observations, detector_class
from fxtransport.detection.identity import Preprocessing
from fxtransport.detection.laplacian import laplacian
from fxtransport.detection.nss import nss
from fxtransport.detection.odin import OdinScores
from fxtransport.detection.stability import LogitStability
from fxtransport.process import device_of
from fxtransport.program import Program

Take = Callable[[torch.Tensor], Any]


class Senses:
    """From pixels to observations, of all that some detectors read.

    Args:
        program: The classifier, which is put into eval mode.
        preprocessing: Whose mean and deviation are those of its input.
        detectors: The names of the detectors.

    Raises:
        FxTransportError: the program has no block to look at, or a package is missing.
    """

    def __init__(
        self, program: Program, preprocessing: Preprocessing, detectors: Iterable[str]
    ) -> None:
        program.eval()
        self.extractor = Extractor(program, mean=preprocessing.mean, std=preprocessing.std)
        self.extractor.eval()
        self.extractor.to(device_of(program))
        reads = {array for each in detectors for array in detector_class(each).reads}
        self.further: dict[str, Take] = dict(self._makers(reads))

    @property
    def program(self) -> Program:
        """The classifier."""
        return self.extractor.program

    def _makers(self, reads: set[str]) -> Iterable[tuple[str, Take]]:
        if "laplacian" in reads:
            yield "laplacian", laplacian
        if "nss" in reads:
            yield "nss", nss
        if "odin" in reads:
            yield "odin", OdinScores(self.extractor)
        if "stability" in reads:
            yield "stability", LogitStability(self.extractor)

    def observe(self, batches: Iterable[torch.Tensor]) -> Observations:
        """The observations of images.

        Args:
            batches: Of pixels, B×C×H×W each, float32, from 0 to 1.

        Raises:
            UsageError: images hold NaN or infinities, or are of another shape.
        """
        return self.extractor.observe(batches, further=self.further)
