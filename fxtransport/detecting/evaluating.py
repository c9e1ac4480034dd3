"""Test fitted detectors on images that they have not seen: attacked ones, and other data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fxtransport.detecting.attacking import (
    Labeled,
    Progress,
    attack_labeled,
    collect,
    observe,
    observe_attack,
    silent,
)
from fxtransport.detecting.image_detector import ImageDetector
from fxtransport.detecting.source import DataSource
from fxtransport.detection import Observations
from fxtransport.detection.attacks import Attack, make_attack
from fxtransport.detection.detector import FPR, Detector, Scores
from fxtransport.detection.metrics import metrics
from fxtransport.detection.observed_attack import ObservedAttack
from fxtransport.detection.results import Row
from fxtransport.errors import UsageError

SEEN, UNSEEN, CLEAN_ONLY, WORST, OTHER = (
    "seen",
    "unseen",
    "clean only",
    "worst case",
    "other data",
)


@dataclass(frozen=True)
class EvaluationSettings:
    """How detectors are tested.

    Attributes:
        attacks: What the clean images are attacked by.
        fpr: The false-positive rate of the thresholds.
        seed: Of what is random in attacks.
        count_all: Count every image as attacked.
    """

    attacks: tuple[Attack, ...] = ()
    fpr: float = FPR
    seed: int = 0
    count_all: bool = False


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came out.

    Attributes:
        rows: One for each detector and test.
        clean: The scores of the clean images, by detector.
        tested: The scores of the images to find, by detector and test.
        accuracy: The share of clean images that the model classifies correctly.
    """

    rows: tuple[Row, ...]
    clean: Mapping[str, Scores]
    tested: Mapping[tuple[str, str], Scores]
    accuracy: float


def evaluate_detectors(
    found: ImageDetector,
    given: Labeled,
    settings: EvaluationSettings,
    others: Mapping[str, Labeled] | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Test all detectors on attacks on some images, and on other images.

    Args:
        found: The detectors, with their model.
        given: Clean images as the model takes them, with their classes.
        settings: Which attacks, and how.
        others: Images of other data, by name, prepared for the same model.
        progress: Is told how many images are attacked.

    Raises:
        UsageError: an image was fitted on or calibrated with, there is nothing to test on, or an
            attack cannot be run.
    """
    if not settings.attacks and not others:
        raise UsageError("there is nothing to test on: name an attack, or other data")
    clean = observe(found.senses, given.images)
    refuse_known(found, "images to test on", clean)
    test = _Test(found, clean, settings.fpr)
    attacks = {}
    for attack in settings.attacks:
        made = attack_labeled(
            attack,
            found.senses.program,
            found.identity.preprocessing,
            given,
            seed=settings.seed,
            count_all=settings.count_all,
            progress=progress,
        )
        attacks[attack.name] = observe_attack(found.senses, made, clean)
        test.attack(attack, attacks[attack.name])
    if len(attacks) > 1:
        test.worst_case(attacks)
    for name, images in (others or {}).items():
        observed = observe(found.senses, images.images)
        refuse_known(found, f"images of {name}", observed)
        test.other(name, observed)
    right = clean.predicted == given.labels.numpy()
    return Evaluation(tuple(test.rows), test.clean, test.tested, float(right.mean()))


def images_to_test(
    found: ImageDetector, source: DataSource, most: int | None = None, seed: int = 0
) -> Labeled:
    """The test split of data that the model was trained for, as the model takes it.

    Args:
        found: The detectors, with their model.
        source: The data.
        most: How many images at most; all if None.
        seed: By which they are chosen.

    Raises:
        UsageError: the data cannot be loaded, or has other classes than the model.
    """
    splits = source.pixels(found.identity.preprocessing)
    known = found.identity.classes
    if splits.class_names != known:
        raise UsageError(
            f"{source.name} has {len(splits.class_names)} classes, {_listed(splits.class_names)}, "
            f"and the model {len(known)}, {_listed(known)}; data of other classes is tested on "
            "as other data (ood)"
        )
    return collect(splits.test, most, seed)


def other_images(
    found: ImageDetector, name: str, most: int | None = None, seed: int = 0
) -> Labeled:
    """The test split of other data, whose classes do not matter, as the model takes it.

    Raises:
        UsageError: the data cannot be loaded.
    """
    source = DataSource.named(name)
    return collect(source.pixels(found.identity.preprocessing).test, most, seed)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def known_attacks(found: ImageDetector) -> tuple[Attack, ...]:
    """The attacks that detectors were fitted on, with their settings."""
    return tuple(make_attack(each.name, **each.settings) for each in found.fitted_on.attacks)


def refuse_known(found: ImageDetector, what: str, observed: Observations) -> None:
    """Check that images are new to the detectors.

    Raises:
        UsageError: some were fitted on, or calibrated with.
    """
    known = {*found.fitted_hashes, *found.calibration_hashes}
    shared = [row for row, name in enumerate(observed.hashes) if name in known]
    if shared:
        raise UsageError(
            f"{len(shared)} of {len(observed)} {what}, the first of them number {shared[0]}, are "
            "among those that the detectors were fitted on or calibrated with; leave them out"
        )


@dataclass(eq=False)
class _Test:
    """Collects the rows and the scores of all tests."""

    found: ImageDetector
    observed: Observations
    fpr: float
    rows: list[Row] = field(default_factory=list)
    tested: dict[tuple[str, str], Scores] = field(default_factory=dict)
    clean: dict[str, Scores] = field(init=False)

    def __post_init__(self) -> None:
        self.clean = self._each(lambda detector: detector.score(self.observed))

    def attack(self, attack: Attack, seen: ObservedAttack) -> None:
        """The rows of an attack; without figures if it counts on no image."""
        outcome = seen.outcome
        counted = np.flatnonzero(outcome.counted)
        for name, detector in self.found.detectors.items():
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

    def worst_case(self, attacks: Mapping[str, ObservedAttack]) -> None:
        """The attacker chooses for each image the attack that is least suspicious."""
        wrong = next(iter(attacks.values())).outcome.misclassified
        for name, detector in self.found.detectors.items():
            least = np.full(len(self.observed), np.inf)
            succeeded = np.zeros(len(self.observed), bool)
            for seen in attacks.values():
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

    def other(self, name: str, observed: Observations) -> None:
        """The rows of other data."""
        for own, detector in self.found.detectors.items():
            row = Row(OTHER, own, self._fitted_on(detector), name)
            scores = detector.score(observed)
            self.rows.append(self._measured(row, detector, scores, np.ones(len(scores), bool)))

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
        return {name: score(detector) for name, detector in self.found.detectors.items()}

    def _fitted_on(self, detector: Detector) -> str:
        names: Sequence[str] = [each.name for each in self.found.fitted_on.attacks]
        return "+".join(names) if detector.needs_attacked else ""

    def _protocol(self, detector: Detector, attack: Attack) -> str:
        if not detector.needs_attacked:
            return CLEAN_ONLY
        known = [(each.name, dict(each.settings)) for each in self.found.fitted_on.attacks]
        return SEEN if (attack.name, attack.settings) in known else UNSEEN
