"""What detectors are fitted on: the validation split, in parts that do not overlap."""

import dataclasses
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from fxtransport.detecting.attack_text import parse_attacks
from fxtransport.detecting.attacking import Labeled, collect
from fxtransport.detecting.evaluating import EvaluationSettings, evaluate_detectors
from fxtransport.detecting.fitting import FitSettings, fit_detectors
from fxtransport.detecting.folder import load_detector, save_detector
from fxtransport.detecting.image_detector import ImageDetector
from fxtransport.detecting.other_data import OtherData, images_of, load_known, load_others
from fxtransport.detecting.source import DataSource
from fxtransport.detecting.subject import Subject
from fxtransport.detection.hashes import image_hashes
from fxtransport.errors import UsageError
from tests.detecting.small import DETECTORS, detector, new_images, subject


def untouchable() -> Subject:
    """The subject, whose test split cannot be read."""

    class Never:
        def __iter__(self) -> None:
            raise AssertionError("the test split was read")

    return dataclasses.replace(subject(), data=dataclasses.replace(subject().data, test=Never()))


def test_the_parts_are_disjoint_and_of_the_validation_split() -> None:
    found = detector()
    validation = subject().data.validation
    assert validation is not None
    everything = collect(validation, None, seed=0)
    fitted, calibration = set(found.fitted_hashes), set(found.calibration_hashes)
    assert not fitted & calibration
    assert fitted | calibration == set(image_hashes(everything.images))
    about = found.fitted_on
    assert (about.clean, about.calibration) == (len(fitted), len(calibration))
    assert about.clean + about.calibration == validation.num_samples == 575


def test_the_test_split_is_not_read() -> None:
    found = fit_detectors(untouchable(), FitSettings())
    assert list(found.detectors) == ["one-class"]


def test_with_attacks_the_default_is_the_combined_detector() -> None:
    attacks = parse_attacks(["fgm"])
    assert FitSettings(attacks=attacks).detectors == ("combined",)
    assert FitSettings(detectors=("knn", "knn")).detectors == ("knn",)


def test_what_attacks_did_is_told() -> None:
    [attack] = detector().fitted_on.attacks
    assert (attack.name, attack.settings["epsilon"]) == ("fgm", 0.1)
    names = ("successful", "misclassified before", "unchanged", "not fooled")
    assert sum(attack.counts[name] for name in names) == 575
    right = 575 - attack.counts["misclassified before"]
    assert attack.success_rate == attack.counts["successful"] / right
    assert right / 10 < attack.counts["successful"] < right


def test_a_model_that_is_right_about_nothing_has_no_success_rate(tmp_path: Path) -> None:
    """All images may be counted nevertheless, and the folder is written."""
    stream = subject().data.validation
    assert stream is not None
    wrong = [(images, (labels + 5) % 10) for images, labels in stream]

    class Wrong:
        num_samples = stream.num_samples

        def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            # those that the model is right about have another class here
            for images, labels in wrong:
                predicted = torch.from_numpy(detector().score(images).predicted)
                yield images, torch.where(labels == predicted, (labels + 1) % 10, labels)

    other = dataclasses.replace(
        subject(), data=dataclasses.replace(subject().data, validation=Wrong())
    )
    attacks = parse_attacks(["fgm{epsilon=0.1}"])
    settings = FitSettings(("transport",), attacks, images=100, count_all=True)
    found = fit_detectors(other, settings)
    assert found.fitted_on.attacks[0].success_rate is None
    save_detector(found, tmp_path / "det")
    assert load_detector(tmp_path / "det", subject().program).fitted_on == found.fitted_on


def test_calibration_keeps_its_promise_on_new_images() -> None:
    """About 5 % of clean images are flagged: at most 12 % of 360, which chance does not reach."""
    images = collect(subject().data.test, None, seed=0).images
    for name in DETECTORS:
        assert detector().score(images, name, fpr=0.05).suspicious.mean() < 0.12


def test_a_seed_makes_the_same_detectors() -> None:
    settings = FitSettings(images=200, seed=3)
    one, other = (fit_detectors(subject(), settings) for _ in range(2))
    another = fit_detectors(subject(), dataclasses.replace(settings, seed=4))
    images = new_images().images
    assert np.array_equal(one.score(images).scores, other.score(images).scores)
    assert set(one.fitted_hashes) == set(other.fitted_hashes) != set(another.fitted_hashes)
    assert len(one.fitted_hashes) + len(one.calibration_hashes) == 200


def test_the_model_is_as_it_was() -> None:
    weights = {name: t.clone() for name, t in subject().program.state_dict().items()}
    fit_detectors(
        subject(), FitSettings(detectors=("energy",), attacks=parse_attacks(["fgm"]), images=100)
    )
    for name, tensor in subject().program.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"detectors": ("combined",)}, "combined is fitted on attacked images, too: name an atta"),
        ({"detectors": ("mahalonobis",)}, "did you mean mahalanobis"),
        ({"held_out": 1.0}, "held_out is a share between 0 and 1"),
        ({"held_out": float("nan")}, "held_out is a share between 0 and 1"),
    ],
)
def test_bad_settings(settings: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        FitSettings(**settings)  # type: ignore[arg-type]


def test_an_attack_that_fools_nothing_is_no_attack() -> None:
    settings = FitSettings(attacks=parse_attacks(["fgm{epsilon=1e-7}"]), images=60)
    with pytest.raises(UsageError, match="fgm fools the classifier with none of 60 images"):
        fit_detectors(subject(), settings)


def test_no_validation_split() -> None:
    without = dataclasses.replace(
        subject(), data=dataclasses.replace(subject().data, validation=None)
    )
    with pytest.raises(UsageError, match="no validation split"):
        fit_detectors(without, FitSettings())


def test_other_classes_than_the_model_has() -> None:
    other = dataclasses.replace(
        subject(), data=dataclasses.replace(subject().data, class_names=("a", "b"))
    )
    with pytest.raises(UsageError, match="the model returns 10 logits, and the data has 2 classes"):
        fit_detectors(other, FitSettings(images=50))


def test_of_several_detectors_the_one_that_cannot_be_fitted_is_named() -> None:
    settings = FitSettings(detectors=("one-class", "relative-mahalanobis"), images=40)
    with pytest.raises(
        UsageError, match=r"^relative-mahalanobis: the covariance .* images; give \d+ at least"
    ):
        fit_detectors(subject(), settings)


@cache
def fitted_on_other_data() -> ImageDetector:
    return fit_detectors(
        untouchable(), FitSettings(("transport", "knn"), others=("mnist5k",), images=200)
    )


def test_other_data_is_fitted_on_like_attacked_images(tmp_path: Path) -> None:
    found = fitted_on_other_data()
    [other] = found.fitted_on.others
    assert (other.name, other.data.name, other.images) == ("mnist5k", "mnist5k", 200)
    assert (found.fitted_on.clean, found.fitted_on.calibration) == (160, 40)
    known = load_known(("mnist5k",), subject().source, subject().preprocessing, 200, 0)
    images = known["mnist5k"].images.images
    assert found.other_hashes == image_hashes(images)
    more = images_of(DataSource("mnist5k"), subject().preprocessing, 400, 5).images
    new = [row for row, name in enumerate(image_hashes(more)) if name not in found.other_hashes]
    suspicious = found.score(more[new], "transport").suspicious.mean()
    assert suspicious > 0.6
    save_detector(found, tmp_path / "det")
    again = load_detector(tmp_path / "det", subject().program)
    assert (again.fitted_on, again.other_hashes) == (found.fitted_on, found.other_hashes)


def test_what_was_fitted_on_is_not_tested_on() -> None:
    """By their hashes, whatever the set is called."""
    found = fitted_on_other_data()
    given = new_images()
    far = Labeled(torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)), given.labels)
    result = evaluate_detectors(found, given, EvaluationSettings(), {"noise": OtherData(far)})
    assert [row.fitted_on for row in result.rows] == ["mnist5k", ""]
    for name in ("mnist5k", "another"):
        mine = load_others(found, ["mnist5k"], 200, seed=3)["mnist5k"]
        with pytest.raises(UsageError, match=rf"of 200 images of {name}, .* fitted on"):
            evaluate_detectors(found, given, EvaluationSettings(), {name: mine})


def test_other_data_that_is_no_other() -> None:
    settings = FitSettings(others=("digits",), images=50)
    with pytest.raises(UsageError, match="digits is what the model was trained for"):
        fit_detectors(subject(), settings)
    with pytest.raises(UsageError, match="mnist5k is named twice"):
        fit_detectors(subject(), FitSettings(others=("mnist5k", "mnist5k"), images=50))
    assert FitSettings(others=("mnist5k",)).detectors == ("combined",)


def test_how_attacks_counted_is_told() -> None:
    attacks = parse_attacks(["fgm{epsilon=0.1}"])
    settings = FitSettings(("quantile",), attacks, images=100, count_all=True)
    about = fit_detectors(subject(), settings).fitted_on
    assert about.count_all
    assert type(about).of(about.to_json()) == about
    assert not detector().fitted_on.count_all


def test_a_description_that_knows_no_other_data_is_read() -> None:
    about = detector().fitted_on
    content = about.to_json()
    del content["others"], content["noisy"]
    assert type(about).of(content) == about
    with pytest.raises(UsageError, match="does not say what it was fitted on"):
        type(about).of({**content, "others": [{"name": "mnist5k"}]})
