from pathlib import Path

import numpy as np
import pytest

from fxtransport.detection.one_class import FEWEST, OneClass
from fxtransport.errors import UsageError
from tests.detection.detectors import fitted, parts


def features(seed: int, count: int, correlation: float = 0.95) -> np.ndarray:
    """Two blocks whose log costs go together, and cosines of their own."""
    generator = np.random.default_rng(seed)
    common, own = generator.normal(size=(2, count, 2))
    logs = correlation * common[:, :1] + (1 - correlation**2) ** 0.5 * own
    cosines = np.clip(generator.normal(size=(count, 2)) / 10, -1, 1)
    return np.stack([np.exp(logs[:, 0]), cosines[:, 0], np.exp(logs[:, 1]), cosines[:, 1]], 1)


def test_distances_are_those_of_mahalanobis() -> None:
    """With many images the shrinkage is small: the distance of a normal variable is known."""
    made = OneClass().fit(features(0, 20_000), held_out=0)
    logs = np.array([[0.5, -0.5], [1.0, 1.0]])
    rows = np.stack([np.exp(logs[:, 0]), np.zeros(2), np.exp(logs[:, 1]), np.zeros(2)], 1)
    inverse = np.linalg.inv([[1, 0.95**2], [0.95**2, 1]])
    expected = np.sqrt(np.einsum("ni,ij,nj->n", logs, inverse, logs))
    assert made.score(rows) == pytest.approx(expected, rel=0.05)
    assert made.score(features(1, 5000)).mean() == pytest.approx(1.88, rel=0.03)


def test_what_does_not_go_together_is_found() -> None:
    """Each number is as in clean images: only the correlation of the blocks is lost."""
    made = OneClass().fit(features(0, 2000))
    broken = made.predict(features(1, 2000, correlation=0), fpr=0.05)
    assert broken.mean() > 0.4


def test_classes_have_their_own_centers() -> None:
    """An image that is normal of another class than the predicted one."""
    rows = features(0, 400)
    classes = np.arange(400) % 2
    rows[classes == 1, 0] *= 1000
    made = OneClass().fit(rows, predicted=classes)
    fresh = features(1, 200)
    assert made.predict(fresh, np.zeros(200, int)).mean() < 0.15
    assert made.predict(fresh, np.ones(200, int)).all()


def test_a_class_with_few_images_has_the_center_of_all() -> None:
    rows = features(0, 400)
    classes = np.where(np.arange(400) < FEWEST - 1, 5, 2)
    made = OneClass().fit(rows, predicted=classes, held_out=0)
    assert made.state()[1]["classes"] == [2]
    few = features(1, 30)
    unknown = [made.score(few, np.full(30, number)) for number in (5, 0, 99)]
    assert (unknown[0] == made.score(few)).all()
    assert (unknown[0] == unknown[1]).all()
    assert (unknown[0] == unknown[2]).all()


@pytest.mark.parametrize("fpr", [0.05, 0.1, 0.2])
def test_the_false_positive_rate_is_as_stated(fpr: float) -> None:
    """Mean over calibrations; features with tails far from normal."""
    rates = []
    for seed in range(60):
        made = OneClass().fit(features(seed, 200) ** 3)
        rates.append(made.predict(features(1000 + seed, 500) ** 3, fpr=fpr).mean())
    assert np.mean(rates) <= fpr + 3 * np.std(rates) / np.sqrt(60)


def test_attacked_digits_are_found_without_seeing_any() -> None:
    made, other = fitted(OneClass), parts()[1]
    clean, attacked = made.p_value(other.clean), made.p_value(other.attacked)
    assert (attacked <= 0.1).mean() > 4 * (clean <= 0.1).mean()


def test_a_feature_that_never_varies() -> None:
    """A constant cosine, or a block that moves nothing."""
    rows = features(0, 200)
    rows[:, 1] = 0.25
    rows[:, 2] = 0
    made = OneClass().fit(rows)
    assert np.isfinite(made.score(rows)).all()
    moved = rows.copy()
    moved[:, 1] = 0.5
    assert (made.score(moved) > made.score(rows)).all()


def test_a_saved_one_is_the_same(tmp_path: Path) -> None:
    made, other = fitted(OneClass), parts()[1]
    made.save(tmp_path)
    assert (OneClass.load(tmp_path).score(other.clean) == made.score(other.clean)).all()


def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match="directions is 1 or more"):
        OneClass(0)
    with pytest.raises(UsageError, match=r"needs 20 clean images .* there are 16"):
        OneClass().fit(features(0, 20))
    with pytest.raises(UsageError, match="one-class was not fitted"):
        OneClass().score(features(0, 1))
    with pytest.raises(UsageError, match="was fitted on 4 transport features; these are 2"):
        OneClass().fit(features(0, 100)).score(features(0, 1)[:, :2])
