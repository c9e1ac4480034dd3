"""Means, intervals, and what is said of them."""

import math

import pytest
from intervals import Mean, mean_of, paired


def test_the_interval_is_students() -> None:
    found = mean_of([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5
    deviation = math.sqrt(5 / 3)
    assert found.half == pytest.approx(3.182446 * deviation / 2, rel=1e-6)
    assert mean_of([1.0]).half == math.inf


def test_pairs_take_out_what_they_share() -> None:
    assert paired([11.0, 21.0, 31.0], [10.0, 20.0, 30.0]) == Mean(1.0, 0.0)


def test_intervals_that_overlap_agree() -> None:
    assert Mean(80, 2).against(Mean(83, 1)) == "agrees"
    assert Mean(80, 2).against(Mean(83.5, 1)) == "differs by -3.5"
    assert [Mean(m, 1).sign for m in (2, -2, 0.5)] == [1, -1, 0]
