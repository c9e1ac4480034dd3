"""Tests of fitted detectors, a row for each: attacks, the worst of them, and other data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fxtransport.detecting.fitted_on import FittedOn
from fxtransport.detecting.other_data import FAR, NEAR, Distance, ObservedOther
from fxtransport.detection import Detector, Observations
from fxtransport.detection.adaptive import Evasion
from fxtransport.detection.attacks import Attack
from fxtransport.detection.detector import Scores
from fxtransport.detection.metrics import metrics
from fxtransport.detection.observed_attack import ObservedAttack
from fxtransport.detection.results import Row

SEEN, UNSEEN, CLEAN_ONLY, WORST, OTHER, ADAPTIVE = (
    "seen",
    "unseen",
    "clean only",
    "worst case",
    "other data",
    "adaptive",
)
GROWTH = 2.0
"""How many times as far from its clean image as before an image may be, to be near it."""


@dataclass(eq=False)
class Trial:
    """Collects the rows and the scores of tests of fitted detectors.

    Args:
        detectors: The detectors by name.
        about: What they were fitted on.
        observed: Of clean images that they have not seen.
        fpr: The false-positive rate of thresholds.
    """

    detectors: Mapping[str, Detector]
    about: FittedOn
    observed: Observations
    fpr: float
    rows: list[Row] = field(default_factory=list)
    tested: dict[tuple[str, str], Scores] = field(default_factory=dict)
    clean: dict[str, Scores] = field(init=False)

    def __post_init__(self) -> None:
        self.clean = self._each(lambda detector: detector.score(self.observed))

    def run(
        self, attacks: Mapping[Attack, ObservedAttack], others: Mapping[str, ObservedOther]
    ) -> None:
        """All tests: of each attack, of the worst of several, of other data."""
        for attack, seen in attacks.items():
            self.attack(attack, seen)
        if len(attacks) > 1:
            self.worst_case(list(attacks.values()))
        for name, other in others.items():
            self.other(name, other)
        for distance in (NEAR, FAR):
            self.mean_of(distance)

    def attack(self, attack: Attack, seen: ObservedAttack) -> None:
        """The rows of an attack; without figures if it counts on no image."""
        outcome = seen.outcome
        counted = np.flatnonzero(outcome.counted)
        for name, detector in self.detectors.items():
            row = Row(
                self._protocol(detector, attack),
                name,
                self._fitted_on(detector),
                attack.name,
                outcome.success_rate,
                counts=outcome.counts,
            )
            if len(counted):
                scores = detector.score(seen.observed.take(counted))
                row = self._measured(row, detector, scores, outcome.successful[counted])
            self.rows.append(row)

    def worst_case(self, attacks: Sequence[ObservedAttack]) -> None:
        """The attacker chooses for each image the attack that is least suspicious."""
        wrong = attacks[0].outcome.misclassified
        for name, detector in self.detectors.items():
            least = np.full(len(self.observed), np.inf)
            succeeded = np.zeros(len(self.observed), bool)
            for seen in attacks:
                counted = np.flatnonzero(seen.outcome.counted)
                if len(counted):
                    scores = detector.score(seen.observed.take(counted))
                    least[counted] = np.minimum(least[counted], scores)
                    succeeded |= seen.outcome.successful
            rate = float(succeeded[~wrong].mean()) if (~wrong).any() else float("nan")
            row = Row(WORST, name, self._fitted_on(detector), f"{len(attacks)} attacks", rate)
            reached = np.isfinite(least)
            if reached.any():
                row = self._measured(row, detector, least[reached], succeeded[reached])
            self.rows.append(row)

    def evasion(self, name: str, seen: ObservedAttack, found: Evasion) -> None:
        """The row of an attack on the model and one detector; see :class:`Row` for its figures.

        Args:
            name: Of the detector.
            seen: The attack before, with the images that evade in its place.
            found: What became of the images that the detector had found.
        """
        detector, outcome = self.detectors[name], seen.outcome
        counted = np.flatnonzero(outcome.counted)
        row = Row(
            ADAPTIVE,
            name,
            self._fitted_on(detector),
            seen.name,
            outcome.success_rate,
            counts=outcome.counts,
        )
        if len(counted):
            scores = detector.score(seen.observed.take(counted))
            row = self._measured(row, detector, scores, outcome.successful[counted])
            evaded = {"evaded": found.rate, "evaded_near": found.rate_within(GROWTH)}
            row = replace(row, metrics={**row.metrics, **evaded})
        self.rows.append(row)

    def other(self, name: str, other: ObservedOther) -> None:
        """The rows of other data."""
        for own, detector in self.detectors.items():
            row = Row(other.distance or OTHER, own, self._fitted_on(detector), name)
            scores = detector.score(other.observed)
            self.rows.append(self._measured(row, detector, scores, np.ones(len(scores), bool)))

    def mean_of(self, distance: Distance) -> None:
        """The mean figures of all sets that are so far from the clean images, if several are."""
        for name in self.detectors:
            own = [row for row in self.rows if (row.protocol, row.detector) == (distance, name)]
            if len(own) < 2:
                continue
            row = replace(
                own[0],
                tested_on=f"mean of {len(own)} sets",
                metrics={
                    figure: float(np.mean([each.metrics[figure] for each in own]))
                    for figure in own[0].metrics
                },
                attacked=sum(each.attacked for each in own),
            )
            self.rows.append(row)

    def _measured(
        self, row: Row, detector: Detector, scores: Scores, succeeded: NDArray[np.bool_]
    ) -> Row:
        threshold = detector.threshold(fpr=self.fpr)
        own = self.clean[row.detector]
        self.tested[row.detector, row.tested_on] = scores
        figures = asdict(metrics(own, scores, threshold, succeeded))
        return replace(
            row, metrics=figures, threshold=threshold, clean=len(own), attacked=len(scores)
        )

    def _each(self, score: Callable[[Detector], Scores]) -> dict[str, Scores]:
        return {name: score(detector) for name, detector in self.detectors.items()}

    def _fitted_on(self, detector: Detector) -> str:
        return "+".join(self.about.known) if detector.needs_attacked else ""

    def _protocol(self, detector: Detector, attack: Attack) -> str:
        if not detector.needs_attacked:
            return CLEAN_ONLY
        known = {each.name: dict(each.settings) for each in self.about.attacks}
        return SEEN if known.get(attack.name) == attack.settings else UNSEEN
