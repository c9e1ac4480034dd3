"""Repeat fitting and testing on other splits of the images, for intervals over seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from fxtransport.detecting.attacking import Labeled, Progress, collect, observe, silent
from fxtransport.detecting.evaluating import (
    Evaluation,
    EvaluationSettings,
    attacks_of,
    check_settings,
    evaluation_of,
    known_attacks,
    observed_attack,
    splits_for,
)
from fxtransport.detecting.fitting import fit_each
from fxtransport.detecting.image_detector import ImageDetector
from fxtransport.detecting.other_data import ObservedOther, OtherData, observe_others
from fxtransport.detecting.source import DataSource
from fxtransport.detecting.trial import Trial
from fxtransport.detection import Observations
from fxtransport.detection.attacks import Attack
from fxtransport.detection.metrics import Interval, interval
from fxtransport.detection.observed_attack import ObservedAttack
from fxtransport.detection.results import SeedsRow, rows_over_seeds
from fxtransport.detection.splitting import FitAndTest, refuse_overlap, split_images
from fxtransport.errors import UsageError


@dataclass(frozen=True, eq=False)
class SeedsEvaluation:
    """What came out of several seeds.

    Attributes:
        evaluations: Of each seed.
        rows: Means over seeds with 95 % intervals, one for each detector and test.
        accuracy: The share of clean images to test on that the model classifies correctly.
    """

    evaluations: tuple[Evaluation, ...]
    rows: tuple[SeedsRow, ...]
    accuracy: Interval


@dataclass(frozen=True, eq=False)
class Pool:
    """Images that the model was not trained on, to be split into those to fit and to test on.

    Attributes:
        images: With their classes.
        test: The share to test on.
    """

    images: Labeled
    test: float


def images_to_split(
    found: ImageDetector, source: DataSource, most: int | None = None, seed: int = 0
) -> Pool:
    """The validation and the test split of data, as many images as fitting and testing take.

    Args:
        found: The detectors, with their model.
        source: The data.
        most: How many images of the test split at most; all if None.
        seed: By which they are chosen.

    Raises:
        UsageError: the data cannot be loaded, has other classes than the model, or has no
            validation split.
    """
    splits = splits_for(found, source)
    if splits.validation is None:
        raise UsageError(
            f"{source.name} has no validation split, and detectors are fitted again on images "
            "that the model was not trained on"
        )
    about = found.fitted_on
    own = collect(splits.validation, about.clean + about.calibration, about.seed)
    new = collect(splits.test, most, seed)
    images = torch.cat([own.images, new.images])
    labels = torch.cat([own.labels, new.labels])
    return Pool(Labeled(images, labels), len(new) / len(labels))


def evaluate_over_seeds(
    found: ImageDetector,
    pool: Pool,
    settings: EvaluationSettings,
    others: Mapping[str, OtherData] | None = None,
    *,
    seeds: int,
    progress: Progress = silent,
) -> SeedsEvaluation:
    """Fit detectors like those of a folder again and test them, several times.

    Each time the images are split by another seed into those to fit on, of which a share
    calibrates, and those to test on, and forests are grown by that seed. The model, the attacked
    form of each image and other data stay the same, so that intervals tell what the choice of
    images does. Splits of the same images overlap, so intervals are narrower than those over
    new images would be.

    Args:
        found: The detectors, with their model; what they learned is not used.
        pool: The images; see :func:`images_to_split`.
        settings: Which attacks, and how; the first seed.
        others: Images of other data, by name.
        seeds: How many times.
        progress: Is told how many images are attacked.

    Raises:
        UsageError: there are fewer than two seeds, or nothing to test on; sets of images
            overlap, or are too small; or an attack cannot be run.
    """
    if seeds < 2:
        raise UsageError(f"an interval needs 2 seeds or more, not {seeds}")
    check_settings(found, settings, others)
    clean = observe(found.senses, pool.images.images)
    strange = observe_others(found.senses, clean, others or {})
    attacks = {
        attack: observed_attack(found, attack, pool.images, clean, settings, progress)
        for attack in dict.fromkeys([*known_attacks(found), *settings.attacks])
    }
    evaluations = tuple(
        _one_seed(found, pool, settings, clean, attacks, strange, settings.seed + k)
        for k in range(seeds)
    )
    accuracy = interval([each.accuracy for each in evaluations])
    rows = rows_over_seeds([each.rows for each in evaluations])
    return SeedsEvaluation(evaluations, rows, accuracy)


def _one_seed(
    found: ImageDetector,
    pool: Pool,
    settings: EvaluationSettings,
    clean: Observations,
    attacks: Mapping[Attack, ObservedAttack],
    others: Mapping[str, ObservedOther],
    seed: int,
) -> Evaluation:
    parts = split_images(clean, pool.test, seed)
    own, new = clean.take(parts.fit), clean.take(parts.test)
    attacked = _attacked(found, attacks, parts)
    sets = {"clean images": own} | ({} if attacked is None else {"attacked images": attacked})
    refuse_overlap(sets, {"clean images": new})
    detectors = fit_each(
        tuple(found.detectors),
        found.senses.program,
        own,
        attacked,
        held_out=found.fitted_on.held_out,
        seed=seed,
    )
    tested = {attack: _taken(attacks[attack], parts) for attack in settings.attacks}
    trial = Trial(detectors, attacks_of(found.fitted_on), new, settings.fpr)
    trial.run(tested, others)
    return evaluation_of(trial, pool.images.labels[torch.from_numpy(parts.test)])


def _attacked(
    found: ImageDetector, attacks: Mapping[Attack, ObservedAttack], parts: FitAndTest
) -> Observations | None:
    """What is observed of the attacked images to fit on, which count as when it was fitted.

    Raises:
        UsageError: none of an attack counts.
    """
    many = []
    for attack in known_attacks(found):
        seen = attacks[attack]
        outcome = replace(seen.outcome, count_all=found.fitted_on.count_all)
        rows = parts.fit[outcome.counted[parts.fit]]
        if not len(rows):
            raise UsageError(
                f"{attack.name} fools the model with none of {len(parts.fit)} images to fit on"
            )
        many.append(seen.observed.take(rows))
    return Observations.concatenated(many) if many else None


def _taken(seen: ObservedAttack, parts: FitAndTest) -> ObservedAttack:
    """The attacked images to test on."""
    return replace(
        seen, observed=seen.observed.take(parts.test), outcome=seen.outcome.take(parts.test)
    )
