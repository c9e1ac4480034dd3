"""Tests of detectors: their figures by hand, and images that may not be tested on."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from fxtransport.data import load
from fxtransport.detecting import evaluating
from fxtransport.detecting.attack_text import parse_attacks
from fxtransport.detecting.attacking import Labeled, attack_labeled, collect
from fxtransport.detecting.evaluating import (
    Evaluation,
    EvaluationSettings,
    evaluate_detectors,
    known_attacks,
)
from fxtransport.detecting.other_data import OtherData
from fxtransport.detecting.source import pixel_options
from fxtransport.detection.results import worst
from fxtransport.errors import UsageError
from tests.detecting.small import DETECTORS, detector, new_images, subject

FGM, BIM = parse_attacks(["fgm{epsilon=0.1}", "bim{epsilon=0.1 steps=5}"])


def patches() -> Labeled:
    preprocessing = detector().identity.preprocessing
    options = pixel_options(preprocessing)
    splits = load("mnist5k", seed=0, batch_size=64, input_size=(1, 8, 8), transform=options)
    return collect(splits.test, 40, seed=0)


@pytest.fixture(scope="module")
def result() -> Evaluation:
    settings = EvaluationSettings((FGM, BIM))
    return evaluate_detectors(detector(), new_images(), settings, {"mnist5k": OtherData(patches())})


def test_each_detector_has_a_row_for_each_test(result: Evaluation) -> None:
    tests = ["fgm", "bim", "2 attacks", "mnist5k"]
    expected = [(name, test) for test in tests for name in DETECTORS]
    assert [(row.detector, row.tested_on) for row in result.rows] == expected
    protocols = {(row.detector, row.tested_on): row.protocol for row in result.rows}
    assert protocols["transport", "fgm"] == "seen"
    assert protocols["transport", "bim"] == "unseen"
    assert protocols["one-class", "fgm"] == "clean only"
    assert protocols["knn", "2 attacks"] == "worst case"
    assert protocols["knn", "mnist5k"] == "other data"


def test_the_figures_by_hand(result: Evaluation) -> None:
    given = new_images()
    made = attack_labeled(BIM, subject().program, detector().identity.preprocessing, given, seed=0)
    found = made.attacked[made.successful]
    row = next(r for r in result.rows if (r.detector, r.tested_on) == ("one-class", "bim"))
    clean, attacked = (detector().score(images, "one-class") for images in (given.images, found))
    labels = np.repeat([0, 1], [len(clean), len(attacked)])
    scores = np.concatenate([clean.scores, attacked.scores])
    assert row.metrics["auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert row.metrics["fpr"] == clean.suspicious.mean()
    assert row.metrics["tpr"] == attacked.suspicious.mean()
    assert (row.clean, row.attacked) == (60, len(found))
    assert row.success_rate == made.success_rate
    assert row.counts == made.outcome.counts


def test_the_worst_case_takes_the_least_suspicious_form_of_each_image(result: Evaluation) -> None:
    rows = {(row.detector, row.tested_on): row for row in result.rows}
    for name in DETECTORS:
        both = rows[name, "2 attacks"]
        singles = [rows[name, test] for test in ("fgm", "bim")]
        assert both.attacked >= max(row.attacked for row in singles)
        assert both.success_rate >= max(row.success_rate for row in singles)
        least = np.concatenate([result.tested[name, test] for test in ("fgm", "bim")]).min()
        assert result.tested[name, "2 attacks"].min() == least
        assert both.metrics["tpr"] <= max(row.metrics["tpr"] for row in singles)


def test_the_worst_attack_of_each_detector(result: Evaluation) -> None:
    own = [row for row in result.rows if row.protocol in ("seen", "unseen", "clean only")]
    for name, row in worst(own).items():
        values = [r.metrics["auroc"] for r in own if r.detector == name]
        assert row.metrics["auroc"] == min(values)


def test_a_planted_image_is_refused() -> None:
    """Also a single one, and one that calibrated."""
    validation = subject().data.validation
    assert validation is not None
    known = collect(validation, None, seed=0).images[:1]
    given = new_images()
    planted = Labeled(torch.cat([given.images, known]), torch.cat([given.labels, torch.zeros(1)]))
    planted = Labeled(planted.images, planted.labels.long())
    with pytest.raises(UsageError, match="1 of 61 images to test on, the first of them number 60"):
        evaluate_detectors(detector(), planted, EvaluationSettings((FGM,)))
    others = {"mine": OtherData(Labeled(known, torch.zeros(1).long()))}
    with pytest.raises(UsageError, match="1 of 1 images of mine"):
        evaluate_detectors(detector(), given, EvaluationSettings(), others)


def test_an_attack_that_counts_on_none_has_no_figures() -> None:
    settings = EvaluationSettings(parse_attacks(["fgm{epsilon=1e-6}"]))
    result = evaluate_detectors(detector(), new_images(), settings)
    assert [row.metrics for row in result.rows] == [{}] * len(DETECTORS)
    assert {row.success_rate for row in result.rows} == {0}
    assert all(math.isnan(row.threshold) for row in result.rows)


def test_the_attacks_that_were_fitted_on_are_known() -> None:
    assert known_attacks(detector()) == (FGM,)


def test_nothing_to_test_on() -> None:
    with pytest.raises(UsageError, match="nothing to test on: name an attack, or other data"):
        evaluate_detectors(detector(), new_images(), EvaluationSettings())


def test_near_and_far_have_rows_of_their_own_and_a_mean() -> None:
    found = patches().images
    labels = torch.zeros(20, dtype=torch.long)
    halves = [Labeled(found[:20], labels), Labeled(found[20:], labels)]
    far = Labeled(torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)), labels)
    others = {
        "a": OtherData(halves[0], "near"),
        "b": OtherData(halves[1], "near"),
        "noise": OtherData(far, "far"),
    }
    result = evaluate_detectors(detector(), new_images(), EvaluationSettings(), others)
    tests = [("near", "a"), ("near", "b"), ("far", "noise"), ("near", "mean of 2 sets")]
    assert [(row.protocol, row.tested_on) for row in result.rows] == [
        test for test in tests for _ in DETECTORS
    ]
    for name in DETECTORS:
        first, second, _, mean = (row for row in result.rows if row.detector == name)
        for figure, value in mean.metrics.items():
            assert value == pytest.approx((first.metrics[figure] + second.metrics[figure]) / 2)
        assert mean.attacked == 40


def test_sets_to_test_on_are_disjoint() -> None:
    given, other = new_images(), patches()
    twice = {"mine": OtherData(Labeled(given.images[7:8], given.labels[7:8]), "near")}
    with pytest.raises(UsageError, match=r"1 of 1 images of mine.* among the clean images"):
        evaluate_detectors(detector(), given, EvaluationSettings(), twice)
    part = Labeled(other.images[5:9], other.labels[5:9])
    both = {"a": OtherData(other, "near"), "b": OtherData(part, "far")}
    with pytest.raises(UsageError, match=r"4 of 4 images of b.* among the images of a"):
        evaluate_detectors(detector(), given, EvaluationSettings(), both)


def test_too_low_a_rate_is_told_before_anything_is_attacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluating, "attack_labeled", None)
    with pytest.raises(UsageError, match="needs 9999 clean images"):
        evaluate_detectors(detector(), new_images(), EvaluationSettings((FGM,), fpr=1e-4))
