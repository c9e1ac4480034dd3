from pathlib import Path

import numpy as np
import pytest

from fxtransport.detection.lid import LARGEST, LidForest, lid
from fxtransport.detection.observations import Observations
from fxtransport.errors import UsageError
from tests.detection.digits import digits


def test_by_hand() -> None:
    """Neighbors at 1, 2 and 4: −3/(log ¼ + log ½ + 0) = 1/log 2."""
    reference = np.array([[1], [-2], [4], [9]], np.float32)
    found = lid(np.zeros((1, 1), np.float32), reference, 3)
    assert found == pytest.approx([1 / np.log(2)])


@pytest.mark.parametrize("dimensions", [1, 2, 4])
def test_the_dimension_of_a_cube(dimensions: int) -> None:
    """In a space that is much wider than the cube."""
    generator = np.random.default_rng(0)
    directions = np.linalg.qr(generator.normal(size=(12, dimensions)))[0]
    points = (generator.uniform(-1, 1, size=(4000, dimensions)) @ directions.T).astype(np.float32)
    found = lid(points[:200] * 0.3, points, 100)
    assert found.mean() == pytest.approx(dimensions, rel=0.1)


def test_neighbors_that_are_equally_far() -> None:
    same = np.ones((5, 2), np.float32)
    assert lid(np.zeros((1, 2), np.float32), same, 5) == pytest.approx([LARGEST])
    assert lid(same[:1], same, 5) == pytest.approx([LARGEST])


def test_neighbors_very_near() -> None:
    """One at distance 0, as if it were very near."""
    reference = np.array([[0.0], [1.0]], np.float32)
    found = lid(np.zeros((1, 1), np.float32), reference, 2)
    assert found == pytest.approx([2 / np.log(1e12)])


def test_what_is_refused() -> None:
    some = np.zeros((3, 2), np.float32)
    with pytest.raises(UsageError, match="neighbors is from 2 to 3, not 4"):
        lid(some, some, 4)
    with pytest.raises(UsageError, match="neighbors is from 2 to 3, not 1"):
        lid(some, some, 1)
    with pytest.raises(UsageError, match="rows are 2 wide, those of reference 1"):
        lid(some, some[:, :1], 2)


def test_the_detector_reads_every_layer(tmp_path: Path) -> None:
    made = LidForest().fit(digits().clean, digits().attacked)
    assert made.forest.general.columns == 4
    assert sum(name.endswith("neighbors") for name in made.validation) == 3
    made.save(tmp_path)
    again = LidForest.load(tmp_path)
    few = digits().clean.take(range(50))
    assert (again.score(few) == made.score(few)).all()


def test_the_minibatch_is_not_what_the_forest_is_fitted_on() -> None:
    """Its images are at distance 0 from themselves, as no other image is."""
    seen = []

    class Watched(LidForest):
        def _columns(self, observed: Observations, choice: str) -> np.ndarray:
            seen.append(observed)
            return super()._columns(observed, choice)

    made = Watched().fit(digits().clean, digits().attacked)
    reference = {row.tobytes() for row in made._reference["layer.3"]}
    assert len(reference) == 100
    for observed in seen:
        assert not reference & {row.tobytes() for row in observed["layer.3"]}


def test_layers_and_images_are_needed() -> None:
    other = Observations({"logits": digits().clean["logits"]})
    with pytest.raises(UsageError, match=r"reads layer\.0, layer\.1"):
        LidForest().fit(other, other)
    few = digits().clean.take(range(50))
    with pytest.raises(UsageError, match="needs 60 clean images"):
        LidForest().fit(few, digits().attacked)
