"""What is whitened has the unit covariance, and no distance changes."""

import numpy as np
import pytest

from fxtransport.detection.checks import State
from fxtransport.detection.whitening import Whitening
from fxtransport.errors import UsageError


def test_the_covariance_is_the_unit_matrix() -> None:
    generator = np.random.default_rng(0)
    rows = 100 + generator.normal(size=(500, 5)) @ generator.normal(size=(5, 5))
    rows[:, 0] *= 1e3
    rows[:, 1] *= 1e-3
    whitened = Whitening.of(rows.astype(np.float32))(rows.astype(np.float32))
    assert whitened.dtype == np.float32
    np.testing.assert_allclose(np.cov(whitened.T, bias=True), np.eye(5), atol=0.02)


def test_the_rank_is_that_of_the_rows() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    doubled = np.concatenate([rows, rows[:, :2], np.full((50, 1), 0.3, np.float32)], 1)
    whitening = Whitening.of(doubled)
    assert whitening.matrix.shape == (7, 4)
    assert not whitening.matrix[6].any()
    assert whitening.columns(50) == 4
    few = Whitening.of(rows[:3])
    assert few.matrix.shape == (4, 2)
    assert few.columns(3) == 4


def test_its_arrays_are_checked() -> None:
    whitening = Whitening.of(np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32))
    again = Whitening.from_state(State(whitening.state(), {}), 4)
    assert np.array_equal(again.matrix, whitening.matrix)
    with pytest.raises(UsageError, match="'whitening' is float64 of shape"):
        Whitening.from_state(State(whitening.state(), {}), 3)
