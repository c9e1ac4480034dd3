"""Layers that do not go together, and logits that move where layers do not: of clean images alone.

Yun et al., *A Few Large Shifts: Layer-Inconsistency Based Minimal Overhead Adversarial Example
Detection*, arXiv 2505.12586: an attack shifts the activations of few layers by much. This is our
reading of its recovery test, its logit-layer test and their sum; where it differs from the
authors', the classes say so.
"""

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fxtransport.detection.checks import State
from fxtransport.detection.detector import Classes, Detector, Scores, not_fitted
from fxtransport.detection.mahalanobis import layers_of
from fxtransport.detection.observations import Array, Observations
from fxtransport.errors import UsageError

HIDDEN = 128
"""The width of the hidden layer by which activations are recovered, as in the paper."""
FEWEST = 20
"""Clean images from which it is fitted."""

_PENALTIES = (1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4)
_MOST_LAYERS = 1 << 16


class LayerInconsistency(Detector):
    """The recovery test and the logit-layer test, each as a normal quantile, squared and added.

    Recovery: the activations of each layer, averaged over space, are recovered from those of the
    deepest. With e_l the mean squared error of layer l, of activations divided by their standard
    deviation, K layers and p = softmax(e), the test is log(1 + mean e) · (1 + log K - H(p)): large
    where the errors are, and larger where few layers have them. The logit-layer test is what
    :class:`~fxtransport.detection.stability.LogitStability` observes.

    Each becomes the quantile of the standard normal distribution of its rank among clean images,
    and z_1² + z_2² is the score: both tails count, as in the paper.

    Differences: the paper recovers by perceptrons of four layers that gradients train; here the
    hidden layer is drawn, and the last one is a ridge regression, so that few images are enough,
    nothing depends on a number of epochs, and the ranks are among leave-one-out errors of the same
    images. The authors' errors are sums over channels, and a sum that is not of 1 stands for our
    1 + log K, which serves one recovered layer, too.

    Args:
        seed: Of the hidden layer.
    """

    name: ClassVar[str] = "layer-inconsistency"
    reads: ClassVar[tuple[str, ...]] = ("layer", "stability")

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._arrays: dict[str, NDArray[Any]] = {}
        self._count = 0

    def _fit(
        self, clean: Observations, attacked: Observations | None, predicted: Classes | None
    ) -> None:
        from sklearn.linear_model import RidgeCV

        if len(clean) < FEWEST:
            raise UsageError(
                f"{self.name} needs {FEWEST} clean images beside those that are held out; there "
                f"are {len(clean)}"
            )
        *early, deepest = [rows.astype(np.float64) for rows in layers_of(clean)]
        if not early:
            raise UsageError(f"{self.name} recovers layers from the deepest; there is only one")
        width = deepest.shape[1]
        drawn = np.random.default_rng(self.seed)
        self._count = len(early)
        self._arrays = {
            "center": deepest.mean(0),
            "scale": _spread(deepest),
            "hidden": drawn.normal(size=(width, HIDDEN)) / np.sqrt(width),
            "offset": drawn.normal(size=HIDDEN),
        }
        lifted = self._lifted(deepest)
        errors = []
        for k, rows in enumerate(early):
            scale = _spread(rows)
            ridge = RidgeCV(_PENALTIES, store_cv_results=True).fit(lifted, rows / scale)
            # what is left out at a time is recovered from the others
            left_out = ridge.cv_results_.reshape(len(rows), -1, len(_PENALTIES))
            errors.append(left_out[:, :, _PENALTIES.index(ridge.alpha_)].mean(1))
            self._arrays[f"layer.{k}.scale"] = scale
            self._arrays[f"layer.{k}.weight"] = ridge.coef_.reshape(len(scale), -1).T.copy()
            self._arrays[f"layer.{k}.bias"] = np.reshape(ridge.intercept_, -1).copy()
        tests = [recovery_test(np.stack(errors, 1)), _stability(clean)]
        self._arrays["reference"] = np.sort(np.stack(tests), axis=1)

    def _lifted(self, deepest: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the ridge regressions read: N×(F + hidden)."""
        own = self._arrays
        rows = (deepest - own["center"]) / own["scale"]
        hidden = np.maximum(rows @ own["hidden"] + own["offset"], 0)
        return np.concatenate([rows, hidden], axis=1)

    def errors(self, observed: Observations) -> Scores:
        """The mean squared error of each layer but the deepest: N×K.

        Raises:
            UsageError: the detector was not fitted, or on other layers.
        """
        own = self._arrays
        if not own:
            raise not_fitted(self.name)
        arrays = layers_of(observed)
        expected = [len(own[f"layer.{k}.scale"]) for k in range(self._count)]
        expected.append(len(own["center"]))
        widths = [rows.shape[1] for rows in arrays]
        if widths != expected:
            raise UsageError(
                f"the layers have {', '.join(map(str, widths))} columns; {self.name} was fitted on "
                f"{', '.join(map(str, expected))}"
            )
        lifted = self._lifted(arrays[-1].astype(np.float64))
        found = [self._error(k, rows, lifted) for k, rows in enumerate(arrays[:-1])]
        return np.stack(found, 1)

    def _error(self, k: int, rows: Array, lifted: NDArray[np.float64]) -> Scores:
        own = self._arrays
        recovered = lifted @ own[f"layer.{k}.weight"] + own[f"layer.{k}.bias"]
        return np.asarray(np.square(rows / own[f"layer.{k}.scale"] - recovered).mean(1))

    def _score(self, observed: Observations, predicted: Classes | None) -> Scores:
        tests = (recovery_test(self.errors(observed)), _stability(observed))
        pairs = zip(tests, self._arrays["reference"], strict=True)
        squares = [np.square(_normal_quantile(test, known)) for test, known in pairs]
        return np.asarray(np.sum(squares, axis=0))

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """What was learned: see :meth:`Detector.state`."""
        if not self._arrays:
            raise not_fitted(self.name)
        return dict(self._arrays), {"layers": self._count}

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """A fitted detector: see :meth:`Detector.from_state`."""
        state = State(arrays, settings)
        detector = cls()
        detector._count = state.integer("layers", 1, _MOST_LAYERS)
        center = state.array("center", np.float64, None)
        offset = state.array("offset", np.float64, None)
        width, hidden = len(center), len(offset)
        found = {
            "center": center,
            "scale": state.array("scale", np.float64, width),
            "hidden": state.array("hidden", np.float64, width, hidden),
            "offset": offset,
        }
        for k in range(detector._count):
            bias = state.array(f"layer.{k}.bias", np.float64, None)
            shape = (width + hidden, len(bias))
            found[f"layer.{k}.scale"] = state.array(f"layer.{k}.scale", np.float64, len(bias))
            found[f"layer.{k}.weight"] = state.array(f"layer.{k}.weight", np.float64, *shape)
            found[f"layer.{k}.bias"] = bias
        found["reference"] = state.array("reference", np.float64, 2, None)
        state.finish()
        for name, array in found.items():
            if not array.size:
                raise UsageError(f"the array {name!r} is empty")
            if name.endswith("scale") and not (array > 0).all():
                raise UsageError(f"the array {name!r} is not above 0")
        if (np.diff(found["reference"], axis=1) < 0).any():
            raise UsageError("the array 'reference' is not in ascending order")
        detector._arrays = found
        return detector


def recovery_test(errors: Scores) -> Scores:
    """log(1 + mean e) · (1 + log K - H(softmax(e))) of errors e, N×K: N."""
    powers = np.exp(errors - errors.max(1, keepdims=True))
    shares = powers / powers.sum(1, keepdims=True)
    entropy = -(shares * np.log(np.maximum(shares, np.finfo(np.float64).tiny))).sum(1)
    return np.asarray(np.log1p(errors.mean(1)) * (1 + np.log(errors.shape[1]) - entropy))


def _normal_quantile(values: Scores, known: Scores) -> Scores:
    """The normal quantile of the rank of each value among n ascending known ones."""
    from scipy.special import ndtri

    below = np.searchsorted(known, values, side="left")
    up_to = np.searchsorted(known, values, side="right")
    return np.asarray(ndtri(((below + up_to) / 2 + 0.5) / (len(known) + 1)))


def _stability(observed: Observations) -> Scores:
    found = observed["stability"]
    if found.shape[1] != 1:
        raise UsageError(f"stability is one number for each image, not {found.shape[1]}")
    return found[:, 0].astype(np.float64)


def _spread(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard deviation of each column; 1 of one that never varies."""
    found = rows.std(0)
    return np.where(found > 0, found, 1.0)
