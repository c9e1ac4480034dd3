"""Local intrinsic dimensionality: how fast the number of neighbors grows with the distance.

Ma et al., *Characterizing Adversarial Subspaces Using Local Intrinsic Dimensionality*, ICLR 2018:
estimated by maximum likelihood from the distances r_1 ≤ … ≤ r_k to the k nearest neighbors in a
minibatch of clean images, −(1/k Σ log(r_i/r_k))⁻¹ (their eq. 4), for each layer's activations.
"""

import re
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from fxtransport.detection.checks import State
from fxtransport.detection.conditional import Rule
from fxtransport.detection.detector import Classes, not_fitted
from fxtransport.detection.forest import ForestDetector
from fxtransport.detection.observations import Array, Observations
from fxtransport.errors import UsageError

MINIBATCH = 100
"""Clean images among which neighbors are looked for."""
LARGEST = 1e4
"""The dimensionality where all distances are equal, which has no finite estimate."""

_NEIGHBORS = (5, 10, 20)
_FEWEST_CLEAN = 60
_SMALLEST_RATIO = 1e-12
_LAYER = re.compile(r"layer\.(0|[1-9][0-9]{0,5})", re.ASCII)


def lid(rows: Array, reference: Array, neighbors: int) -> NDArray[np.float64]:
    """The local intrinsic dimensionality at each row, at most :data:`LARGEST`.

    Args:
        rows: N×F.
        reference: B×F; rows that are there, too, count as neighbors at distance 0.
        neighbors: k, at most B.

    Returns:
        N, float64.

    Raises:
        UsageError: the widths differ, or there are too few rows to be neighbors.
    """
    if rows.shape[1] != reference.shape[1]:
        raise UsageError(f"rows are {rows.shape[1]} wide, those of reference {reference.shape[1]}")
    if not 2 <= neighbors <= len(reference):
        raise UsageError(f"neighbors is from 2 to {len(reference)}, not {neighbors}")
    first, second = (torch.tensor(each, dtype=torch.float64) for each in (rows, reference))
    # the faster way by products gives near neighbors distances that are only rounding
    distances = torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.topk(neighbors, largest=False).values
    farthest = nearest[:, -1:]
    ratios = torch.where(farthest > 0, nearest / farthest, torch.ones_like(nearest))
    mean = ratios.clamp(min=_SMALLEST_RATIO).log().mean(1)
    return np.asarray((1 / (-mean).clamp(min=1 / LARGEST)).numpy())


class LidForest(ForestDetector):
    """A forest on the local intrinsic dimensionality of each layer's activations.

    The minibatch is drawn from the clean images, which are then not among those that the forest
    is fitted on. How many neighbors count is chosen by validation.

    Args:
        rule: See :class:`~fxtransport.detection.forest.ForestDetector`.
        seed: Of the minibatch, too.
    """

    name = "lid"
    reads = ("layer",)

    def __init__(self, rule: Rule | None = None, seed: int = 0) -> None:
        super().__init__(rule, seed)
        self._reference: dict[str, Array] = {}

    @classmethod
    def _choices(cls) -> list[str]:
        return [f"{count} neighbors" for count in _NEIGHBORS]

    def _columns(self, observed: Observations, choice: str) -> Array:
        neighbors = int(choice.split()[0])
        found = [lid(observed[name], rows, neighbors) for name, rows in self._reference.items()]
        return np.stack(found, 1).astype(np.float32)

    def _fit(
        self, clean: Observations, attacked: Observations | None, predicted: Classes | None
    ) -> None:
        names = sorted(filter(_LAYER.fullmatch, clean.values), key=_number)
        if not names:
            raise UsageError(f"{self.name} reads layer.0, layer.1, …; the observations hold none")
        if len(clean) < _FEWEST_CLEAN:
            raise UsageError(
                f"{self.name} needs {_FEWEST_CLEAN} clean images beside those that are held out; "
                f"there are {len(clean)}"
            )
        order = np.random.default_rng(self.seed).permutation(len(clean))
        count = min(MINIBATCH, len(clean) // 2)
        self._reference = {name: clean[name][order[:count]] for name in names}
        rest = np.sort(order[count:])
        if predicted is not None:
            predicted = np.concatenate([predicted[: len(clean)][rest], predicted[len(clean) :]])
        super()._fit(clean.take(rest), attacked, predicted)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """What was learned: see :meth:`Detector.state`."""
        arrays, settings = super().state()
        if not self._reference:
            raise not_fitted(self.name)
        reference = {f"reference.{name}": rows for name, rows in self._reference.items()}
        layers = [_number(name) for name in self._reference]
        return {**arrays, **reference}, {**settings, "layers": layers}

    @classmethod
    def of_state(cls, state: State) -> Self:
        """A fitted detector from what it takes of a state.

        Raises:
            UsageError: the state is not of such a detector.
        """
        detector = super().of_state(state)
        layers = state.integers("layers", 0, 10**6)
        most = max(_NEIGHBORS)
        for number in layers:
            rows = state.array(f"reference.layer.{number}", np.float32, None, None)
            if len(rows) < most:
                raise UsageError(f"layer {number} has {len(rows)} neighbors, fewer than {most}")
            detector._reference[f"layer.{number}"] = rows
        if len(layers) != detector.forest.general.columns:
            raise UsageError(f"its forests do not read {len(layers)} layers")
        return detector


def _number(name: str) -> int:
    return int(name.rpartition(".")[2])
