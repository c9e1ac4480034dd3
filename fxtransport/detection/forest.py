"""Detectors that are random forests: on transport features, and on what those are compared with.

scikit-learn's ``RandomForestClassifier`` learns to tell clean images (0) from attacked ones (1),
as the detector of Karkar et al. does; :class:`~fxtransport.detection.trees.Forest` scores. How
large trees grow, and which arrays :class:`CombinedForest` reads, is chosen by AUROC on images that
the forests which are compared were not fitted on, all of them from the images that ``fit`` was
given. Then the choice is fitted on all of these.
"""

from itertools import combinations
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fxtransport.detection.checks import State
from fxtransport.detection.conditional import RULES, ConditionalForest, Rule
from fxtransport.detection.detector import Classes, Detector, Scores, not_fitted
from fxtransport.detection.growing import (
    SIZES,
    TYPICAL,
    Labeled,
    best,
    distinct_sizes,
    grow_all,
    trial,
)
from fxtransport.detection.holding_out import HeldOut, hold_out
from fxtransport.detection.observations import Array, Observations
from fxtransport.errors import UsageError

_VALIDATION_SHARE = 0.25
_SPLITS = 3
_MOST_TRIED = 4000
_EQUALLY_GOOD = 0.01


class ForestDetector(Detector):
    """A random forest on some arrays.

    The score is the probability of being attacked, in [0, 1]. The forests are a general one and,
    where predicted classes are known, one for each that has images enough; an image is attacked
    if either says so (Karkar's thesis, 5.4.2, where this is the best of the three rules).

    Args:
        rule: ``general``, ``class`` or ``either``; by default ``either`` where predicted classes
            are known, and ``general`` where they are not.
        seed: Of the forests and of the images that validate.

    Attributes:
        validation: The AUROC on images that were held out for it, of each choice that was
            compared, by name.
    """

    needs_attacked: ClassVar[bool] = True
    own_threshold: ClassVar[float | None] = 0.5

    def __init__(self, rule: Rule | None = None, seed: int = 0) -> None:
        if rule is not None and rule not in RULES:
            raise UsageError(f"rule is one of {', '.join(RULES)}, not {rule!r}")
        self.rule = rule
        self.seed = seed
        self.validation: dict[str, float] = {}
        self._choice = self._choices()[0]
        self._forest: ConditionalForest | None = None

    @property
    def forest(self) -> ConditionalForest:
        """The fitted forests.

        Raises:
            UsageError: it was not fitted.
        """
        if self._forest is None:
            raise not_fitted(self.name)
        return self._forest

    @property
    def choice(self) -> str:
        """What the forests read: names of arrays, joined by ``+``."""
        return self._choice

    @classmethod
    def _choices(cls) -> list[str]:
        """What is compared."""
        return ["+".join(cls.reads)]

    def _preferred(self, tried: dict[str, float]) -> str:
        """Which of the compared choices is taken, given the AUROC of each."""
        return best(tried)

    def _columns(self, observed: Observations, choice: str) -> Array:
        """What the forests read of N images: N×F."""
        return np.concatenate([_column(observed, name) for name in choice.split("+")], axis=1)

    def _fit(
        self, clean: Observations, attacked: Observations | None, predicted: Classes | None
    ) -> None:
        assert attacked is not None
        rule = self.rule or ("general" if predicted is None else "either")
        held = [self._held(clean, attacked, number) for number in range(_SPLITS)]
        data = {
            name: Labeled(
                _stacked(name, self._columns(clean, name), self._columns(attacked, name)),
                np.repeat([False, True], [len(clean), len(attacked)]),
                predicted,
            )
            for name in self._choices()
        }
        tried = {
            name: trial(_splits(each, held, len(clean)), TYPICAL, self.seed)
            for name, each in data.items()
            if len(data) > 1
        }
        name = self._preferred(tried) if tried else next(iter(data))
        sizes = {
            str(size): trial(_splits(data[name], held, len(clean)), size, self.seed)
            for size in distinct_sizes(len(data[name].rows))
        }
        size = next(size for size in SIZES if str(size) == best(sizes))
        self._forest = grow_all(data[name], size, rule, self.seed)
        self._choice, self.validation = name, {**tried, **sizes}

    def _held(self, clean: Observations, attacked: Observations, number: int) -> HeldOut:
        """A split into images to fit on and to compare on; of very many images, a share of them."""
        found = hold_out(clean, attacked, _VALIDATION_SHARE, self.seed + 1 + number)
        return HeldOut(*(rows[:_MOST_TRIED] for rows in shuffled(found, self.seed)))

    def _score(self, observed: Observations, predicted: Classes | None) -> Scores:
        return self.forest.predict(self._columns(observed, self._choice), predicted)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """What was learned: see :meth:`Detector.state`."""
        arrays, settings = self.forest.state()
        return arrays, {**settings, "choice": self._choice, "validation": self.validation}

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """A fitted detector: see :meth:`Detector.from_state`."""
        state = State(arrays, settings)
        detector = cls.of_state(state)
        state.finish()
        return detector

    @classmethod
    def of_state(cls, state: State) -> Self:
        """A fitted detector from what it takes of a state.

        Raises:
            UsageError: the state is not of such a detector.
        """
        detector = cls()
        detector._choice = state.choice("choice", cls._choices())
        detector.validation = state.numbers("validation", 0, 1)
        detector._forest = ConditionalForest.from_state(state)
        detector.rule = detector._forest.rule
        return detector


class TransportForest(ForestDetector):
    """A forest on the transport features (Karkar's thesis, 5.3.1)."""

    name = "transport"
    reads = ("transport",)


class LogitsForest(ForestDetector):
    """A baseline: a forest on the logits, sorted from the largest to the smallest."""

    name = "logits"
    reads = ("logits",)


class LaplacianForest(ForestDetector):
    """A baseline: a forest on three numbers of the image's Laplacian; it sees no network."""

    name = "laplacian"
    reads = ("laplacian",)


class NssForest(ForestDetector):
    """A forest on natural scene statistics of the image; it sees no network."""

    name = "nss"
    reads = ("nss",)


class CombinedForest(ForestDetector):
    """A forest on those of transport features, sorted logits and Laplacian that validation prefers.

    Of combinations whose AUROC is within 0.01 of the best, the one of most arrays is taken: where
    one array finds all attacks that it was shown, it may miss others that leave no trace in it.
    """

    name = "combined"
    reads = ("transport", "logits", "laplacian")

    @property
    def transport_gain(self) -> float:
        """What transport features add: the best AUROC of a combination with them, minus without.

        On the images of :attr:`validation`; negative where they do not help.

        Raises:
            UsageError: it was not fitted.
        """
        if self._forest is None:
            raise not_fitted(self.name)
        choices = {name: self.validation[name] for name in self._choices()}
        with_it = [value for name, value in choices.items() if "transport" in name]
        return max(with_it) - max(v for name, v in choices.items() if "transport" not in name)

    def _preferred(self, tried: dict[str, float]) -> str:
        enough = {n: v for n, v in tried.items() if v >= max(tried.values()) - _EQUALLY_GOOD}
        most = max(name.count("+") for name in enough)
        return best({name: v for name, v in enough.items() if name.count("+") == most})

    @classmethod
    def _choices(cls) -> list[str]:
        counts = range(1, len(cls.reads) + 1)
        return ["+".join(names) for count in counts for names in combinations(cls.reads, count)]


def _column(observed: Observations, name: str) -> Array:
    found = observed[name]
    return -np.sort(-found, axis=1) if name == "logits" else found


def _stacked(name: str, clean: Array, attacked: Array) -> Array:
    if clean.shape[1] != attacked.shape[1]:
        raise UsageError(
            f"{name} of clean images has {clean.shape[1]} columns, of attacked ones "
            f"{attacked.shape[1]}; observe both with the same model"
        )
    return np.concatenate([clean, attacked])


def shuffled(held: HeldOut, seed: int) -> list[NDArray[np.int64]]:
    """The rows of a split in a seeded order."""
    generator = np.random.default_rng(seed)
    parts = (held.clean, held.attacked, held.held_clean, held.held_attacked)
    return [generator.permutation(rows) for rows in parts]


def _splits(data: Labeled, held: list[HeldOut], clean: int) -> list[tuple[Labeled, Labeled]]:
    """Rows to fit on and rows to compare on, for each split; clean rows are the first."""
    found = []
    for each in held:
        fitted = np.concatenate([each.clean, clean + each.attacked])
        other = np.concatenate([each.held_clean, clean + each.held_attacked])
        found.append((data.take(fitted), data.take(other)))
    return found
