"""Images that are one number each, a detector that looks at it, and attacks that change it."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fxtransport.detection.attacks import Outcome
from fxtransport.detection.bench import Bench
from fxtransport.detection.detector import Classes, Detector, Scores
from fxtransport.detection.observations import Observations
from fxtransport.detection.observed_attack import ObservedAttack


class Away(Detector):
    """The distance from the mean of clean images, in the direction of attacked ones if known."""

    name = "away"
    reads = ("transport",)
    fits: ClassVar[list[tuple[list[float], list[float]]]] = []
    """The numbers that detectors of this kind were fitted on."""

    def __init__(self) -> None:
        self.mean = 0.0
        self.sign = 0.0

    def _fit(
        self, clean: Observations, attacked: Observations | None, predicted: Classes | None
    ) -> None:
        own = clean["transport"][:, 0]
        others = own[:0] if attacked is None else attacked["transport"][:, 0]
        self.fits.append((own.tolist(), others.tolist()))
        self.mean = float(own.mean())
        self.sign = float(np.sign(others.mean() - self.mean)) if len(others) else 0.0

    def _score(self, observed: Observations, predicted: Classes | None) -> Scores:
        away = observed["transport"][:, 0].astype(np.float64) - self.mean
        return away * self.sign if self.sign else np.abs(away)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        return {}, {"mean": self.mean, "sign": self.sign}

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        assert not arrays
        found = cls()
        found.mean, found.sign = settings["mean"], settings["sign"]
        return found


@dataclass(frozen=True)
class Figures:
    """The figures of one test."""

    auroc: float
    accuracy: float
    successful: float
    lowest: float


def figures(
    clean: Scores, attacked: Scores, threshold: float, succeeded: NDArray[np.bool_]
) -> Figures:
    return Figures(
        float((attacked[:, None] > clean).mean()),
        float(((attacked > threshold).mean() + (clean <= threshold).mean()) / 2),
        float((attacked > threshold)[succeeded].mean()) if succeeded.any() else float("nan"),
        float(attacked.min()),
    )


def observations(numbers: NDArray[Any], names: list[str], sources: Any = ()) -> Observations:
    values = {"transport": np.asarray(numbers, np.float32)[:, None]}
    return Observations(values, tuple(names), tuple(sources))


def clean_images(count: int = 100, seed: int = 0) -> Observations:
    numbers = np.random.default_rng(seed).normal(size=count)
    return observations(numbers, [f"image {seed} {row}" for row in range(count)])


def attack(
    clean: Observations, name: str = "fgm", move: float = 4.0, **changes: Any
) -> ObservedAttack:
    """All images but every tenth are moved and fool; every tenth was misclassified before."""
    count = len(clean)
    moved = observations(
        clean["transport"][:, 0] + move, [f"{name} of {own}" for own in clean.hashes], clean.hashes
    )
    misclassified = np.arange(count) % 10 == 0
    flags = {
        "misclassified": misclassified,
        "unchanged": np.zeros(count, bool),
        "fooled": np.ones(count, bool),
        "count_all": False,
    }
    return ObservedAttack(name, moved, Outcome(**{**flags, **changes}))


def bench(clean: Observations, **changes: Any) -> Bench:
    given: dict[str, Any] = {"detectors": {"away": Away}, "measure": figures, "test": 0.3}
    return Bench(clean, **{**given, **changes})
