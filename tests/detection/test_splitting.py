"""Splits are seeded and disjoint, and what overlaps is refused."""

import numpy as np
import pytest

from fxtransport.detection.observations import Observations
from fxtransport.detection.splitting import refuse_overlap, split_images
from fxtransport.errors import UsageError
from tests.detection.benching import clean_images, observations


def test_the_seed_decides_and_nothing_is_lost() -> None:
    clean = clean_images(100)
    parts = split_images(clean, 0.1, seed=0)
    assert (len(parts.fit), len(parts.test)) == (90, 10)
    assert sorted([*parts.fit, *parts.test]) == list(range(100))
    again, other = split_images(clean, 0.1, seed=0), split_images(clean, 0.1, seed=1)
    assert np.array_equal(again.test, parts.test)
    assert not np.array_equal(other.test, parts.test)


def test_images_that_are_there_twice_are_on_one_side() -> None:
    names = [f"image {row % 20}" for row in range(60)]
    clean = observations(np.zeros(60), names)
    for seed in range(5):
        parts = split_images(clean, 0.25, seed)
        sides = [{names[row] for row in rows} for rows in (parts.fit, parts.test)]
        assert not sides[0] & sides[1]
        assert len(parts.test) == 15


@pytest.mark.parametrize("test", [0.0, 1.0, -1.0, float("nan"), 1e-6, 1 - 1e-6])
def test_neither_side_may_be_empty(test: float) -> None:
    with pytest.raises(UsageError, match="test"):
        split_images(clean_images(10), test, seed=0)


def test_splits_need_hashes() -> None:
    with pytest.raises(UsageError, match="clean images have no hashes"):
        split_images(Observations({"transport": np.zeros((9, 1), np.float32)}), 0.5, seed=0)


def test_a_planted_image_is_refused() -> None:
    clean = clean_images(40)
    fitted, tested = clean.take(np.arange(30)), clean.take(np.arange(30, 40))
    refuse_overlap({"clean images": fitted}, {"images": tested})
    planted = Observations.concatenated([fitted, tested.take([4])])
    with pytest.raises(UsageError, match="1 of 10 images to test on, the first of them in row 4,"):
        refuse_overlap({"clean images": planted}, {"images": tested})


def test_what_was_made_from_a_fitted_image_is_refused() -> None:
    fitted = clean_images(30)
    moved = observations(np.ones(3), ["a", "b", "c"], ["x", fitted.hashes[7], "z"])
    with pytest.raises(UsageError, match=r"1 of 3 images of fgm to test on, .* row 1"):
        refuse_overlap({"clean images": fitted}, {"images of fgm": moved})
    # and the other way round: an attacked image of a test image is fitted on
    with pytest.raises(UsageError, match="1 of 30 clean images to test on"):
        refuse_overlap({"images of fgm": moved}, {"clean images": fitted})
    # two attacks on one image
    other = observations(np.ones(1), ["d"], ["z"])
    with pytest.raises(UsageError, match="1 of 1 images of bim to test on"):
        refuse_overlap({"images of fgm": moved}, {"images of bim": other})


def test_without_hashes_nobody_knows() -> None:
    bare = Observations({"transport": np.zeros((9, 1), np.float32)})
    for sides in (({"a": bare}, {"b": clean_images()}), ({"a": clean_images()}, {"b": bare})):
        with pytest.raises(UsageError, match="have no hashes"):
            refuse_overlap(*sides)
