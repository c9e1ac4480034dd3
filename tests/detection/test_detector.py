from pathlib import Path

import numpy as np
import pytest

from fxtransport.detection.detector import HELD_OUT, Classes, Detector, Scores
from fxtransport.detection.forest import LogitsForest, TransportForest
from fxtransport.detection.observations import Observations
from fxtransport.detection.one_class import OneClass
from fxtransport.detection.quantile import QuantileRule
from fxtransport.errors import SavedDetectorError, UsageError
from tests.detection.detectors import ALL, fitted, parts


class Norm(Detector):
    """The norm of the logits, and what it was given."""

    name = "norm"
    reads = ("logits",)

    def __init__(self, answer: float | None = None) -> None:
        self.answer = answer
        self.fitted: tuple[Observations, Observations | None, Classes | None] | None = None

    def _fit(
        self, clean: Observations, attacked: Observations | None, predicted: Classes | None
    ) -> None:
        self.fitted = clean, attacked, predicted

    def _score(self, observed: Observations, predicted: Classes | None) -> Scores:
        found = np.linalg.norm(observed["logits"], axis=1).astype(np.float64)
        return found if self.answer is None else np.full_like(found, self.answer)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, object]]:
        return {}, {}

    @classmethod
    def from_state(cls, arrays: dict[str, np.ndarray], settings: dict[str, object]) -> "Norm":
        assert not arrays
        assert not settings
        return cls()


def images(count: int, seed: int = 0, scale: float = 1.0) -> Observations:
    values = np.random.default_rng(seed).normal(size=(count, 3)) * scale
    names = tuple(f"{seed} {at}" for at in range(count))
    return Observations({"logits": values}, names)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_clean_digits_are_flagged_as_rarely_as_stated(kind: type[Detector]) -> None:
    """On 479 digits, with a calibration of 144: three deviations of both."""
    made, other = fitted(kind), parts()[1]
    for fpr in (0.05, 0.1):
        flagged = made.predict(other.clean, fpr=fpr).mean()
        assert flagged <= fpr + 3 * np.sqrt(fpr * (1 - fpr) * (1 / 144 + 1 / len(other.clean)))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_decisions_are_those_of_p_values(kind: type[Detector]) -> None:
    made, other = fitted(kind), parts()[1]
    for some in (other.clean, other.attacked):
        flags = made.predict(some, fpr=0.1)
        assert (flags == (made.p_value(some) <= 0.1)).all()
        assert (flags == (made.score(some) > made.threshold(fpr=0.1))).all()
        assert flags.dtype == bool


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_a_detection_rate_is_reached_on_other_attacked_digits(kind: type[Detector]) -> None:
    made, other = fitted(kind), parts()[1]
    found = made.predict(other.attacked, tpr=0.9).mean()
    assert found >= 0.9 - 3 * np.sqrt(0.09 * (1 / 38 + 1 / len(other.attacked)))


def test_detectors_are_fitted_on_what_is_not_held_out() -> None:
    clean, attacked = images(100), images(50, seed=1)
    made = Norm().fit(clean, attacked, np.arange(150))
    assert made.fitted is not None
    own, others, classes = made.fitted
    assert others is not None
    assert classes is not None
    assert made.calibration is not None
    held = round(100 * HELD_OUT)
    assert (len(own), len(made.calibration.clean)) == (100 - held, held)
    assert (len(others), len(made.calibration.attacked)) == (40, 10)
    names = [f"0 {number}" for number in classes[: len(own)]]
    assert list(own.hashes) == names
    assert list(others.hashes) == [f"1 {number - 100}" for number in classes[len(own) :]]
    fitted_on = set(np.linalg.norm(own["logits"], axis=1).tolist())
    assert not fitted_on & set(made.calibration.clean.tolist())


def test_noisy_copies_do_not_calibrate() -> None:
    """Copies are fitted on as clean; what is stated is of images as they come."""
    names = tuple(str(at) for at in range(40))
    values = np.ones((40, 1))
    clean = Observations({"logits": values}, names)
    noisy = Observations({"logits": values * 9}, tuple(f"noisy {n}" for n in names), names)
    made = Norm().fit(Observations.concatenated([clean, noisy]))
    assert made.calibration is not None
    assert made.calibration.clean.tolist() == [1] * 8
    assert made.fitted is not None
    assert len(made.fitted[0]) == 64


def test_calibration_with_other_images() -> None:
    made = Norm().fit(images(100), held_out=0)
    with pytest.raises(UsageError, match="norm was not calibrated; fit it with held_out above 0"):
        made.p_value(images(3))
    made.calibrate(images(19, seed=2), images(19, seed=3, scale=100))
    assert made.predict(images(300, seed=4), fpr=0.05).mean() < 0.2
    assert made.predict(images(300, seed=4, scale=100), tpr=0.95).mean() > 0.8


def test_the_default_rate_is_five_percent() -> None:
    made, some = Norm().fit(images(400)), images(50, seed=1, scale=2)
    assert (made.predict(some) == made.predict(some, fpr=0.05)).all()


def test_rates_that_the_images_do_not_support() -> None:
    made = Norm().fit(images(90))
    with pytest.raises(UsageError, match=r"fpr=0.05 needs 19 clean images .* there are 18"):
        made.predict(images(3))
    with pytest.raises(UsageError, match=r"tpr=0.95 needs 19 attacked images .* there are 0"):
        made.threshold(tpr=0.95)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_any_numbers_are_scored_or_refused(kind: type[Detector]) -> None:
    """Numbers of all sizes, of any width: finite scores, or an error of ours."""
    made, other = fitted(kind), parts()[1]
    generator = np.random.default_rng(0)
    odd = [0.0, -0.0, 1e-45, -1e-45, 1, -1, 1e30, 3e38, -3e38, np.nan, np.inf]
    scored = 0
    for number in range(200):
        values = {name: array[:4].copy() for name, array in other.clean.values.items()}
        name = generator.choice(sorted(values))
        width = values[name].shape[1]
        if number % 4 == 0:
            values[name] = np.resize(values[name], (4, generator.integers(0, 2 * width + 2)))
        else:
            at = generator.integers(width)
            values[name][generator.integers(4), at] = generator.choice(odd)
        try:
            found = made.score(Observations(values))
        except UsageError:
            continue
        assert np.isfinite(found).all()
        scored += 1
    assert 50 < scored < 200


@pytest.mark.parametrize("answer", [np.nan, np.inf])
def test_scores_are_numbers(answer: float) -> None:
    with pytest.raises(UsageError, match="norm has no finite score for image 0"):
        Norm(answer).score(images(2))


def test_no_images_have_no_scores() -> None:
    assert Norm().score(images(0)).shape == (0,)
    assert fitted(TransportForest).score(parts()[1].clean.take([])).shape == (0,)
    assert fitted(OneClass).score(parts()[1].clean.take([])).shape == (0,)


def test_a_bare_array_stands_for_the_one_that_is_read() -> None:
    made, other = fitted(LogitsForest), parts()[1]
    bare = made.score(other.clean["logits"], other.clean.predicted)
    assert (bare == made.score(other.clean)).all()


@pytest.mark.parametrize("classes", [[1.0, 2.0], [1], [-1, 2], ["a", "b"], [[1, 2]]], ids=str)
def test_predicted_classes_are_checked(classes: list[object]) -> None:
    with pytest.raises(UsageError, match="predicted classes are whole numbers from 0"):
        Norm().score(images(2), np.asarray(classes))
    with pytest.raises(UsageError, match="predicted classes"):
        Norm().fit(images(2), None, np.asarray(classes))


def test_one_threshold_at_a_time() -> None:
    made = Norm().fit(images(100))
    with pytest.raises(UsageError, match="give one of fpr and tpr"):
        made.threshold()
    with pytest.raises(UsageError, match="give one of fpr and tpr"):
        made.threshold(fpr=0.1, tpr=0.9)
    with pytest.raises(UsageError, match="give one of threshold, fpr and tpr"):
        made.predict(images(2), threshold=0, fpr=0.1)


def test_a_threshold_of_0_counts() -> None:
    made = Norm().fit(images(100))
    assert made.predict(images(5), threshold=0).all()


def test_a_folder_holds_one_kind_of_detector(tmp_path: Path) -> None:
    fitted(QuantileRule).save(tmp_path)
    with pytest.raises(SavedDetectorError, match="holds the detector 'quantile', not one-class"):
        OneClass.load(tmp_path)


def test_a_detector_that_was_not_fitted_is_not_saved(tmp_path: Path) -> None:
    for kind in ALL:
        with pytest.raises(UsageError, match=f"{kind.name} was not fitted"):
            kind().save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_detector_is_saved_with_its_calibration_or_without(tmp_path: Path) -> None:
    made = OneClass().fit(parts()[0].clean, held_out=0)
    made.save(tmp_path)
    again = OneClass.load(tmp_path)
    assert again.calibration is None
    again.calibrate(parts()[1].clean).save(tmp_path)
    assert OneClass.load(tmp_path).calibration is not None
