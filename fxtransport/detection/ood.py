"""Detectors of pytorch-ood with our interface: fitted on observations, saved as arrays.

Formulas, signs and constants are those of pytorch-ood; larger scores are more suspicious there,
too. Classes are the predicted ones. Docstrings name the papers.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from fxtransport.detection.checks import State
from fxtransport.detection.detector import Classes, Detector, Scores, not_fitted
from fxtransport.detection.head import PENULTIMATE, Head
from fxtransport.detection.observations import Array, Observations
from fxtransport.errors import UsageError

_NUMBERS_AT_ONCE = 1 << 24
"""How many numbers the intermediate result of a batch of scores may have."""


@dataclass(frozen=True)
class Option:
    """A number that a detector is made with.

    Attributes:
        default: Its value where nobody gives one.
        low: The least that it may be.
        high: The most.
        whole: Whether it is an integer.
    """

    default: float
    low: float = 0.0
    high: float = 1.0
    whole: bool = False

    def checked(self, name: str, value: Any) -> float:
        """A value, as a number in range.

        Raises:
            UsageError: it is another.
        """
        state = State({}, {name: value})
        if self.whole:
            return state.integer(name, int(self.low), int(self.high))
        return state.number(name, self.low, self.high)


def pytorch_ood(name: str) -> Any:
    """A class of pytorch-ood's detectors.

    Raises:
        UsageError: pytorch-ood is not installed.
    """
    try:
        module = import_module("pytorch_ood.detector")
    except ImportError as error:
        raise UsageError(
            "this detector needs pytorch-ood, which is not installed: "
            "pip install 'fxtransport[detect]'"
        ) from error
    return getattr(module, name)


class OodDetector(Detector):
    """One of pytorch-ood's detectors.

    Args:
        options: Numbers that it is made with; see :attr:`options`.

    Raises:
        UsageError: there is no such option, it cannot have this value, or pytorch-ood is not
            installed.
    """

    other: ClassVar[str]
    """The name of the class in ``pytorch_ood.detector``."""
    options: ClassVar[Mapping[str, Option]] = {}
    """The numbers that it is made with."""

    def __init__(self, **options: float) -> None:
        strange = sorted(options.keys() - self.options.keys())
        if strange:
            there = ", ".join(self.options) or "none"
            raise UsageError(f"{self.name} has no option {', '.join(strange)}; it has {there}")
        self.given = {
            name: option.checked(name, options.get(name, option.default))
            for name, option in self.options.items()
        }
        self.own: Any = None
        """The detector of pytorch-ood; None where nothing was learned."""

    def _fit(
        self, clean: Observations, attacked: Observations | None, predicted: Classes | None
    ) -> None:
        made = self._made()
        classes = None if predicted is None else predicted[: len(clean)]
        try:
            self._learn(made, clean, classes)
        except (ValueError, AssertionError, RuntimeError) as error:
            if isinstance(error, UsageError):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UsageError(
                f"{self.name} cannot be fitted on these {len(clean)} images: {reason}"
            ) from error
        learned = self._learned(made)
        for name, array in learned.items():
            if not np.isfinite(array).all():
                raise UsageError(
                    f"{self.name} cannot be fitted on these {len(clean)} images: {name} is not "
                    "finite; give more images"
                )
        # as it will be when it is loaded, to the last bit
        self.own = self._made()
        self._restore(self.own, State(learned, {}))

    def _score(self, observed: Observations, predicted: Classes | None) -> Scores:
        if self.own is None:
            raise not_fitted(self.name)
        parts = [self._scored(self.own, rows) for rows in self._batches(self._read(observed))]
        return np.concatenate([part.double().numpy() for part in parts]) if parts else np.empty(0)

    def _batches(self, array: Array) -> Iterator[torch.Tensor]:
        rows = max(1, _NUMBERS_AT_ONCE // self._numbers_per_row(array.shape[1]))
        for start in range(0, len(array), rows):
            yield torch.from_numpy(np.ascontiguousarray(array[start : start + rows]))

    def _numbers_per_row(self, width: int) -> int:
        """How many numbers the intermediate results of one image have."""
        return max(1, width)

    def _read(self, observed: Observations) -> Array:
        """The array that is read."""
        return observed[self.reads[0]]

    @abstractmethod
    def _made(self) -> Any:
        """A new detector of pytorch-ood."""

    @abstractmethod
    def _learn(self, made: Any, clean: Observations, classes: Classes | None) -> None:
        """Fit it."""

    @abstractmethod
    def _scored(self, made: Any, rows: torch.Tensor) -> Any:
        """The scores of some rows, 1-D."""

    def _learned(self, made: Any) -> dict[str, NDArray[Any]]:
        """What it learned, by name."""
        return {}

    def _restore(self, made: Any, state: State) -> None:
        """Put in what was learned, which is checked."""

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """What was learned: arrays for safetensors, and settings for JSON.

        Raises:
            UsageError: the detector was not fitted.
        """
        if self.own is None:
            raise not_fitted(self.name)
        return self._learned(self.own), dict(self.given)

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """A fitted detector from :meth:`state`, all of which is checked.

        Raises:
            UsageError: the state is not of such a detector.
        """
        state = State(arrays, settings)
        found = cls._from(state)
        made = found._made()
        found._restore(made, state)
        state.finish()
        found.own = made
        return found

    @classmethod
    def _from(cls, state: State) -> Self:
        """A detector that was not fitted, with the options of a state."""
        return cls(**cls._options_of(state))

    @classmethod
    def _options_of(cls, state: State) -> dict[str, float]:
        return {
            name: state.integer(name, int(option.low), int(option.high))
            if option.whole
            else state.number(name, option.low, option.high)
            for name, option in cls.options.items()
        }


class LogitsDetector(OodDetector):
    """One that reads logits."""

    reads: ClassVar[tuple[str, ...]] = ("logits",)

    def _made(self) -> Any:
        return pytorch_ood(self.other)(None, **self.given)

    def _learn(self, made: Any, clean: Observations, classes: Classes | None) -> None:
        """Nothing."""

    def _scored(self, made: Any, rows: torch.Tensor) -> Any:
        return made.predict_logits(rows)


class FeaturesDetector(OodDetector):
    """One that reads what enters the classifier, and perhaps knows the classifier.

    Args:
        head: The classifier, for those of :attr:`needs_head`.
        options: See :class:`OodDetector`.

    Raises:
        UsageError: as :class:`OodDetector`; or there is no head where one is needed.
    """

    reads: ClassVar[tuple[str, ...]] = (PENULTIMATE,)
    needs_head: ClassVar[bool] = False
    """Whether it is made with the classifier."""

    def __init__(self, head: Head | None = None, **options: float) -> None:
        super().__init__(**options)
        if self.needs_head and head is None:
            raise UsageError(
                f"{self.name} needs the classifier's weights: give head=Head.of(program)"
            )
        self.head = head if self.needs_head else None

    def _classes(self, clean: Observations, classes: Classes | None) -> torch.Tensor:
        """The class of each clean image: N.

        Raises:
            UsageError: nobody knows them.
        """
        if classes is None:
            raise UsageError(f"{self.name} needs the predicted classes: give logits, or predicted")
        return torch.from_numpy(classes)

    def _features(self, clean: Observations) -> torch.Tensor:
        return torch.from_numpy(self._read(clean).copy())

    def _read(self, observed: Observations) -> Array:
        array = super()._read(observed)
        width = self._width()
        if width is not None and array.shape[1] != width:
            raise UsageError(
                f"{self.reads[0]} has {array.shape[1]} columns; {self.name} reads {width}"
            )
        return array

    def _width(self) -> int | None:
        """How many columns it reads; None where any will do."""
        return None if self.head is None else self.head.weight.shape[1]

    def _numbers_per_row(self, width: int) -> int:
        return max(1, width) if self.head is None else max(1, self.head.weight.size)

    def _scored(self, made: Any, rows: torch.Tensor) -> Any:
        return made.predict_features(rows)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """What was learned, and the classifier.

        Raises:
            UsageError: the detector was not fitted.
        """
        arrays, settings = super().state()
        if self.head is not None:
            arrays |= {"head.weight": self.head.weight, "head.bias": self.head.bias}
        return arrays, settings

    @classmethod
    def _from(cls, state: State) -> Self:
        head = None
        if cls.needs_head:
            weight = state.array("head.weight", np.float32, None, None)
            if not weight.size:
                raise UsageError("the classifier has no weights")
            head = Head(weight, state.array("head.bias", np.float32, weight.shape[0]))
        return cls(head, **cls._options_of(state))


def numbers(tensor: torch.Tensor) -> NDArray[Any]:
    """A copy of a tensor as an array."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy()).copy()


def tensor(array: NDArray[Any]) -> torch.Tensor:
    """A copy of an array as a tensor."""
    return torch.from_numpy(array.copy())
