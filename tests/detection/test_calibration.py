from typing import Any

import numpy as np
import pytest

from fxtransport.detection.calibration import Calibration
from fxtransport.errors import UsageError


def test_p_values_by_hand() -> None:
    """Of four scores 1, 2, 2, 3: those at least s, plus one, of five."""
    found = Calibration.of(np.array([2.0, 3, 1, 2])).p_value(np.array([0.0, 1, 1.5, 2, 3, 4]))
    assert found == pytest.approx([1, 1, 4 / 5, 4 / 5, 2 / 5, 1 / 5])


@pytest.mark.parametrize("count", [1, 7, 19, 20, 99, 100, 1000])
def test_a_score_exceeds_the_threshold_where_its_p_value_is_small(count: int) -> None:
    generator = np.random.default_rng(count)
    calibration = Calibration.of(generator.integers(0, 50, size=count))
    scores = np.arange(-1.0, 51, 0.5)
    for k in range(1, count + 1, max(1, count // 7)):
        fpr = k / (count + 1)
        above = scores > calibration.threshold_of_fpr(fpr)
        assert (above == (calibration.p_value(scores) <= fpr + 1e-12)).all()


def test_the_rate_of_false_positives_is_as_stated() -> None:
    """The mean over calibration sets of any size is at most the rate, and not far below."""
    generator = np.random.default_rng(0)
    for count, fpr in [(19, 0.05), (50, 0.1), (99, 0.05), (200, 0.01)]:
        rates = []
        for _ in range(400):
            calibration = Calibration.of(generator.normal(size=count) ** 3)
            fresh = generator.normal(size=500) ** 3
            rates.append((fresh > calibration.threshold_of_fpr(fpr)).mean())
        error = np.std(rates) / 20
        assert np.mean(rates) <= fpr + 3 * error
        assert np.mean(rates) >= fpr - 1 / (count + 1) - 3 * error


def test_the_rate_of_detections_is_as_stated() -> None:
    generator = np.random.default_rng(0)
    for count, tpr in [(19, 0.95), (60, 0.9), (99, 0.99)]:
        rates = []
        for _ in range(400):
            calibration = Calibration.of(np.zeros(1), generator.normal(size=count))
            rates.append((generator.normal(size=500) > calibration.threshold_of_tpr(tpr)).mean())
        assert np.mean(rates) >= tpr - 3 * np.std(rates) / 20


def test_ties_count_as_detected_at_a_detection_rate() -> None:
    calibration = Calibration.of(np.zeros(1), np.ones(40))
    assert calibration.threshold_of_tpr(0.9) < 1


@pytest.mark.parametrize(
    ("fpr", "needed"), [(0.05, 19), (0.01, 99), (0.1, 9), (0.3, 3), (0.001, 999)]
)
def test_how_many_images_a_rate_needs(fpr: float, needed: int) -> None:
    scores = np.arange(float(needed))
    Calibration.of(scores, scores).threshold_of_fpr(fpr)
    Calibration.of(scores, scores).threshold_of_tpr(1 - fpr)
    fewer = Calibration.of(np.append(scores[1:-1], 0), scores[1:])
    with pytest.raises(UsageError, match=f"needs {needed} clean images .* there are {needed - 1}"):
        fewer.threshold_of_fpr(fpr)
    with pytest.raises(UsageError, match=f"needs {needed} attacked images"):
        fewer.threshold_of_tpr(1 - fpr)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, float("nan")])
def test_rates_are_between_0_and_1(rate: float) -> None:
    calibration = Calibration.of(np.arange(9.0), np.arange(9.0))
    with pytest.raises(UsageError, match="fpr is a rate between 0 and 1"):
        calibration.threshold_of_fpr(rate)
    with pytest.raises(UsageError, match="tpr is a rate between 0 and 1"):
        calibration.threshold_of_tpr(rate)


def test_a_detection_rate_needs_attacked_images() -> None:
    with pytest.raises(UsageError, match=r"needs 19 attacked images .* there are 0"):
        Calibration.of(np.arange(99.0)).threshold_of_tpr(0.95)


@pytest.mark.parametrize(
    ("clean", "says"),
    [
        (np.empty(0), "no clean images are left"),
        (np.array([1.0, np.nan]), "clean calibration scores hold NaN"),
        (np.array([2.0, 1.0]), "not in ascending order"),
        (np.zeros((2, 1)), "not a 1-D array of float64"),
        (np.zeros(2, np.float32), "not a 1-D array of float64"),
    ],
)
def test_scores_that_are_refused(clean: np.ndarray[Any, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Calibration(clean)
    if len(clean):
        with pytest.raises(UsageError, match=says.replace("clean", "attacked")):
            Calibration(np.zeros(1), clean)
