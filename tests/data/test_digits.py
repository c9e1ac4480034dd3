"""Digits are those of scikit-learn."""

import numpy as np
from sklearn import datasets

from fxtransport.data.digits import read_digits


def test_digits_are_those_of_scikit_learn() -> None:
    loaded, pixels = datasets.load_digits(), read_digits()
    assert np.array_equal(pixels.levels[..., 0], loaded.images)
    assert np.array_equal(pixels.classes, loaded.target)
    assert pixels.size == (1, 8, 8)
    assert pixels.levels.max() == pixels.highest == 16
