"""Detectors of pytorch-ood that read what enters the classifier."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fxtransport.detection.checks import State
from fxtransport.detection.detector import Classes
from fxtransport.detection.observations import Observations
from fxtransport.detection.ood import FeaturesDetector, Option, numbers, pytorch_ood, tensor
from fxtransport.detection.whitening import Whitening
from fxtransport.errors import UsageError

_INVERSE_ERROR = 10.0
_OTHERS = "take one-class, whose covariance is shrunk, or a detector without one, such as knn"


class RelativeMahalanobis(FeaturesDetector):
    """The distance to the nearest class, minus that to all images.

    A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection, arXiv 2106.09022. The
    paper fits both Gaussians on all training images. Here, too, it needs as many clean images as
    columns and classes together at least, and several times as many to estimate a covariance well.

    Features are whitened first, which changes no distance but rounding. Directions in which no
    clean image varies are left out: in them, both distances are the same.
    """

    name: ClassVar[str] = "relative-mahalanobis"
    other: ClassVar[str] = "RMD"

    def _made(self) -> Any:
        return pytorch_ood(self.other)(None)

    def _learn(self, made: Any, clean: Observations, classes: Classes | None) -> None:
        features, own = self._read(clean), self._classes(clean, classes)
        made.whitening = Whitening.of(features)
        rows = torch.from_numpy(made.whitening(features))
        columns, classes_there = made.whitening.columns(len(rows)), len(own.unique())
        if len(rows) < columns + classes_there:
            raise UsageError(
                f"the covariance of {columns} columns within {classes_there} classes cannot be "
                f"inverted with {len(rows)} images; give {columns + classes_there} at least, and "
                f"better several times as many, or {_OTHERS}"
            )
        fit_gaussians(made, rows, own)
        if torch.linalg.eigvalsh(made.cov)[0] < _LEAST_SHARE * len(rows):
            raise UsageError(
                f"in some direction of the {rows.shape[1]} columns, images of one class do not "
                f"differ, over {len(rows)} images, so their covariance cannot be inverted; "
                f"{_OTHERS}"
            )

    def _learned(self, made: Any) -> dict[str, NDArray[Any]]:
        arrays = {name: numbers(getattr(made, name)) for name in _GAUSSIANS}
        return {**arrays, **made.whitening.state()}

    def _restore(self, made: Any, state: State) -> None:
        means = state.array("mu", np.float32, None, None)
        rank = means.shape[1]
        if not means.size:
            raise UsageError("the array 'mu' is empty")
        made.mu = tensor(means)
        for name, shape in _GAUSSIANS.items():
            if name != "mu":
                setattr(made, name, tensor(state.array(name, np.float32, *[rank] * shape)))
        made.whitening = Whitening.from_state(state, rank)

    def _width(self) -> int | None:
        return None if self.own is None else len(self.own.whitening.center)

    def _scored(self, made: Any, rows: torch.Tensor) -> Any:
        return made.predict_features(torch.from_numpy(made.whitening(rows.numpy())))


_GAUSSIANS = {"mu": 2, "precision": 2, "background_mu": 1, "background_precision": 2}
"""What describes the classes and all images, and of how many dimensions each is."""
_LEAST_SHARE = 1e-5
"""The least share of the variance of all images that images of a class must have."""


class GMM(FeaturesDetector):
    """The negative log-likelihood under a Gaussian of each class."""

    name: ClassVar[str] = "gmm"
    other: ClassVar[str] = "GMM"
    options: ClassVar[Mapping[str, Option]] = {"reg": Option(1e-6, 0.0, 1e6)}

    def _made(self) -> Any:
        return pytorch_ood(self.other)(None, **self.given)

    def _learn(self, made: Any, clean: Observations, classes: Classes | None) -> None:
        made.fit_features(self._features(clean), self._classes(clean, classes))

    def _learned(self, made: Any) -> dict[str, NDArray[Any]]:
        names = ("mu", "precision", "log_det", "log_weights")
        return {name: numbers(getattr(made, f"_{name}")) for name in names}

    def _restore(self, made: Any, state: State) -> None:
        means = state.array("mu", np.float64, None, None)
        count, width = means.shape
        if not means.size:
            raise UsageError("the array 'mu' is empty")
        made._mu = tensor(means)
        made._precision = tensor(state.array("precision", np.float64, count, width, width))
        made._log_det = tensor(state.array("log_det", np.float64, count))
        made._log_weights = tensor(state.array("log_weights", np.float64, count))

    def _width(self) -> int | None:
        return None if self.own is None else int(self.own._mu.shape[1])

    def _numbers_per_row(self, width: int) -> int:
        return int(self.own._mu.numel())


class KNN(FeaturesDetector):
    """The distance to the k-th nearest of the normalized clean features: ICML 2022."""

    name: ClassVar[str] = "knn"
    other: ClassVar[str] = "KNN"
    options: ClassVar[Mapping[str, Option]] = {"k": Option(50, 1, 1_000_000, whole=True)}

    def _made(self) -> Any:
        return pytorch_ood(self.other)(None, **self.given)

    def _learn(self, made: Any, clean: Observations, classes: Classes | None) -> None:
        _neighbors(made, self._features(clean))

    def _learned(self, made: Any) -> dict[str, NDArray[Any]]:
        return {"bank": made.bank}

    def _restore(self, made: Any, state: State) -> None:
        bank = state.array("bank", np.float32, None, None)
        if len(bank) < made.k or not bank.size:
            raise UsageError(f"the array 'bank' has {len(bank)} rows, fewer than k={made.k}")
        _neighbors(made, tensor(bank))

    def _width(self) -> int | None:
        return None if self.own is None else int(self.own.bank.shape[1])


def _neighbors(made: Any, features: torch.Tensor) -> None:
    made.fit_features(features, torch.zeros(len(features), dtype=torch.int64))
    made.bank = numbers(features)


def contiguous(classes: torch.Tensor) -> torch.Tensor:
    """The classes numbered from 0 without gaps, in their order, as Gaussians are."""
    numbered: torch.Tensor = torch.unique(classes, return_inverse=True)[1]
    return numbered


def fit_gaussians(made: Any, features: torch.Tensor, classes: torch.Tensor) -> None:
    """Fit a detector of pytorch-ood that inverts a covariance of all classes.

    Args:
        made: The detector.
        features: N×F.
        classes: Of each row, N; classes that no row has are left out.

    Raises:
        UsageError: the covariance is singular, or close to it.
    """
    try:
        made.fit_features(features, contiguous(classes))
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        count, width = features.shape
        raise _singular(width, count) from error
    check_inverse(made.cov, made.precision, len(features))


def check_inverse(covariance: torch.Tensor, precision: torch.Tensor, count: int) -> None:
    """Check that a covariance was inverted, in float32, so that no distance is negative.

    Args:
        covariance: As pytorch-ood estimated it, F×F.
        precision: Its inverse.
        count: Of how many images.

    Raises:
        UsageError: it is close to singular.
    """
    width = len(covariance)
    error = (precision @ covariance - torch.eye(width)).abs().max()
    # a constant column leaves an error below 1, and too few images one of hundreds
    if not error < _INVERSE_ERROR:
        raise _singular(width, count)


def _singular(width: int, count: int) -> UsageError:
    """The error of a covariance that has no inverse, with what can be done."""
    many = (
        "give more images than columns, or"
        if count <= width
        else "some columns follow from others:"
    )
    return UsageError(
        f"the covariance of {width} columns cannot be inverted with {count} images; {many} "
        f"{_OTHERS}"
    )
