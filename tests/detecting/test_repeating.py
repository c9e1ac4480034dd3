"""Intervals over seeds: each seed fits and tests on parts that do not overlap."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats

from fxtransport.detecting import repeating
from fxtransport.detecting.adaptive import AdaptiveSettings
from fxtransport.detecting.attack_text import parse_attacks
from fxtransport.detecting.attacking import Labeled
from fxtransport.detecting.evaluating import EvaluationSettings
from fxtransport.detecting.fitting import FitSettings, fit_detectors
from fxtransport.detecting.image_detector import ImageDetector
from fxtransport.detecting.other_data import OtherData
from fxtransport.detecting.repeating import (
    Pool,
    SeedsEvaluation,
    evaluate_over_seeds,
    images_to_split,
)
from fxtransport.detection import Observations
from fxtransport.detection.hashes import image_hashes
from fxtransport.errors import UsageError
from tests.detecting.small import DETECTORS, detector, subject

FGM, BIM = parse_attacks(["fgm{epsilon=0.1}", "bim{epsilon=0.1 steps=3}"])
SEEDS = 3


@pytest.fixture(scope="module")
def pool() -> Pool:
    return images_to_split(detector(), subject().source, 100)


@pytest.fixture(scope="module")
def result(pool: Pool) -> SeedsEvaluation:
    return evaluate_over_seeds(detector(), pool, EvaluationSettings((FGM, BIM)), seeds=SEEDS)


def test_the_pool_is_what_was_fitted_on_and_new_images(pool: Pool) -> None:
    found = detector()
    hashes = image_hashes(pool.images.images)
    assert set(hashes[:575]) == {*found.fitted_hashes, *found.calibration_hashes}
    assert not set(hashes[575:]) & set(hashes[:575])
    assert pool.test == 100 / 675


def test_means_and_intervals_by_hand(result: SeedsEvaluation) -> None:
    tests = ["fgm", "bim", "2 attacks"]
    expected = [(name, test) for test in tests for name in DETECTORS]
    assert [(row.detector, row.tested_on) for row in result.rows] == expected
    for row in result.rows:
        own = [
            next(
                each.metrics
                for each in one.rows
                if (each.detector, each.tested_on) == (row.detector, row.tested_on)
            )
            for one in result.evaluations
        ]
        values = [metrics["auroc"] for metrics in own]
        half = stats.t.ppf(0.975, SEEDS - 1) * np.std(values, ddof=1) / math.sqrt(SEEDS)
        assert row.seeds == row.metrics["auroc"].count == SEEDS
        assert row.metrics["auroc"].mean == pytest.approx(np.mean(values))
        assert row.metrics["auroc"].half == pytest.approx(half)
        assert half > 0
        assert row.clean.mean == 100


def test_detectors_of_each_seed_are_attacked_themselves(pool: Pool) -> None:
    few = Pool(Labeled(pool.images.images[::3], pool.images.labels[::3]), 0.3)
    own = {"one-class": detector().named("one-class")}
    cw = parse_attacks(["cw{search_steps=3 steps=30 first_weight=1.0}"])
    quick = AdaptiveSettings(only="gradients", epsilon=0.3, descents=10)
    settings = EvaluationSettings(cw, fpr=0.3, adaptive=quick)
    found = evaluate_over_seeds(
        dataclasses.replace(detector(), detectors=own), few, settings, seeds=2
    )
    assert [(row.protocol, row.tested_on) for row in found.rows] == [
        ("clean only", "cw"),
        ("adaptive", "gradients"),
    ]
    before, after = found.rows
    evaded = after.metrics["evaded"]
    assert evaded.count == 2
    assert 0 < evaded.mean <= 1
    assert after.metrics["successful"].mean < before.metrics["successful"].mean


def test_protocols_are_those_of_the_saved_detectors(result: SeedsEvaluation) -> None:
    found = {(row.detector, row.tested_on): row.protocol for row in result.rows}
    assert found["transport", "fgm"] == "seen"
    assert found["transport", "bim"] == "unseen"
    assert found["knn", "fgm"] == "clean only"


def test_each_seed_splits_the_images_and_what_was_made_of_them(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[Observations] = []
    fit_each = repeating.fit_each

    def watched(names, program, clean, attacked, **options):
        fitted.extend([clean, attacked])
        return fit_each(names, program, clean, attacked, **options)

    monkeypatch.setattr(repeating, "fit_each", watched)
    tested = []
    trial = repeating.Trial

    def judged(detectors, known, observed, fpr):
        tested.append(observed)
        return trial(detectors, known, observed, fpr)

    monkeypatch.setattr(repeating, "Trial", judged)
    evaluate_over_seeds(detector(), pool, EvaluationSettings((FGM,), seed=5), seeds=2)
    assert len(tested) == 2
    assert set(tested[0].hashes) != set(tested[1].hashes)
    for clean, attacked, new in zip(fitted[::2], fitted[1::2], tested, strict=True):
        assert not {*clean.hashes, *attacked.sources, *attacked.hashes} & set(new.hashes)
        assert set(attacked.sources) <= set(clean.hashes)
        assert len(clean) + len(new) == 675


def test_a_seed_gives_the_same_again(pool: Pool, result: SeedsEvaluation) -> None:
    again = evaluate_over_seeds(detector(), pool, EvaluationSettings((FGM, BIM)), seeds=2)
    for one, same in zip(again.evaluations, result.evaluations, strict=False):
        assert one.rows == same.rows


def test_an_attack_that_counts_on_none_has_no_figures(pool: Pool) -> None:
    weak = parse_attacks(["bim{epsilon=1e-6}"])
    result = evaluate_over_seeds(detector(), pool, EvaluationSettings(weak), seeds=2)
    for row in result.rows:
        assert (row.metrics, row.attacked.mean, row.success_rate.mean) == ({}, 0, 0)
        assert math.isnan(row.clean.mean)


def test_other_data_and_noisy_copies_are_fitted_on_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = FitSettings(("transport",), (FGM,), others=("mnist5k",), noisy=True, images=150)
    found = fit_detectors(subject(), settings)
    pool = images_to_split(found, subject().source, 50)
    assert image_hashes(pool.others["mnist5k"].images) == found.other_hashes
    fitted: list[Observations] = []
    fit_each = repeating.fit_each

    def watched(names, program, clean, attacked, **options):
        fitted.extend([clean, attacked])
        return fit_each(names, program, clean, attacked, **options)

    monkeypatch.setattr(repeating, "fit_each", watched)
    result = evaluate_over_seeds(found, pool, EvaluationSettings((BIM,)), seeds=2)
    for clean, to_find in zip(fitted[::2], fitted[1::2], strict=True):
        originals = set(clean.take(clean.originals).hashes)
        assert len(clean) == 2 * 150
        assert set(clean.sources) == originals
        assert set(found.other_hashes) < set(to_find.hashes)
    assert [row.fitted_on for row in result.rows] == ["fgm+mnist5k"]
    mine = {"mine": OtherData(pool.others["mnist5k"])}
    with pytest.raises(UsageError, match="150 of 150 images of mine"):
        evaluate_over_seeds(found, pool, EvaluationSettings((BIM,)), mine, seeds=2)


def test_what_is_refused(pool: Pool) -> None:
    with pytest.raises(UsageError, match="an interval needs 2 seeds or more, not 1"):
        evaluate_over_seeds(detector(), pool, EvaluationSettings((FGM,)), seeds=1)
    with pytest.raises(UsageError, match="nothing to test on"):
        evaluate_over_seeds(detector(), pool, EvaluationSettings(), seeds=2)
    weak = dataclasses.replace(detector().fitted_on.attacks[0], settings={"epsilon": 1e-6})
    about = dataclasses.replace(detector().fitted_on, attacks=(weak,))
    harmless: ImageDetector = dataclasses.replace(detector(), fitted_on=about)
    with pytest.raises(UsageError, match="fgm fools the model with none of 575 images to fit on"):
        evaluate_over_seeds(harmless, pool, EvaluationSettings((BIM,)), seeds=2)
    assert torch.is_grad_enabled()
