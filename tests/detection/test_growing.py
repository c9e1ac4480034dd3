import numpy as np
import pytest

from fxtransport.detection.conditional import ConditionalForest
from fxtransport.detection.growing import (
    FEWEST_IN_CLASS,
    MOST_NODES,
    TREES,
    TYPICAL,
    Labeled,
    Size,
    best,
    distinct_sizes,
    grow,
    grow_all,
    trial,
)
from fxtransport.errors import UsageError
from tests.detection.forests import rows


def labeled(count: int, classes: np.ndarray | None = None) -> Labeled:
    data, labels = rows(count)
    return Labeled(data, labels.astype(bool), classes)


def nodes(forests: ConditionalForest) -> int:
    return sum(len(each.feature) for each in (forests.general, *forests.by_class.values()))


@pytest.mark.parametrize("size", [Size(64, 1), Size(64, 16), Size(256, 1)])
def test_trees_grow_to_their_size(size: Size) -> None:
    forest = grow(labeled(2000), size, 0, trees=3)
    ends = np.append(forest.roots[1:], len(forest.feature))
    assert (ends - forest.roots).max() <= size.nodes(2000)
    assert size.nodes(2000) == 2 * min(size.most_leaves, 2000 // size.fewest_images) - 1


def test_classes_with_few_images_have_no_forest() -> None:
    """Class 0 has images enough of both kinds, class 1 of one, class 2 of none."""
    data = labeled(200)
    classes = np.where(data.attacked, 0, 1)
    clean = np.flatnonzero(~data.attacked)
    classes[clean[:FEWEST_IN_CLASS]] = 0
    classes[0] = 2
    made = grow_all(Labeled(data.rows, data.attacked, classes), TYPICAL, "either", 0)
    assert set(made.by_class) == ({0} if classes[clean[0]] != 2 else set())
    assert made.general.trees == TREES


def test_many_classes_share_the_nodes() -> None:
    generator = np.random.default_rng(0)
    data = labeled(6000, generator.integers(0, 60, size=6000))
    made = grow_all(data, Size(64, 1), "either", 0)
    assert len(made.by_class) == 60
    assert nodes(made) <= MOST_NODES
    trees = [forest.trees for forest in made.by_class.values()]
    assert min(trees) >= 10
    assert sum(trees) < 30 * TREES


def test_kinds_count_equally() -> None:
    """Where one kind is rare, a row between the kinds is not called the other for that."""
    data = np.zeros((1000, 1), np.float32)
    made = grow(Labeled(data, np.arange(1000) < 50, None), TYPICAL, 0)
    assert made.predict(data[:1])[0] == pytest.approx(0.5, abs=0.05)


def test_trials_score_other_rows() -> None:
    """Labels at random cannot be learned, though a forest knows its own rows by heart."""
    generator = np.random.default_rng(0)
    data = Labeled(labeled(400).rows, generator.random(400) < 0.5, None)
    halves = [(data.take(np.arange(200)), data.take(np.arange(200, 400)))]
    assert trial(halves, Size(64, 1), 0) == pytest.approx(0.5, abs=0.12)
    real = labeled(400)
    assert trial([(real.take(np.arange(200)), real.take(np.arange(200, 400)))], TYPICAL, 0) > 0.75


def test_sizes_that_differ() -> None:
    assert {str(size) for size in distinct_sizes(300)} == {
        "64 leaves of 1 images", "64 leaves of 4 images", "64 leaves of 16 images",
        "256 leaves of 1 images", "256 leaves of 4 images",
    }  # fmt: skip


def test_the_best_is_the_first_of_equals() -> None:
    assert best({"a": 0.5, "b": 0.7, "c": 0.7}) == "b"


def test_what_is_refused() -> None:
    one = Labeled(np.zeros((5, 1), np.float32), np.arange(5) == 0, None)
    with pytest.raises(UsageError, match=r"2 attacked images at least.* there are 1 of one kind"):
        grow(one, TYPICAL, 0)
    with pytest.raises(UsageError, match="need the predicted classes"):
        grow_all(labeled(100), TYPICAL, "class", 0)
    with pytest.raises(UsageError, match="too few images are attacked"):
        trial([(labeled(100), one.take(np.arange(1, 5)))], TYPICAL, 0)
