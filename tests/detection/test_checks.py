from typing import Any

import numpy as np
import pytest

from fxtransport.detection.checks import State
from fxtransport.errors import UsageError


def state(**settings: Any) -> State:
    return State({"rows": np.zeros((2, 3), np.float32)}, settings)


def test_what_is_taken_is_gone() -> None:
    made = State({"a.rows": np.zeros(2)}, {"a.count": 3, "b": "x", "c": [1, 2], "d": {"e": 0.5}})
    inner = made.part("a.")
    assert inner.array("rows", np.float64, 2).tolist() == [0, 0]
    assert inner.integer("count", 0, 3) == 3
    inner.finish()
    assert made.choice("b", ["x", "y"]) == "x"
    assert made.integers("c", 0, 9) == [1, 2]
    assert made.numbers("d", 0, 1) == {"e": 0.5}
    made.finish()
    with pytest.raises(UsageError, match="the setting 'b' is missing"):
        made.choice("b", ["x"])


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [(np.float64, (2, 3)), (np.float32, (2,)), (np.float32, (3, None)), (np.int32, (None, None))],
)
def test_arrays_of_another_kind(dtype: type, shape: tuple[int | None, ...]) -> None:
    with pytest.raises(UsageError, match="the array 'rows' is float32 of shape"):
        state().array("rows", dtype, *shape)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_arrays_that_hold_no_numbers(value: float) -> None:
    with pytest.raises(UsageError, match="holds NaN"):
        State({"rows": np.array([value])}, {}).array("rows", np.float64, None)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, [1], -1, 10, 10**400])
def test_what_is_no_integer_from_0_to_9(value: Any) -> None:
    with pytest.raises(UsageError, match="not an integer from 0 to 9"):
        state(n=value).integer("n", 0, 9)


@pytest.mark.parametrize("value", [True, "1", None, [1], float("nan"), float("inf"), 2, 10**400])
def test_what_is_no_number_from_0_to_1(value: Any) -> None:
    with pytest.raises(UsageError, match="not a number"):
        state(n=value).number("n", 0, 1)


@pytest.mark.parametrize("value", [0, None, [], {}, "z", ["x"]])
def test_what_is_no_choice(value: Any) -> None:
    with pytest.raises(UsageError, match="not one of x, y"):
        state(n=value).choice("n", ["x", "y"])


@pytest.mark.parametrize("value", [0, None, {}, "12", [2, 1], [1, 1], [True], [1.0], [10], [[1]]])
def test_what_are_no_ascending_integers(value: Any) -> None:
    with pytest.raises(UsageError, match="not an ascending list of integers from 0 to 9"):
        state(n=value).integers("n", 0, 9)


@pytest.mark.parametrize("value", [0, [], {"a": "x"}, {"a": 2}, {"a": None}])
def test_what_are_no_numbers_by_name(value: Any) -> None:
    with pytest.raises(UsageError, match=r"not .*number"):
        state(n=value).numbers("n", 0, 1)


def test_what_is_left_is_refused() -> None:
    with pytest.raises(UsageError, match="'rows', 'more' is not of such a detector"):
        state(more=1).finish()
