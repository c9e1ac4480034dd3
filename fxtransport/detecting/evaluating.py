"""Test fitted detectors on images that they have not seen: attacked ones, and other data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fxtransport.data import Splits
from fxtransport.detecting.adaptive import AdaptiveSettings, attack_detectors, plan_of
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
from fxtransport.detecting.other_data import OtherData, observe_others, refuse_shared
from fxtransport.detecting.source import DataSource
from fxtransport.detecting.trial import Trial
from fxtransport.detection import Observations
from fxtransport.detection.attacks import Attack, AttackedSet, make_attack
from fxtransport.detection.detector import FPR, Scores
from fxtransport.detection.results import Row
from fxtransport.errors import UsageError

CW = "cw"


@dataclass(frozen=True)
class EvaluationSettings:
    """How detectors are tested.

    Attributes:
        attacks: What the clean images are attacked by.
        fpr: The false-positive rate of the thresholds.
        seed: Of what is random in attacks.
        count_all: Count every image as attacked.
        adaptive: How each detector is attacked itself, with the model; not at all if None.
        cache: A folder of attacked images. They are read from there if they were made of the
            same images, model, detector, settings and seed, and written there otherwise.
    """

    attacks: tuple[Attack, ...] = ()
    fpr: float = FPR
    seed: int = 0
    count_all: bool = False
    adaptive: AdaptiveSettings | None = None
    cache: Path | None = None

    @property
    def before(self) -> Attack:
        """What images are attacked by before the detectors are: CW, as it is among the attacks."""
        return next((each for each in self.attacks if each.name == CW), make_attack(CW))

    @property
    def all_attacks(self) -> tuple[Attack, ...]:
        """All attacks on the model alone that are made."""
        more = () if self.adaptive is None else (self.before,)
        return tuple(dict.fromkeys([*self.attacks, *more]))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came out.

    Attributes:
        rows: One for each detector and test.
        clean: The scores of the clean images, by detector.
        tested: The scores of the images to find, by detector and test.
        accuracy: The share of clean images that the model classifies correctly.
        untested: Which attacks do not fit which detectors, with what to take in their place.
    """

    rows: tuple[Row, ...]
    clean: Mapping[str, Scores]
    tested: Mapping[tuple[str, str], Scores]
    accuracy: float
    untested: tuple[str, ...] = ()


def evaluate_detectors(
    found: ImageDetector,
    given: Labeled,
    settings: EvaluationSettings,
    others: Mapping[str, OtherData] | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Test all detectors on attacks on some images, and on other images.

    Args:
        found: The detectors, with their model.
        given: Clean images as the model takes them, with their classes.
        settings: Which attacks, and how.
        others: Images of other data, by name, prepared for the same model. What is fitted on,
            the clean images and each of these sets are disjoint.
        progress: Is told how many images are attacked.

    Raises:
        UsageError: an image was fitted on or calibrated with, or is in two sets to test on; there
            is nothing to test on; or an attack cannot be run.
    """
    check_settings(found, settings, others)
    clean = observe(found.senses, given.images)
    refuse_known(found, "images to test on", clean)
    strange = observe_others(found.senses, clean, others or {})
    for name, other in strange.items():
        refuse_known(found, f"images of {name}", other.observed)
    made = {
        attack: attacked_set(found, attack, given, settings, progress)
        for attack in settings.all_attacks
    }
    attacks = {
        attack: observe_attack(found.senses, made[attack], clean) for attack in settings.attacks
    }
    trial = Trial(found.detectors, found.fitted_on, clean, settings.fpr)
    trial.run(attacks, strange)
    untested = run_adaptive(trial, found, made, settings, settings.seed, progress)
    return evaluation_of(trial, given.labels, untested)


def check_settings(
    found: ImageDetector, settings: EvaluationSettings, others: Mapping[str, OtherData] | None
) -> None:
    """Check what can be known before anything is computed.

    Raises:
        UsageError: there is nothing to test on, no attack on detectors fits one, or detectors
            were calibrated with too few images for the false-positive rate.
    """
    if not settings.attacks and not others and settings.adaptive is None:
        raise UsageError("there is nothing to test on: name an attack, or other data")
    if settings.adaptive is not None:
        plan_of(found.detectors, settings.adaptive)
    for detector in found.detectors.values():
        detector.threshold(fpr=settings.fpr)


def attacked_set(
    found: ImageDetector,
    attack: Attack,
    given: Labeled,
    settings: EvaluationSettings,
    progress: Progress,
) -> AttackedSet:
    """Images before and after an attack on the model that is watched.

    Raises:
        UsageError: the attack cannot be run.
    """
    return attack_labeled(
        attack,
        found.senses.program,
        found.identity.preprocessing,
        given,
        seed=settings.seed,
        count_all=settings.count_all,
        cache=settings.cache,
        progress=progress,
    )


def run_adaptive(
    trial: Trial,
    found: ImageDetector,
    made: Mapping[Attack, AttackedSet],
    settings: EvaluationSettings,
    seed: int,
    progress: Progress,
) -> tuple[str, ...]:
    """Attack the detectors of a trial, if that is wanted; why some attacks do not fit some.

    Args:
        trial: To which rows are added.
        found: The model.
        made: Attacks on the model alone, on the clean images of the trial.
        settings: Which attacks.
        seed: Determines what is random.
        progress: Is told how many images are attacked.

    Raises:
        UsageError: see :func:`attack_detectors`.
    """
    if settings.adaptive is None:
        return ()
    plan = attack_detectors(
        trial,
        found.senses,
        made[settings.before],
        settings.adaptive,
        seed=seed,
        cache=settings.cache,
        progress=progress,
    )
    return plan.refused


def evaluation_of(trial: Trial, labels: Tensor, untested: tuple[str, ...] = ()) -> Evaluation:
    """What came out of tests, of clean images of some classes and of others."""
    right = trial.observed.predicted == labels.numpy()
    accuracy = float(right.mean())
    return Evaluation(tuple(trial.rows), trial.clean, trial.tested, accuracy, untested)


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
    return collect(splits_for(found, source).require_test(), most, seed)


def splits_for(found: ImageDetector, source: DataSource) -> Splits:
    """The splits of data that the model was trained for, as pixels.

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
    return splits


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def known_attacks(found: ImageDetector) -> tuple[Attack, ...]:
    """The attacks that detectors were fitted on, with their settings."""
    return tuple(make_attack(each.name, **each.settings) for each in found.fitted_on.attacks)


def refuse_known(found: ImageDetector, what: str, observed: Observations) -> None:
    """Check that images are new to the detectors.

    Raises:
        UsageError: some were fitted on, as clean images or as other data, or calibrated with.
    """
    known = {*found.fitted_hashes, *found.calibration_hashes, *found.other_hashes}
    among = "those that the detectors were fitted on or calibrated with"
    refuse_shared(what, observed, among, known)
