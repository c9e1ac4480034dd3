"""Attacks on a model and its detectors: which fit, what is counted, and what is kept."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from safetensors.torch import load_file

from fxtransport.detecting import adaptive
from fxtransport.detecting.adaptive import AdaptiveSettings, plan_of, unfit
from fxtransport.detecting.attack_text import parse_attacks
from fxtransport.detecting.attacking import Labeled, observe
from fxtransport.detecting.evaluating import Evaluation, EvaluationSettings, evaluate_detectors
from fxtransport.detecting.fitting import FitSettings, fit_detectors
from fxtransport.detection.registry import make_detector
from fxtransport.errors import UsageError
from tests.detecting.small import detector, new_images, subject
from tests.detection.making import made_head

QUICK = AdaptiveSettings(steps=2, evaluations=10, iterations=5, epsilon=0.3, descents=20)
[CW] = parse_attacks(["cw{search_steps=3 steps=30 first_weight=1.0}"])


def some(count: int) -> Labeled:
    given = new_images()
    return Labeled(given.images[:count], given.labels[:count])


@cache
def result() -> Evaluation:
    return evaluate_detectors(
        detector(), some(25), EvaluationSettings((CW,), adaptive=QUICK, fpr=0.2)
    )


def test_each_attack_that_fits_has_a_row() -> None:
    rows = [row for row in result().rows if row.protocol == "adaptive"]
    assert [(row.detector, row.tested_on) for row in rows] == [
        ("transport", "decisions"),
        ("transport", "features"),
        ("one-class", "decisions"),
        ("one-class", "features"),
        ("one-class", "gradients"),
        ("knn", "decisions"),
        ("knn", "features"),
        ("knn", "gradients"),
    ]
    [reason] = result().untested
    assert reason.startswith("gradients does not fit the detector transport")
    assert reason.endswith("take decisions or features")


def test_what_evades_takes_the_place_of_what_was_found() -> None:
    rows = {(row.detector, row.tested_on): row for row in result().rows}
    evaded = {kind: rows["one-class", kind].metrics["evaded"] for kind in adaptive.KINDS}
    assert evaded["decisions"] > 0.3
    assert evaded["gradients"] > 0.3
    for (name, kind), row in rows.items():
        if row.protocol != "adaptive":
            continue
        before = rows[name, "cw"]
        figures = row.metrics
        assert row.fitted_on == before.fitted_on
        assert row.success_rate == before.success_rate > 0.9
        assert row.attacked == before.attacked
        if not before.metrics["successful"]:
            assert math.isnan(figures["evaded"])
            continue
        assert 0 <= figures["evaded_near"] <= figures["evaded"] <= 1
        # those that were found and evade now are found no more, up to the rounding of batches
        expected = before.metrics["successful"] * (1 - figures["evaded"])
        assert figures["successful"] == pytest.approx(expected, abs=0.05), (name, kind)


def test_the_attacker_stays_within_epsilon(tmp_path: Path) -> None:
    few = some(20)
    only = replace(QUICK, only="gradients", epsilon=0.2)
    settings = EvaluationSettings((CW,), adaptive=only, fpr=0.2, cache=tmp_path)
    found = evaluate_detectors(detector(), few, settings)
    [kept] = tmp_path.glob("gradients-one-class-*")
    tensors = load_file(kept)
    clean = few.images[tensors["rows"]]
    moved = (tensors["images"] - clean).abs().flatten(1).amax(1)[tensors["evaded"]]
    assert len(moved)
    assert moved.max() <= 0.2 + 1e-6
    # the images that evade do so when they are looked at again
    observed = observe(detector().senses, tensors["images"][tensors["evaded"]])
    own = detector().detectors["one-class"]
    assert (own.score(observed) <= own.threshold(fpr=0.2)).mean() > 0.9
    assert found.untested


def test_what_was_attacked_is_kept_and_not_attacked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = some(12)
    only = replace(QUICK, only="decisions")
    settings = EvaluationSettings((CW,), adaptive=only, cache=tmp_path, fpr=0.2)
    told: list[tuple[str, int, int]] = []
    first = evaluate_detectors(detector(), few, settings, progress=lambda *a: told.append(a))
    names = {name for name, _, _ in told}
    assert names >= {"cw", "decisions on one-class"}
    assert all(done <= count for _, done, count in told)
    assert len([*tmp_path.iterdir()]) == 4
    monkeypatch.setattr(adaptive, "evade_by_decisions", None)
    again = evaluate_detectors(detector(), few, settings)
    # NaN is not equal to itself
    assert [str(row.metrics) for row in again.rows] == [str(row.metrics) for row in first.rows]
    with pytest.raises(TypeError):
        evaluate_detectors(detector(), few, replace(settings, fpr=0.3))
    with pytest.raises(TypeError):
        evaluate_detectors(detector(), few, replace(settings, adaptive=replace(only, steps=4)))


def test_images_that_fool_nobody_have_no_figures() -> None:
    weak = parse_attacks(["cw{search_steps=1 steps=1 learning_rate=1e-6}"])
    settings = EvaluationSettings(weak, adaptive=replace(QUICK, only="decisions"))
    found = evaluate_detectors(detector(), some(12), settings)
    assert {row.success_rate for row in found.rows} == {0}
    assert [row.metrics for row in found.rows] == [{}] * 6


def test_which_attack_fits_which_detector() -> None:
    fits = {
        "combined": ("decisions", "features"),
        "nss": ("decisions",),
        "odin": ("decisions",),
        "layer-inconsistency": ("decisions",),
        "one-class": adaptive.KINDS,
        "mahalanobis": adaptive.KINDS,
        "energy": adaptive.KINDS,
    }
    for name, expected in fits.items():
        made = make_detector(name, made_head())
        assert tuple(kind for kind in adaptive.KINDS if not unfit(kind, made)) == expected, name
    words = unfit("features", make_detector("layer-inconsistency"))
    assert "the detector layer-inconsistency, which reads stability" in words
    assert words.endswith("take decisions, which needs none")
    assert "needs 20 clean images, of which" in unfit("gradients", make_detector("energy"), 19)
    two = {name: make_detector(name) for name in ("nss", "odin")}
    with pytest.raises(UsageError, match=r"detector nss, which reads nss.*detector odin"):
        plan_of(two, AdaptiveSettings(only="gradients"))
    settings = EvaluationSettings(adaptive=AdaptiveSettings(only="gradients"))
    with pytest.raises(UsageError, match="detector nss"):
        evaluate_detectors(replace(detector(), detectors=two), new_images(), settings)


def test_settings_are_checked() -> None:
    assert AdaptiveSettings.named({"steps": 3, "epsilon": 1}) == AdaptiveSettings(
        steps=3, epsilon=1
    )
    for values, words in (
        ({"step": 3}, "no setting 'step'; did you mean steps"),
        ({"xyz": 3}, "there are only, steps"),
        ({"steps": 0}, "steps is a whole number, 1 or more, not 0"),
        ({"iterations": 2.5}, "iterations is a whole number"),
        ({"epsilon": "x"}, "epsilon is above 0 to 1"),
        ({"only": "hsj"}, "only is one of decisions, features, gradients, not 'hsj'"),
    ):
        with pytest.raises(UsageError, match=words):
            AdaptiveSettings.named(values)


def test_what_has_no_gradients_is_attacked_by_its_decisions() -> None:
    fitted = fit_detectors(subject(), FitSettings(("odin",), images=150))
    settings = EvaluationSettings((CW,), adaptive=QUICK, fpr=0.2)
    found = evaluate_detectors(fitted, some(12), settings)
    rows = [(row.detector, row.tested_on) for row in found.rows if row.protocol == "adaptive"]
    assert rows == [("odin", "decisions")]
    assert len(found.untested) == 2
