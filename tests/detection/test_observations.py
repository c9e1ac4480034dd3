from typing import Any

import numpy as np
import pytest

from fxtransport.detection.observations import Observations
from fxtransport.errors import UsageError


def some(rows: int = 3, **more: Any) -> Observations:
    values = np.arange(2.0 * rows).reshape(rows, 2)
    return Observations({"logits": values, "transport": values + 1}, **more)


def test_arrays_become_single_precision() -> None:
    assert some()["logits"].dtype == np.float32
    assert len(some()) == 3
    assert some().predicted.tolist() == [1, 1, 1]


@pytest.mark.parametrize("rows", [[2, 0], np.array([False, True, True]), [], range(1)])
def test_rows_are_taken_with_their_hashes(rows: Any) -> None:
    made = some(hashes=("a", "b", "c"), sources=("a", "a", "c"))
    taken = made.take(rows)
    chosen = [int(at) for at in np.arange(3)[np.asarray(rows, dtype=None if len(rows) else int)]]
    assert taken["transport"].tolist() == [made["transport"][at].tolist() for at in chosen]
    assert taken.hashes == tuple("abc"[at] for at in chosen)
    assert taken.sources == tuple("aac"[at] for at in chosen)


def test_an_image_is_its_own_source_unless_another_is_named() -> None:
    assert some(hashes=("a", "b", "c")).sources == ("a", "b", "c")
    assert some(hashes=("a", "b", "c")).originals.all()
    made = some(hashes=("a", "b", "c"), sources=("a", "a", "c"))
    assert made.originals.tolist() == [True, False, True]
    assert some().originals.all()


def test_sets_are_joined() -> None:
    joined = Observations.concatenated([some(hashes=("a", "b", "c")), some(1, hashes=("d",))])
    assert len(joined) == 4
    assert joined.hashes == ("a", "b", "c", "d")
    assert Observations.concatenated([some(hashes=("a", "b", "c")), some(1)]).hashes == ()
    with pytest.raises(UsageError, match=r"some observations hold \['nss'\]"):
        Observations.concatenated([some(), Observations({"nss": np.zeros((1, 1))})])


@pytest.mark.parametrize(
    ("values", "more", "says"),
    [
        ({}, {}, "hold no array"),
        ({"a": np.zeros(3)}, {}, "a is of shape"),
        ({"a": np.zeros((3, 1)), "b": np.zeros((2, 1))}, {}, "b is of shape"),
        ({"a": np.zeros((3, 0))}, {}, "a is of shape"),
        ({"a": np.array([[0], [np.nan]])}, {}, "a of image 1 holds NaN or infinities"),
        ({"a": np.array([[-np.inf]])}, {}, "a of image 0 holds NaN or infinities"),
        ({"a": np.array([[1e39]])}, {}, "a of image 0 holds NaN or infinities"),
        ({"a": np.zeros((3, 1), int)}, {}, "a holds int64"),
        ({"a": np.array([["x"]])}, {}, "a holds <U1"),
        ({"a": np.zeros((3, 1))}, {"hashes": ("x",)}, "1 hashes for 3 images"),
        ({"a": np.zeros((3, 1))}, {"sources": ("x",)}, "1 sources for 3 images"),
    ],
)
def test_what_is_refused(values: dict[str, Any], more: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Observations(values, **more)


def test_an_array_that_was_not_taken() -> None:
    with pytest.raises(UsageError, match="hold no 'nss'; they hold logits, transport"):
        some()["nss"]
