"""Thresholds are the best on held-out images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxtransport.detection.calibration import Calibration
from fxtransport.detection.thresholds import choose_threshold
from fxtransport.errors import UsageError

SCORES = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12)


def accuracy(threshold: float, clean: list[float], attacked: list[float]) -> float:
    detected = np.mean(np.array(attacked) > threshold)
    return float((detected + np.mean(np.array(clean) <= threshold)) / 2)


@given(SCORES, SCORES)
def test_no_other_threshold_is_more_accurate(clean: list[float], attacked: list[float]) -> None:
    found = choose_threshold(Calibration.of(np.array(clean), np.array(attacked)))
    best = accuracy(found, clean, attacked)
    for other in [-np.inf, *np.arange(-5, 5, 0.5)]:
        assert accuracy(other, clean, attacked) <= best + 1e-12


def test_it_is_in_the_middle_of_the_gap() -> None:
    calibration = Calibration.of(np.array([0.0, 1.0]), np.array([3.0, 8.0]))
    assert choose_threshold(calibration) == 2


def test_without_attacked_images_it_is_of_a_rate() -> None:
    calibration = Calibration.of(np.arange(99.0))
    assert choose_threshold(calibration, 0.05) == calibration.threshold_of_fpr(0.05)
    with pytest.raises(UsageError, match=r"fpr=0\.05 needs 19 clean images"):
        choose_threshold(Calibration.of(np.arange(9.0)))
