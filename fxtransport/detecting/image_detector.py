"""A classifier with the detectors that were fitted for it: from images to verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fxtransport.data.transforms import Transforms, make_transforms
from fxtransport.detecting.fitted_on import FittedOn
from fxtransport.detecting.senses import Senses
from fxtransport.detecting.source import BATCH, pixel_options
from fxtransport.detection import Detector, Observations
from fxtransport.detection.detector import FPR
from fxtransport.detection.identity import ModelIdentity
from fxtransport.errors import UsageError

CLEAN, SUSPICIOUS = "clean", "suspicious"


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What a detector says of N images.

    Attributes:
        suspicious: Which are flagged: N, bool.
        p_values: Their conformal p-values, N, float64: of a clean image, at most q with
            probability at most q.
        scores: N, float64, the larger the more suspicious.
        predicted: The classes that the model predicts, N, int64.
        class_names: The names of all classes, in order.
        detector: The name of the detector.
        fpr: The false-positive rate at which images are flagged.
    """

    suspicious: NDArray[np.bool_]
    p_values: NDArray[np.float64]
    scores: NDArray[np.float64]
    predicted: NDArray[np.int64]
    class_names: tuple[str, ...]
    detector: str
    fpr: float

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def words(self) -> list[str]:
        """``clean`` or ``suspicious``, for each image."""
        return [SUSPICIOUS if flag else CLEAN for flag in self.suspicious]

    @property
    def predicted_names(self) -> list[str]:
        """The name of the predicted class of each image."""
        return [self.class_names[number] for number in self.predicted]


@dataclass(frozen=True, eq=False)
class ImageDetector:
    """A classifier, and the detectors that were fitted for it.

    Attributes:
        senses: The classifier, and what is read of images.
        identity: Which classifier it is, with its classes and preprocessing.
        detectors: By name; the first is asked where none is named.
        fitted_on: What they were fitted on.
        fitted_hashes: The hashes of the clean images that they were fitted on.
        calibration_hashes: Those of the clean images that they were calibrated with.
        other_hashes: Those of other data that they were fitted on.
    """

    senses: Senses
    identity: ModelIdentity
    detectors: Mapping[str, Detector]
    fitted_on: FittedOn
    fitted_hashes: tuple[str, ...]
    calibration_hashes: tuple[str, ...]
    other_hashes: tuple[str, ...] = ()

    @property
    def default(self) -> str:
        """The name of the detector that is asked where none is named."""
        return next(iter(self.detectors))

    def named(self, name: str | None) -> Detector:
        """One of the detectors.

        Raises:
            UsageError: there is none of this name.
        """
        found = self.detectors.get(name or self.default)
        if found is None:
            raise UsageError(
                f"no detector {name!r} was fitted: there are {', '.join(self.detectors)}"
            )
        return found

    def prepare(self, image: Image.Image) -> Tensor:
        """The pixels of an image as the model takes them, C×H×W from 0 to 1, not normalized."""
        made = self._transforms
        pixels: Tensor = made.plain(image.convert(made.mode))
        return pixels.clamp(0, 1)

    @cached_property
    def _transforms(self) -> Transforms:
        preprocessing = self.identity.preprocessing
        return make_transforms(preprocessing.size, pixel_options(preprocessing), None)

    def observe(self, images: Tensor | NDArray[Any]) -> Observations:
        """What is observed of images.

        Args:
            images: Of pixels, N×C×H×W, floating-point, from 0 to 1, as :meth:`prepare` returns
                them.

        Raises:
            UsageError: they hold NaN or infinities, are no pixels, or are of another size.
        """
        images = torch.as_tensor(images)
        if images.dim() != 4 or not len(images) or not images.is_floating_point():
            raise UsageError(
                "images are N×C×H×W, floating-point pixels from 0 to 1, not "
                f"{tuple(images.shape)} of {images.dtype}"
            )
        size = self.identity.preprocessing.size
        if tuple(images.shape[1:]) != size:
            raise UsageError(
                f"images are {tuple(images.shape[1:])}; the model takes {size}: prepare them first"
            )
        return self.senses.observe(images.to(torch.float32).split(BATCH))

    def score(
        self, images: Tensor | NDArray[Any], detector: str | None = None, *, fpr: float = FPR
    ) -> Verdicts:
        """Judge images.

        Args:
            images: Of pixels, N×C×H×W, floating-point, from 0 to 1; see :meth:`prepare`.
            detector: Which of the detectors judges; by default the first.
            fpr: At most this share of clean images is flagged, in expectation.

        Raises:
            UsageError: there is no such detector, it was calibrated with too few images for this
                rate, or the images cannot be judged; see :meth:`observe`.
        """
        asked = self.named(detector)
        threshold = asked.threshold(fpr=fpr)
        observed = self.observe(images)
        scores = asked.score(observed)
        assert asked.calibration is not None
        return Verdicts(
            suspicious=scores > threshold,
            p_values=asked.calibration.p_value(scores),
            scores=scores,
            predicted=observed.predicted,
            class_names=self.identity.classes,
            detector=asked.name,
            fpr=fpr,
        )
