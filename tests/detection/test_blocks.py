import numpy as np
import pytest

from fxtransport.detection.blocks import costs, logarithmic
from fxtransport.errors import UsageError

ROW = np.array([[1.0, 0.1, 4.0, 0.2, 0.7, 0.8]], np.float32)


def test_costs_of_one_direction_and_of_two() -> None:
    assert costs(ROW, 1) == pytest.approx(np.array([[1, 4, 0.7]]))
    assert costs(ROW, 2) == pytest.approx(np.array([[1, 4]]))


def test_logarithms_of_costs_alone() -> None:
    assert logarithmic(ROW, 2) == pytest.approx(np.array([[0, 0.1, np.log(4), 0.2, 0.7, 0.8]]))
    assert np.isfinite(logarithmic(np.zeros((1, 2), np.float32), 1)).all()


@pytest.mark.parametrize(("columns", "directions"), [(5, 1), (6, 3), (0, 1), (6, 0)])
def test_columns_that_are_no_blocks(columns: int, directions: int) -> None:
    with pytest.raises(UsageError, match="not those of whole blocks"):
        costs(np.zeros((2, columns), np.float32), directions)
