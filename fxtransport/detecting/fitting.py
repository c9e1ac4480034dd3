"""Fit detectors for a classifier, on images that it was not trained on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fxtransport.detecting.attacking import (
    Labeled,
    Progress,
    attack_labeled,
    check_classes,
    collect,
    observe,
    observe_attack,
    silent,
)
from fxtransport.detecting.fitted_on import AttackRecord, FittedOn
from fxtransport.detecting.image_detector import ImageDetector
from fxtransport.detecting.senses import Senses
from fxtransport.detecting.subject import Subject
from fxtransport.detection import Detector, Observations, detector_class, make_detector
from fxtransport.detection.attacks import Attack
from fxtransport.detection.detector import HELD_OUT
from fxtransport.detection.head import Head
from fxtransport.detection.holding_out import hold_out
from fxtransport.detection.identity import identity_of
from fxtransport.errors import UsageError
from fxtransport.program import Program

MOST = 2000
"""How many images are fitted on, by default."""
SPLIT = "validation"


@dataclass(frozen=True)
class FitSettings:
    """How detectors are fitted.

    Attributes:
        detectors: Their names; by default ``combined`` with attacks, ``one-class`` without.
        attacks: What the clean images are attacked by.
        held_out: The share of images that is held out of the fitting, to calibrate.
        images: How many images are taken at most; all if None.
        seed: Determines the choice of images, what is held out, and what is random in attacks.
        count_all: Count every image as attacked, also those that do not fool the classifier.

    Raises:
        UsageError: there is no such detector, one needs attacks, or the share is out of range.
    """

    detectors: tuple[str, ...] = ()
    attacks: tuple[Attack, ...] = ()
    held_out: float = HELD_OUT
    images: int | None = MOST
    seed: int = 0
    count_all: bool = False

    def __post_init__(self) -> None:
        chosen = self.detectors or (("combined",) if self.attacks else ("one-class",))
        object.__setattr__(self, "detectors", tuple(dict.fromkeys(chosen)))
        for name in self.detectors:
            if detector_class(name).needs_attacked and not self.attacks:
                raise UsageError(f"{name} is fitted on attacked images, too: name an attack")
        if not 0 < self.held_out < 1:
            raise UsageError(f"held_out is a share between 0 and 1, not {self.held_out}")


def fit_detectors(
    subject: Subject, settings: FitSettings, progress: Progress = silent
) -> ImageDetector:
    """Fit detectors on the validation split of the data; the test split is not read.

    Of the images, a share is held out of the fitting and calibrates. What a forest is chosen by
    is held out of the rest. An attacked image is with the image that it was made from.

    Args:
        subject: The classifier and its data.
        settings: Which detectors, and how.
        progress: Is told how many images are attacked.

    Raises:
        UsageError: the data has no validation split, or too few images; an attack succeeds on
            none; or a detector cannot be fitted.
    """
    if subject.data.validation is None:
        raise UsageError(
            "the data has no validation split, and detectors are fitted on images that the "
            "classifier was not trained on: hold some out with validation=0.1"
        )
    given = collect(subject.data.validation, settings.images, settings.seed)
    senses = Senses(subject.program, subject.preprocessing, settings.detectors)
    clean = observe(senses, given.images)
    check_classes(clean, subject.data.class_names)
    attacked, records = _attacked(subject, senses, given, clean, settings, progress)
    detectors = fit_each(
        settings.detectors,
        subject.program,
        clean,
        attacked,
        held_out=settings.held_out,
        seed=settings.seed,
    )
    rows = hold_out(clean, attacked, settings.held_out, settings.seed)
    return ImageDetector(
        senses,
        identity_of(subject.program, subject.data.class_names, subject.preprocessing),
        detectors,
        FittedOn(
            data=subject.source,
            split=SPLIT,
            clean=len(rows.clean),
            calibration=len(rows.held_clean),
            accuracy=float((clean.predicted == given.labels.numpy()).mean()),
            attacks=records,
            held_out=settings.held_out,
            seed=settings.seed,
            count_all=settings.count_all,
        ),
        _hashes(clean, rows.clean),
        _hashes(clean, rows.held_clean),
    )


def fit_each(
    names: Sequence[str],
    program: Program,
    clean: Observations,
    attacked: Observations | None,
    *,
    held_out: float,
    seed: int,
) -> dict[str, Detector]:
    """Fit detectors on the same images, and calibrate them with those that are held out.

    Args:
        names: Of the detectors.
        program: The classifier, for those that need its weights.
        clean: Of clean images.
        attacked: Of attacked images, if there are any.
        held_out: The share that calibrates.
        seed: By which it is chosen.

    Raises:
        UsageError: there are too few images, or a detector cannot be fitted on them.
    """
    needed = any(_needs_head(detector_class(name)) for name in names)
    head = Head.of(program) if needed else None
    found = {}
    for name in names:
        try:
            found[name] = make_detector(name, head).fit(
                clean, attacked, held_out=held_out, seed=seed
            )
        except UsageError as error:
            if len(names) == 1 or str(error).startswith(name):
                raise
            raise UsageError(f"{name}: {error}") from error
    return found


def _attacked(
    subject: Subject,
    senses: Senses,
    given: Labeled,
    clean: Observations,
    settings: FitSettings,
    progress: Progress,
) -> tuple[Observations | None, tuple[AttackRecord, ...]]:
    """What is observed of all attacked images that count, and what the attacks did."""
    found, records = [], []
    for attack in settings.attacks:
        made = attack_labeled(
            attack,
            subject.program,
            subject.preprocessing,
            given,
            seed=settings.seed,
            count_all=settings.count_all,
            progress=progress,
        )
        if not made.outcome.counted.any():
            raise UsageError(
                f"{attack.name} fools the classifier with none of {len(made)} images: choose a "
                "stronger attack, such as one with a larger epsilon"
            )
        seen = observe_attack(senses, made, clean)
        found.append(seen.observed.take(made.outcome.counted))
        rate = None if math.isnan(made.success_rate) else made.success_rate
        records.append(AttackRecord(attack.name, made.settings, rate, made.counts))
    return (Observations.concatenated(found) if found else None), tuple(records)


def _needs_head(kind: type[Detector]) -> bool:
    return bool(getattr(kind, "needs_head", False))


def _hashes(observed: Observations, rows: NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(observed.hashes[row] for row in rows)
