"""Mahalanobis distances in several layers, combined, and with noise along the input's gradient.

A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks,
NeurIPS 2018: class means and a tied covariance of each layer's activations, averaged over space.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from fxtransport.detection.checks import State
from fxtransport.detection.detector import Classes, Detector, Scores, not_fitted
from fxtransport.detection.extractor import Extractor, images_of
from fxtransport.detection.observations import Array, Observations
from fxtransport.detection.ood import numbers, pytorch_ood, tensor
from fxtransport.detection.ood_features import fit_gaussians
from fxtransport.errors import UsageError

Combine = Literal["max", "logistic"]
COMBINE: tuple[Combine, ...] = ("max", "logistic")

MAGNITUDES = (0.0, 0.0005, 0.001, 0.0014, 0.002, 0.005, 0.01)
"""The magnitudes of noise among which the paper chooses, on validation images."""

_HELD = 0.2
_LARGEST_CLASS = 1 << 24


class Mahalanobis(Detector):
    """Half the squared distance to the nearest class mean in each layer, combined.

    The Gaussians are fitted to four fifths of the clean images, and the combination to the rest:
    there, the distances of each layer are brought to the mean 0 and the standard deviation 1,
    because layers of different widths have distances of different sizes.

    Args:
        combine: ``max``, the largest of the layers; or ``logistic``, a logistic regression
            fitted on attacked images, as in the paper.

    Raises:
        UsageError: there is no such combination.
    """

    name: ClassVar[str] = "mahalanobis"
    reads: ClassVar[tuple[str, ...]] = ("layer",)

    def __init__(self, combine: Combine = "max") -> None:
        if combine not in COMBINE:
            raise UsageError(f"combine is one of {', '.join(COMBINE)}, not {combine!r}")
        self.combine: Combine = combine
        self.layers: list[Any] = []
        """A detector of pytorch-ood for each layer."""
        self._center = self._scale = self._weights = np.empty(0)
        self._bias = 0.0

    def _fit(
        self, clean: Observations, attacked: Observations | None, predicted: Classes | None
    ) -> None:
        if predicted is None:
            raise UsageError(f"{self.name} needs the predicted classes: give logits, or predicted")
        if self.combine == "logistic" and attacked is None:
            raise UsageError(
                f"{self.name} with combine='logistic' needs attacked images; give some"
            )
        rows = np.random.default_rng(0).permutation(len(clean))
        held, kept = np.split(rows, [max(1, round(_HELD * len(clean)))])
        if len(kept) < 2:
            raise UsageError(f"{len(clean)} clean images are too few for {self.name}; give more")
        classes = torch.from_numpy(predicted[kept])
        arrays = layers_of(clean)
        self.layers = [self._fitted(k, array[kept], classes) for k, array in enumerate(arrays)]
        distances = self.distances(clean.take(held))
        self._center, spread = distances.mean(0), distances.std(0)
        self._scale = np.where(spread > 0, spread, 1.0)
        self._weights, self._bias = np.ones(len(arrays)), 0.0
        if self.combine == "logistic":
            assert attacked is not None
            self._fit_weights(distances, self.distances(attacked))

    def _fitted(self, k: int, array: Array, classes: torch.Tensor) -> Any:
        made = pytorch_ood("Mahalanobis")(None)
        try:
            fit_gaussians(made, torch.from_numpy(array.copy()), classes)
        except UsageError as error:
            raise UsageError(
                f"{self.name} cannot be fitted on layer.{k}: {error}; or leave the layer out: give "
                "the Extractor other layers"
            ) from error
        # as it will be when it is loaded, to the last bit
        made.precision = made.precision.contiguous()
        return made

    def _fit_weights(self, clean: Scores, attacked: Scores) -> None:
        rows = (np.concatenate([clean, attacked]) - self._center) / self._scale
        labels = np.repeat([0, 1], [len(clean), len(attacked)])
        model = LogisticRegression(max_iter=1000, class_weight="balanced").fit(rows, labels)
        self._weights, self._bias = model.coef_[0].copy(), float(model.intercept_[0])

    def distances(self, observed: Observations) -> Scores:
        """Half the squared distance to the nearest class mean: N×layers, float64.

        Raises:
            UsageError: the detector was not fitted, or on other layers.
        """
        if not self.layers:
            raise not_fitted(self.name)
        arrays = layers_of(observed)
        widths = [array.shape[1] for array in arrays]
        expected = [int(made.mu.shape[1]) for made in self.layers]
        if widths != expected:
            raise UsageError(
                f"the layers have {', '.join(map(str, widths))} columns; {self.name} was fitted on "
                f"{', '.join(map(str, expected))}"
            )
        if not len(observed):
            return np.empty((0, len(arrays)))
        pairs = zip(self.layers, arrays, strict=True)
        found = [made.predict_features(torch.from_numpy(array.copy())) for made, array in pairs]
        return torch.stack(found, dim=1).double().numpy()

    def _score(self, observed: Observations, predicted: Classes | None) -> Scores:
        rows = (self.distances(observed) - self._center) / self._scale
        combined: Scores = (
            rows.max(1) if self.combine == "max" else rows @ self._weights + self._bias
        )
        return combined

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """The Gaussians, and how they are combined.

        Raises:
            UsageError: the detector was not fitted.
        """
        if not self.layers:
            raise not_fitted(self.name)
        arrays = {"center": self._center, "scale": self._scale, "weights": self._weights}
        for k, made in enumerate(self.layers):
            arrays[f"layer.{k}.mu"] = numbers(made.mu)
            arrays[f"layer.{k}.precision"] = numbers(made.precision)
        settings = {"combine": self.combine, "layers": len(self.layers), "bias": self._bias}
        return arrays, settings

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """A fitted detector from :meth:`state`, all of which is checked.

        Raises:
            UsageError: the state is not of such a detector.
        """
        state = State(arrays, settings)
        found = cls(COMBINE[COMBINE.index(state.choice("combine", COMBINE))])
        count = state.integer("layers", 1, len(arrays))
        found._bias = state.number("bias")
        found._center = state.array("center", np.float64, count)
        found._scale = state.array("scale", np.float64, count)
        found._weights = state.array("weights", np.float64, count)
        if not (found._scale > 0).all():
            raise UsageError("the array 'scale' is not above 0")
        for k in range(count):
            made = pytorch_ood("Mahalanobis")(None)
            means = state.array(f"layer.{k}.mu", np.float32, None, None)
            if not means.size:
                raise UsageError(f"the array 'layer.{k}.mu' is empty")
            width = means.shape[1]
            precision = state.array(f"layer.{k}.precision", np.float32, width, width)
            made.mu, made.precision = tensor(means), tensor(precision)
            found.layers.append(made)
        state.finish()
        return found

    def observe_with_noise(
        self,
        extractor: Extractor,
        batches: Iterable[Any],
        magnitude: float,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Observations:
        """Observations whose layers are those of images that are moved toward their class.

        For each layer, x - magnitude · sign(∇ₓ distance) is what its activations are taken of
        (section 2.2 of the paper). All other arrays, and the hashes, are of x. The scores of what
        is returned are those with noise; :data:`MAGNITUDES` are the paper's.

        Args:
            extractor: That of the images on which this was fitted.
            batches: As :meth:`Extractor.observe` takes them.
            magnitude: In units of the images.
            progress: Called after each batch with the number of images so far.

        Raises:
            UsageError: as :meth:`Extractor.observe`; or this was not fitted, or the magnitude is
                negative.
        """
        if not self.layers:
            raise not_fitted(self.name)
        if not extractor.differentiable:
            raise UsageError("noise needs gradients: make the extractor with differentiable=True")
        if not 0 <= magnitude < float("inf"):
            raise UsageError(f"magnitude is 0 or more, not {magnitude}")
        moved: list[dict[str, Array]] = []

        def both() -> Iterator[Any]:
            for batch in batches:
                yield batch
                images = images_of(batch)
                if len(images):
                    moved.append(self._moved(extractor, images, magnitude))

        plain = extractor.observe(both(), progress)
        layers = {
            name: np.concatenate([each[name] for each in moved]) for name in layer_names(plain)
        }
        return Observations({**plain.values, **layers}, plain.hashes)

    def _moved(
        self, extractor: Extractor, images: torch.Tensor, magnitude: float
    ) -> dict[str, Array]:
        found = {}
        for k, made in enumerate(self.layers):
            name = f"layer.{k}"
            x = extractor.place(images).requires_grad_()
            with torch.enable_grad():
                near = _nearest(made, extractor(x)[name])
                (slope,) = torch.autograd.grad(near.sum(), x)
            moved = extractor(x.detach() - magnitude * slope.sign())[name]
            found[name] = moved.detach().cpu().numpy()
        return found


def _nearest(made: Any, activations: torch.Tensor) -> torch.Tensor:
    """The squared distance to the nearest class mean, with a gradient."""
    centered = activations[:, None] - made.mu.to(activations.device)
    precision = made.precision.to(activations.device)
    distances: torch.Tensor = ((centered @ precision) * centered).sum(2)
    return distances.min(1).values


def layer_names(observed: Observations) -> list[str]:
    """The names of the layers that were observed: ``layer.0``, ``layer.1`` and so on.

    Raises:
        UsageError: there are none, or one is missing.
    """
    return names_of_layers(observed.values)


def names_of_layers(arrays: Iterable[str]) -> list[str]:
    """Those of some names of arrays that are of layers: ``layer.0``, ``layer.1`` and so on.

    Raises:
        UsageError: there are none, or one is missing.
    """
    given = set(arrays)
    count = sum(name.startswith("layer.") for name in given)
    names = [f"layer.{k}" for k in range(count)]
    if not names or not given.issuperset(names):
        have = ", ".join(arrays)
        raise UsageError(f"the observations hold no layers layer.0, layer.1, …; they hold {have}")
    return names


def layers_of(observed: Observations) -> list[Array]:
    """The arrays of the layers, in their order.

    Raises:
        UsageError: there are none, or one is missing.
    """
    return [observed[name] for name in layer_names(observed)]
