import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from fxtransport.detection import trees
from fxtransport.detection.trees import MOST_LEVELS, Forest
from fxtransport.errors import UsageError
from tests.detection.forests import FEATURES, fitted, rows

CHANGES = 400


def by_hand() -> Forest:
    """Two trees: a split of column 1 at 0.5, below it one of column 0 at -1; and a leaf."""
    return Forest(
        columns=2,
        roots=np.array([0, 5], np.int32),
        feature=np.array([1, 0, -1, -1, -1, -1], np.int32),
        threshold=np.array([0.5, -1, 0, 0, 0, 0], np.float32),
        left=np.array([1, 2, -1, -1, -1, -1], np.int32),
        right=np.array([4, 3, -1, -1, -1, -1], np.int32),
        value=np.array([0.5, 0.25, 0.125, 0.75, 1, 0.5], np.float32),
    )


def test_a_forest_by_hand() -> None:
    """A row that is equal to a threshold goes left."""
    many = np.array([[-1, 0.5], [-0.5, 0.5], [9, 0.51]], np.float32)
    expected = (np.array([0.125, 0.75, 1]) + 0.5) / 2
    for repeated in (1, 20):
        assert by_hand().predict(np.tile(many, (repeated, 1))) == pytest.approx(
            np.tile(expected, repeated)
        )
    assert by_hand().predict(many[1:2]) == pytest.approx(expected[1:2])
    assert by_hand().levels == 2


@pytest.mark.parametrize("options", [{"max_leaf_nodes": 64}, {}, {"min_samples_leaf": 9}])
@pytest.mark.parametrize("count", [1, 2, 16, 17, 1000])
def test_scores_are_those_of_scikit_learn(options: dict[str, Any], count: int) -> None:
    made = fitted(**options)
    some = rows(1000)[0][:count]
    assert Forest.of(made).predict(some) == pytest.approx(made.predict_proba(some)[:, 1], abs=1e-6)


@pytest.mark.parametrize("options", [{"max_leaf_nodes": 64, "n_estimators": 300}, {"max_depth": 1}])
def test_forests_of_other_sizes(options: dict[str, Any]) -> None:
    made = fitted(**options)
    some = rows(300)[0]
    assert Forest.of(made).predict(some) == pytest.approx(made.predict_proba(some)[:, 1], abs=1e-6)


def test_many_columns_are_scored_by_descending() -> None:
    data, labels = rows(600, features=90)
    made = RandomForestClassifier(50, max_leaf_nodes=64, random_state=0).fit(data, labels)
    forest = Forest.of(made)
    assert forest._bit_vectors is None
    assert forest.predict(data) == pytest.approx(made.predict_proba(data)[:, 1], abs=1e-6)


def test_thresholds_decide_the_floats_next_to_them() -> None:
    """Features one float32 below, at, and above each threshold, which is a float64 between."""
    data, labels = rows(400)
    made = RandomForestClassifier(3, random_state=0).fit(data, labels)
    forest = Forest.of(made)
    near = []
    for node in np.flatnonzero(forest.left >= 0):
        for to in (-np.inf, None, np.inf):
            row = data[node % 400].copy()
            row[forest.feature[node]] = forest.threshold[node]
            if to is not None:
                row = np.nextafter(row, np.float32(to))
            near.append(row)
    some = np.stack(near)
    assert forest.predict(some) == pytest.approx(made.predict_proba(some)[:, 1], abs=1e-6)


def test_a_forest_knows_the_classes_0_and_1() -> None:
    data, _ = rows(30)
    with pytest.raises(UsageError, match="not 0 and 1"):
        Forest.of(RandomForestClassifier(2).fit(data, np.arange(30) % 3))


@pytest.mark.parametrize(
    ("some", "says"),
    [
        (np.zeros((2, FEATURES - 1)), f"rows of {FEATURES} features; got an array of shape"),
        (np.zeros(FEATURES), "of shape"),
        (np.full((2, FEATURES), np.nan), "NaN or infinities"),
        (np.full((2, FEATURES), np.inf), "NaN or infinities"),
    ],
)
def test_rows_that_are_refused(some: np.ndarray[Any, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Forest.of(fitted()).predict(some)


def changed(name: str, at: int, to: float) -> dict[str, Any]:
    array = getattr(by_hand(), name).copy()
    array[at] = to
    return {name: array}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed("left", 0, 10_000_000), "a child of node 0"),
        (changed("left", 0, 5), "a child of node 0"),
        (changed("left", 0, 0), "a child of node 0"),
        (changed("right", 1, 1), "a child of node 1"),
        (changed("right", 1, 2), "parents of node"),
        (changed("right", 0, -1), "node 0"),
        (changed("left", 0, -1), "node 0"),
        (changed("left", 2, -2), "node 2"),
        (changed("feature", 0, 2), "node 0"),
        (changed("feature", 0, -1), "node 0"),
        (changed("feature", 2, 0), "node 2"),
        (changed("threshold", 0, np.nan), "node 0"),
        (changed("threshold", 1, -np.inf), "node 1"),
        (changed("threshold", 3, 1), "node 3"),
        (changed("value", 2, 1.5), "probability of node 2"),
        (changed("value", 2, np.nan), "probability of node 2"),
        (changed("roots", 0, 1), "roots"),
        (changed("roots", 1, 6), "roots"),
        (changed("roots", 1, 0), "roots"),
        (changed("roots", 1, 4), "a child of node 0"),
        ({"roots": np.array([], np.int32)}, "roots"),
        ({"columns": 0}, "0 features"),
        ({"columns": 1}, "node 0"),
        ({"value": np.zeros(5, np.float32)}, "unequal lengths"),
        ({"value": np.zeros(6)}, "value of the forest is not a 1-D array of float32"),
        ({"left": np.zeros((6, 1), np.int32)}, "left of the forest is not a 1-D"),
    ],
)
def test_arrays_that_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        replace(by_hand(), **change)


def chain(depth: int) -> Forest:
    """One tree whose right children are its leaves."""
    size = 2 * depth + 1
    at = np.arange(size, dtype=np.int32)
    inner = at < depth
    return Forest(
        columns=1,
        roots=np.zeros(1, np.int32),
        feature=np.where(inner, 0, -1).astype(np.int32),
        threshold=np.zeros(size, np.float32),
        left=np.where(inner, at + 1, -1).astype(np.int32),
        right=np.where(inner, depth + 1 + at, -1).astype(np.int32),
        value=np.zeros(size, np.float32),
    )


def test_trees_are_only_so_deep() -> None:
    assert chain(MOST_LEVELS).levels == MOST_LEVELS
    with pytest.raises(UsageError, match=f"at most {MOST_LEVELS}"):
        chain(MOST_LEVELS + 1)


def test_any_change_of_any_array_is_refused_or_scores() -> None:
    """Numbers of all sizes anywhere: an error of ours, or probabilities."""
    generator = np.random.default_rng(0)
    forest = Forest.of(fitted(n_estimators=5))
    some, refused = rows(40)[0], 0
    for _ in range(CHANGES):
        name = generator.choice(list(forest.arrays))
        array = forest.arrays[name].copy()
        at = generator.integers(len(array), size=generator.integers(1, 4))
        limits = [-(2**31), -1, 0, 1, 7, len(forest.feature), 2**31 - 1]
        numbers = limits if array.dtype == np.int32 else [*limits, 0.5, np.nan, np.inf, 1e-45]
        array[at] = generator.choice(numbers, size=len(at))
        try:
            found = replace(forest, **{name: array}).predict(some)
        except UsageError:
            refused += 1
            continue
        assert ((found >= 0) & (found <= 1)).all()
    assert refused > CHANGES / 2


def test_speed() -> None:
    """Half of what is promised of an idle machine, since tests share theirs."""
    forest = Forest.of(fitted(max_leaf_nodes=64))
    many = np.tile(rows(1000)[0], (20, 1))
    forest.predict(many)
    batch = min(seconds(lambda: forest.predict(many)) for _ in range(5)) / len(many)
    single = min(seconds(lambda: forest.predict(many[:1])) for _ in range(100))
    assert batch < 1 / 50_000
    assert single < 1 / 1_250


def seconds(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_one_row_is_not_scored_by_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    forest = Forest.of(fitted(max_leaf_nodes=64))
    monkeypatch.setattr(trees, "BitVectors", None)
    assert len(forest.predict(rows(1)[0])) == 1
