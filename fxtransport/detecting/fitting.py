"""Fit detectors for a classifier, on images that it was not trained on."""

import math
from collections.abc import Mapping, Sequence
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
from fxtransport.detecting.fitted_on import AttackRecord, FittedOn, OtherRecord
from fxtransport.detecting.image_detector import ImageDetector
from fxtransport.detecting.noisy import observe_noisy
from fxtransport.detecting.other_data import KnownData, OtherData, load_known, observe_others
from fxtransport.detecting.senses import Senses
from fxtransport.detecting.subject import Subject
from fxtransport.detection import Detector, Observations, detector_class, make_detector
from fxtransport.detection.attacks import Attack, AttackedSet
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
        detectors: Their names; by default ``combined`` with attacks or other data,
            ``one-class`` without.
        attacks: What the clean images are attacked by.
        others: Other data to find, whose test splits are fitted on like attacked images, by name.
        noisy: Count noisy copies of the attacked images as clean (THESIS 5.4).
        held_out: The share of images that is held out of the fitting, to calibrate.
        images: How many images are taken at most; all if None.
        seed: Determines the choice of images, what is held out, and what is random in attacks.
        count_all: Count every image as attacked, also those that do not fool the classifier.

    Raises:
        UsageError: there is no such detector, one needs attacks or other data, there are to be
            noisy copies without attacks, or the share is out of range.
    """

    detectors: tuple[str, ...] = ()
    attacks: tuple[Attack, ...] = ()
    held_out: float = HELD_OUT
    images: int | None = MOST
    seed: int = 0
    count_all: bool = False
    others: tuple[str, ...] = ()
    noisy: bool = False

    def __post_init__(self) -> None:
        to_find = bool(self.attacks or self.others)
        chosen = self.detectors or (("combined",) if to_find else ("one-class",))
        object.__setattr__(self, "detectors", tuple(dict.fromkeys(chosen)))
        for name in self.detectors:
            if detector_class(name).needs_attacked and not to_find:
                raise UsageError(
                    f"{name} is fitted on attacked images, too: name an attack, or other data (ood)"
                )
        if self.noisy and not self.attacks:
            raise UsageError(
                "noisy copies have as much noise as an attack changes an image: name an attack"
            )
        if not 0 < self.held_out < 1:
            raise UsageError(f"held_out is a share between 0 and 1, not {self.held_out}")


def fit_detectors(
    subject: Subject, settings: FitSettings, progress: Progress = silent
) -> ImageDetector:
    """Fit detectors on the validation split of the data; the test split is not read.

    Of the images, a share is held out of the fitting and calibrates. What a forest is chosen by
    is held out of the rest. An attacked image, or a noisy copy, is with the image that it was made
    from. Noisy copies do not calibrate.

    Args:
        subject: The classifier and its data.
        settings: Which detectors, and how.
        progress: Is told how many images are attacked.

    Raises:
        UsageError: the data has no validation split, or too few images; an attack succeeds on
            none; other data cannot be loaded, or shares an image with the validation split; or a
            detector cannot be fitted.
    """
    if subject.data.validation is None:
        raise UsageError(
            "the data has no validation split, and detectors are fitted on images that the "
            "classifier was not trained on: hold some out with validation=0.1"
        )
    given = collect(subject.data.validation, settings.images, settings.seed)
    others = load_known(
        settings.others, subject.source, subject.preprocessing, settings.images, settings.seed
    )
    senses = Senses(subject.program, subject.preprocessing, settings.detectors)
    clean = observe(senses, given.images)
    check_classes(clean, subject.data.class_names)
    images = _images(subject, senses, given, clean, others, settings, progress)
    detectors = fit_each(
        settings.detectors,
        subject.program,
        images.clean,
        images.to_find,
        held_out=settings.held_out,
        seed=settings.seed,
    )
    rows = hold_out(images.clean, images.to_find, settings.held_out, settings.seed)
    originals = images.clean.originals
    fitted, held = (part[originals[part]] for part in (rows.clean, rows.held_clean))
    return ImageDetector(
        senses,
        identity_of(subject.program, subject.data.class_names, subject.preprocessing),
        detectors,
        FittedOn(
            data=subject.source,
            split=SPLIT,
            clean=len(fitted),
            calibration=len(held),
            accuracy=float((clean.predicted == given.labels.numpy()).mean()),
            attacks=images.attacks,
            held_out=settings.held_out,
            seed=settings.seed,
            count_all=settings.count_all,
            others=tuple(
                OtherRecord(name, known.source, len(known.images)) for name, known in others.items()
            ),
            noisy=len(rows.clean) - len(fitted) if settings.noisy else None,
        ),
        _hashes(images.clean, fitted),
        _hashes(images.clean, held),
        images.other_hashes,
    )


@dataclass(frozen=True, eq=False)
class _Images:
    """What is observed of all images.

    Attributes:
        clean: Of clean ones, and of noisy copies that count as clean.
        to_find: Of attacked ones that count, and of other data; None if there are none.
        attacks: What the attacks did.
        other_hashes: Of other data.
    """

    clean: Observations
    to_find: Observations | None
    attacks: tuple[AttackRecord, ...]
    other_hashes: tuple[str, ...]


def _images(
    subject: Subject,
    senses: Senses,
    given: Labeled,
    clean: Observations,
    others: Mapping[str, KnownData],
    settings: FitSettings,
    progress: Progress,
) -> _Images:
    sets = [_made(attack, subject, given, settings, progress) for attack in settings.attacks]
    attacked = [
        observe_attack(senses, made, clean).observed.take(made.outcome.counted) for made in sets
    ]
    named = {name: OtherData(known.images) for name, known in others.items()}
    strange = [each.observed for each in observe_others(senses, clean, named).values()]
    to_find = [*attacked, *strange]
    if settings.noisy:
        copies = observe_noisy(senses, sets, clean, settings.seed)
        clean = Observations.concatenated([clean, copies])
    return _Images(
        clean,
        Observations.concatenated(to_find) if to_find else None,
        tuple(map(_record, sets)),
        tuple(name for each in strange for name in each.hashes),
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


def _made(
    attack: Attack, subject: Subject, given: Labeled, settings: FitSettings, progress: Progress
) -> AttackedSet:
    """Images before and after an attack, some of which count."""
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
    return made


def _record(made: AttackedSet) -> AttackRecord:
    rate = None if math.isnan(made.success_rate) else made.success_rate
    return AttackRecord(made.attack, made.settings, rate, made.counts)


def _needs_head(kind: type[Detector]) -> bool:
    return bool(getattr(kind, "needs_head", False))


def _hashes(observed: Observations, rows: NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(observed.hashes[row] for row in rows)
