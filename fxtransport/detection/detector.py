"""What every detector does: fit, score, decide, give p-values, save and load."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fxtransport.detection.calibration import Calibration
from fxtransport.detection.holding_out import hold_out
from fxtransport.detection.identity import ModelIdentity
from fxtransport.detection.observations import Array, Observations
from fxtransport.detection.predicted import Classes, classes_of, classes_of_both, joined
from fxtransport.detection.saved import DESCRIPTION, SavedDetector, read, write
from fxtransport.errors import SavedDetectorError, UsageError

__all__ = ["FPR", "HELD_OUT", "Classes", "Detector", "Flags", "Scores", "not_fitted"]

Scores = NDArray[np.float64]
Flags = NDArray[np.bool_]

HELD_OUT = 0.2
"""The share of images that is held out to calibrate, by default."""
FPR = 0.05
"""The false-positive rate at which images are flagged, by default."""


class Detector(ABC):
    """Scores images: the larger the score, the more suspicious.

    A detector reads some of the arrays of :class:`Observations`. Where it reads one, the bare
    array (N×F) may be given in their place.

    Scores become decisions by images that the detector was not fitted on. A clean image that is
    drawn as those were is flagged at ``fpr=q`` with probability at most q, whatever the detector
    is; see :mod:`fxtransport.detection.calibration` for this guarantee and its source.
    """

    name: ClassVar[str]
    """Its name on the command line and in tables."""
    reads: ClassVar[tuple[str, ...]]
    """The arrays that it reads; ``layer`` stands for all of ``layer.0``, ``layer.1``, …"""
    needs_attacked: ClassVar[bool] = False
    """Whether it is fitted on attacked images, too."""
    own_threshold: ClassVar[float | None] = None
    """The threshold that its method has of itself, without calibration: 0.5 of a forest."""

    calibration: Calibration | None = None
    """The scores of images that were held out."""
    model: ModelIdentity | None = None
    """The model that it belongs to, as it was given to :meth:`save`."""

    def fit(
        self,
        clean: Observations | Array,
        attacked: Observations | Array | None = None,
        predicted: Classes | None = None,
        *,
        held_out: float = HELD_OUT,
        seed: int = 0,
    ) -> Self:
        """Learn from some of the images, and calibrate with the others.

        Args:
            clean: Of N clean images. Noisy copies may be among them; those whose ``sources``
                tell them from originals are left out of the calibration.
            attacked: Of A attacked images; a detector that needs none is only calibrated with
                them, for ``threshold(tpr=…)``.
            predicted: The predicted class of each image, the clean ones first: N + A. By
                default those of the logits, where there are logits.
            held_out: The share of images that is held out to calibrate, with all that was made
                from them (see ``Observations.sources``; where sources are not known, an image
                may calibrate although what was made from it was fitted on). 0 leaves the
                calibration to :meth:`calibrate`.
            seed: By which they are chosen.

        Raises:
            UsageError: there are too few images, or attacked ones are needed.
        """
        if attacked is None and self.needs_attacked:
            raise UsageError(f"{self.name} is fitted on clean and attacked images; give both")
        own = self._observations(clean)
        others = None if attacked is None else self._observations(attacked)
        classes = classes_of_both(own, others, predicted)
        rows = hold_out(own, others, held_out, seed)
        self.calibration = None
        self._fit(*_taken(own, others, classes, rows.clean, rows.attacked))
        if held_out:
            self.calibrate(*_taken(own, others, classes, rows.held_clean, rows.held_attacked))
        return self

    def calibrate(
        self,
        clean: Observations | Array,
        attacked: Observations | Array | None = None,
        predicted: Classes | None = None,
    ) -> Self:
        """Score images that the detector was not fitted on, for p-values and thresholds.

        Args:
            clean: Of N clean images: n of them, those that are no noisy copies, are scored.
            attacked: Of A attacked images, for ``threshold(tpr=…)``.
            predicted: The predicted class of each image, the clean ones first: N + A.

        Raises:
            UsageError: there are no clean images, or the detector was not fitted.
        """
        own = self._observations(clean)
        others = None if attacked is None else self._observations(attacked)
        own_classes, other_classes = classes_of_both(own, others, predicted)
        scores = self.score(own, own_classes)[own.originals]
        more = None if others is None else self.score(others, other_classes)
        self.calibration = Calibration.of(scores, more)
        return self

    def score(self, observed: Observations | Array, predicted: Classes | None = None) -> Scores:
        """The scores of N images: N, float64, the larger the more suspicious.

        Args:
            observed: Of the images.
            predicted: Their predicted classes, N; by default those of the logits, if any.

        Raises:
            UsageError: the detector was not fitted, or on other features; or a score is not a
                finite number.
        """
        own = self._observations(observed)
        scores = np.asarray(self._score(own, classes_of(own, predicted)), dtype=np.float64)
        assert scores.shape == (len(own),)
        good = np.isfinite(scores)
        if not good.all():
            raise UsageError(
                f"{self.name} has no finite score for image {int(good.argmin())}; leave it out"
            )
        return scores

    def p_value(self, observed: Observations | Array, predicted: Classes | None = None) -> Scores:
        """The conformal p-values of N images: N, float64, in [1/(n + 1), 1].

        If an image is clean, and exchangeable with the n clean images of the calibration, the
        probability that its p-value is at most q is at most q.

        Raises:
            UsageError: as :meth:`score` and :meth:`threshold`.
        """
        return self._calibrated().p_value(self.score(observed, predicted))

    def threshold(self, *, fpr: float | None = None, tpr: float | None = None) -> float:
        """The threshold, which scores of flagged images exceed, of one of two rates.

        Args:
            fpr: At most this share of clean images is flagged, in expectation.
            tpr: At least this share of attacked images is flagged, in expectation, of attacks
                like those that the detector was calibrated with.

        Raises:
            UsageError: not one of the two is given, or the detector was not calibrated, or with
                too few images for the rate; the message says how many are needed.
        """
        if (fpr is None) == (tpr is None):
            raise UsageError("give one of fpr and tpr")
        if fpr is not None:
            return self._calibrated().threshold_of_fpr(fpr)
        assert tpr is not None
        return self._calibrated().threshold_of_tpr(tpr)

    def predict(
        self,
        observed: Observations | Array,
        predicted: Classes | None = None,
        *,
        threshold: float | None = None,
        fpr: float | None = None,
        tpr: float | None = None,
    ) -> Flags:
        """Whether each of N images is flagged: N, bool.

        Args:
            observed: Of the images.
            predicted: Their predicted classes; see :meth:`score`.
            threshold: Flagged are those whose score exceeds it, or
            fpr: that of this false-positive rate, :data:`FPR` by default, or
            tpr: that of this detection rate; see :meth:`threshold`.

        Raises:
            UsageError: as :meth:`score` and :meth:`threshold`; or several of the three are given.
        """
        given = [each for each in (threshold, fpr, tpr) if each is not None]
        if len(given) > 1:
            raise UsageError("give one of threshold, fpr and tpr")
        if threshold is None:
            threshold = self.threshold(fpr=fpr if given else FPR, tpr=tpr)
        return self.score(observed, predicted) > threshold

    def save(self, folder: str | os.PathLike[str], model: ModelIdentity | None = None) -> None:
        """Write the detector into a folder, which is made if it does not exist.

        Args:
            folder: Where. A detector that is there is replaced.
            model: The model that it belongs to; by default :attr:`model`.

        Raises:
            UsageError: the detector was not fitted.
            SavedDetectorError: the folder cannot be written.
        """
        self.model = model or self.model
        arrays, settings = self.state()
        write(folder, SavedDetector(self.name, arrays, settings, self.calibration, self.model))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """The detector in a folder. Nothing that is there is executed; all of it is checked.

        Raises:
            SavedDetectorError: there is none, or a damaged one, or a detector of another kind.
        """
        return cls.restored(read(folder), folder)

    @classmethod
    def restored(cls, saved: SavedDetector, folder: str | os.PathLike[str]) -> Self:
        """The detector that was read from a folder, for those who read it to learn its name.

        Raises:
            SavedDetectorError: it is another kind of detector, or its state is invalid.
        """
        if saved.detector != cls.name:
            raise SavedDetectorError(
                f"{folder} holds the detector {saved.detector!r}, not {cls.name}"
            )
        try:
            detector = cls.from_state(dict(saved.arrays), dict(saved.settings))
        except UsageError as error:
            path = Path(folder) / DESCRIPTION
            raise SavedDetectorError(f"{path} is damaged: {error}") from error
        detector.calibration, detector.model = saved.calibration, saved.model
        return detector

    def _calibrated(self) -> Calibration:
        if self.calibration is None:
            raise UsageError(
                f"{self.name} was not calibrated; fit it with held_out above 0, or call calibrate"
            )
        return self.calibration

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
        """Learn from clean images, and attacked ones; their classes are N + A, if known."""

    @abstractmethod
    def _score(self, observed: Observations, predicted: Classes | None) -> Scores:
        """The scores of N images: N; their classes are known where they are needed or given."""

    @abstractmethod
    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """What was learned: arrays for safetensors, and settings for JSON.

        Raises:
            UsageError: nothing was, because the detector was not fitted.
        """

    @classmethod
    @abstractmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """A fitted detector from :meth:`state`, all of which is checked.

        Raises:
            UsageError: the state is not of such a detector.
        """


def not_fitted(name: str) -> UsageError:
    """The error of a detector that was not fitted."""
    return UsageError(f"{name} was not fitted; call fit first, or load a fitted one")


def _taken(
    clean: Observations,
    attacked: Observations | None,
    classes: tuple[Classes | None, Classes | None],
    rows: NDArray[np.int64],
    attacked_rows: NDArray[np.int64],
) -> tuple[Observations, Observations | None, Classes | None]:
    """Some clean images, some attacked ones, and the classes of both."""
    own, others = classes
    chosen = joined(
        None if own is None else own[rows], None if others is None else others[attacked_rows]
    )
    return clean.take(rows), None if attacked is None else attacked.take(attacked_rows), chosen
