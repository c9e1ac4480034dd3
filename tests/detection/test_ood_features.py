"""Relative Mahalanobis where a covariance is hard to invert, compared with float64 by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fxtransport.detection import Observations
from fxtransport.detection.ood_features import RelativeMahalanobis
from fxtransport.errors import UsageError

CLASSES = 3


def shown(count: int, seed: int, width: int = 6, scale: float = 1.0) -> NDArray[np.float64]:
    """Rows around the centers of three classes, of which the last columns hardly vary."""
    generator = np.random.default_rng(seed)
    classes = np.arange(count) % CLASSES
    rows = 5 * np.eye(CLASSES, width)[classes] + generator.normal(size=(count, width))
    rows[:, -2:] *= scale
    return rows


def observed(rows: NDArray[np.float64]) -> Observations:
    return Observations(
        {
            "penultimate": rows.astype(np.float32),
            "logits": rows[:, :CLASSES].astype(np.float32),
        }
    )


def by_hand(clean: Observations, new: Observations) -> NDArray[np.float64]:
    """The paper's distance, with sums of squares for covariances, by pseudo-inverses."""
    rows, tested = (one["penultimate"].astype(np.float64) for one in (clean, new))
    means = np.stack([rows[clean.predicted == k].mean(0) for k in range(CLASSES)])
    within, around = rows - means[clean.predicted], rows - rows.mean(0)

    def distance(center: NDArray[np.float64], inside: NDArray[np.float64]) -> NDArray[np.float64]:
        inverse = np.linalg.pinv(inside.T @ inside, rcond=1e-12, hermitian=True)
        return np.einsum("ni,ij,nj->n", tested - center, inverse, tested - center)

    nearest = np.min([distance(mean, within) for mean in means], axis=0)
    found: NDArray[np.float64] = nearest - distance(rows.mean(0), around)
    return found


def assert_by_hand(clean: NDArray[np.float64], new: NDArray[np.float64]) -> None:
    own, tested = observed(clean), observed(new)
    detector = RelativeMahalanobis().fit(own, held_out=0)
    expected = by_hand(own, tested)
    np.testing.assert_allclose(detector.score(tested), expected, rtol=1e-3, atol=1e-5)
    restored = RelativeMahalanobis.from_state(*detector.state())
    assert np.array_equal(restored.score(tested), detector.score(tested))


def test_columns_of_very_different_sizes_are_no_loss() -> None:
    """A covariance with a condition of 1e8, which float32 does not invert."""
    assert_by_hand(shown(300, 0, scale=1e-4), shown(40, 1, scale=1e-4))


def test_columns_that_follow_from_others_are_left_out() -> None:
    mix = np.random.default_rng(2).normal(size=(6, 9))
    assert_by_hand(shown(300, 0) @ mix, shown(40, 1) @ mix)
    padded = [np.pad(shown(count, count), ((0, 0), (0, 2))) for count in (300, 40)]
    assert_by_hand(*padded)


def test_more_columns_than_images_of_a_class_are_fine() -> None:
    assert_by_hand(shown(90, 0, width=40), shown(40, 1, width=40))


def test_too_few_images_are_told_with_how_many_are_needed() -> None:
    with pytest.raises(UsageError, match=r"20 columns within 3 classes .* 22 images; give 23 at"):
        RelativeMahalanobis().fit(observed(shown(22, 0, width=20)), held_out=0)
    RelativeMahalanobis().fit(observed(shown(23, 0, width=20)), held_out=0)
    # a rank that is lower for lack of images
    with pytest.raises(UsageError, match=r"20 columns within 3 classes .* 12 images; give 23 at"):
        RelativeMahalanobis().fit(observed(shown(12, 0, width=20)), held_out=0)


def test_classes_without_variance_are_refused() -> None:
    points = np.repeat(5 * np.eye(CLASSES, 4), 40, axis=0)
    with pytest.raises(UsageError, match="images of one class do not differ, over 120 images"):
        RelativeMahalanobis().fit(observed(points), held_out=0)
    with pytest.raises(UsageError, match="none of 4 columns varies over 120 images"):
        RelativeMahalanobis().fit(observed(np.ones((120, 4))), held_out=0)
    detector = RelativeMahalanobis().fit(observed(shown(300, 0)))
    with pytest.raises(UsageError, match="penultimate has 7 columns; relative-mahalanobis reads 6"):
        detector.score(observed(shown(9, 1, width=7)))
