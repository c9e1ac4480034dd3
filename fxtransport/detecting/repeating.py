"""Repeat fitting and testing on other splits of the images, for intervals over seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from fxtransport.detecting.attacking import (
    Labeled,
    Progress,
    collect,
    observe,
    observe_attack,
    silent,
)
from fxtransport.detecting.evaluating import (
    Evaluation,
    EvaluationSettings,
    attacked_set,
    check_settings,
    evaluation_of,
    known_attacks,
    refuse_known,
    run_adaptive,
    splits_for,
)
from fxtransport.detecting.fitting import fit_each
from fxtransport.detecting.image_detector import ImageDetector
from fxtransport.detecting.noisy import observe_noisy
from fxtransport.detecting.other_data import (
    ObservedOther,
    OtherData,
    images_of,
    observe_others,
)
from fxtransport.detecting.source import DataSource
from fxtransport.detecting.trial import Trial
from fxtransport.detection import Observations
from fxtransport.detection.attacks import Attack, AttackedSet
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
        others: Other data that detectors are fitted on each time, by name.
    """

    images: Labeled
    test: float
    others: Mapping[str, Labeled] = field(default_factory=dict)


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
    new = collect(splits.require_test(), most, seed)
    images = torch.cat([own.images, new.images])
    labels = torch.cat([own.labels, new.labels])
    preprocessing = found.identity.preprocessing
    others = {
        each.name: images_of(each.data, preprocessing, each.images, about.seed)
        for each in about.others
    }
    return Pool(Labeled(images, labels), len(new) / len(labels), others)


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
    for name, other in strange.items():
        refuse_known(found, f"images of {name}", other.observed)
    made = {
        attack: attacked_set(found, attack, pool.images, settings, progress)
        for attack in dict.fromkeys([*known_attacks(found), *settings.all_attacks])
    }
    seen = _Seen(
        clean,
        made,
        {attack: observe_attack(found.senses, each, clean) for attack, each in made.items()},
        strange,
        _known_others(found, pool, clean),
        _noisy(found, made, clean),
    )
    evaluations = tuple(
        _one_seed(found, pool, settings, seen, settings.seed + k, progress) for k in range(seeds)
    )
    accuracy = interval([each.accuracy for each in evaluations])
    rows = rows_over_seeds([each.rows for each in evaluations])
    return SeedsEvaluation(evaluations, rows, accuracy)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is observed of all images, which seeds divide.

    Attributes:
        clean: Of the pool.
        made: Its images after each attack.
        attacks: What is observed of them.
        strange: Other data to test on.
        known: Other data to fit on.
        noisy: Noisy copies of the pool; None if there are to be none.
    """

    clean: Observations
    made: Mapping[Attack, AttackedSet]
    attacks: Mapping[Attack, ObservedAttack]
    strange: Mapping[str, ObservedOther]
    known: tuple[Observations, ...]
    noisy: Observations | None


def _known_others(
    found: ImageDetector, pool: Pool, clean: Observations
) -> tuple[Observations, ...]:
    named = {name: OtherData(images) for name, images in pool.others.items()}
    return tuple(each.observed for each in observe_others(found.senses, clean, named).values())


def _noisy(
    found: ImageDetector, made: Mapping[Attack, AttackedSet], clean: Observations
) -> Observations | None:
    about = found.fitted_on
    if about.noisy is None:
        return None
    return observe_noisy(
        found.senses, [made[attack] for attack in known_attacks(found)], clean, about.seed
    )


def _one_seed(
    found: ImageDetector,
    pool: Pool,
    settings: EvaluationSettings,
    seen: _Seen,
    seed: int,
    progress: Progress,
) -> Evaluation:
    parts = split_images(seen.clean, pool.test, seed)
    own, new = seen.clean.take(parts.fit), seen.clean.take(parts.test)
    if seen.noisy is not None:
        copies = seen.noisy.take(np.isin(seen.noisy.sources, own.hashes))
        own = Observations.concatenated([own, copies])
    to_find = [*_attacked(found, seen.attacks, parts), *seen.known]
    attacked = Observations.concatenated(to_find) if to_find else None
    sets = {"clean images": own} | ({} if attacked is None else {"images to find": attacked})
    refuse_overlap(sets, {"clean images": new})
    detectors = fit_each(
        tuple(found.detectors),
        found.senses.program,
        own,
        attacked,
        held_out=found.fitted_on.held_out,
        seed=seed,
    )
    tested = {attack: _taken(seen.attacks[attack], parts) for attack in settings.attacks}
    trial = Trial(detectors, found.fitted_on, new, settings.fpr)
    trial.run(tested, seen.strange)
    rows = torch.from_numpy(parts.test)
    # of images of the test part alone, which detectors have not seen
    made = {attack: seen.made[attack].take(rows) for attack in settings.all_attacks}
    untested = run_adaptive(trial, found, made, settings, seed, progress)
    return evaluation_of(trial, pool.images.labels[rows], untested)


def _attacked(
    found: ImageDetector, attacks: Mapping[Attack, ObservedAttack], parts: FitAndTest
) -> list[Observations]:
    """What is observed of the images of each attack to fit on, which count as when it was fitted.

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
    return many


def _taken(seen: ObservedAttack, parts: FitAndTest) -> ObservedAttack:
    """The attacked images to test on."""
    return replace(
        seen, observed=seen.observed.take(parts.test), outcome=seen.outcome.take(parts.test)
    )
