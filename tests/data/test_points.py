"""Points are those of scikit-learn, split by the seed."""

from typing import Any

import pytest
import torch
from sklearn import datasets

from fxtransport.data import load
from fxtransport.errors import UsageError
from tests.data.making import whole


@pytest.mark.parametrize(("name", "make"), [("circles", "make_circles"), ("moons", "make_moons")])
def test_points_are_those_of_scikit_learn(name: str, make: str) -> None:
    splits = load(name, seed=0, batch_size=64, validation=0)
    assert (splits.train.num_samples, splits.validation, splits.test.num_samples) == (
        800,
        None,
        200,
    )
    assert (splits.num_classes, splits.input_size) == (2, (2,))
    points, classes = whole([*splits.train.epoch(0), *splits.test])
    assert points.dtype == torch.float32
    clean, clean_classes = getattr(datasets, make)(1000)
    for label in (0, 1):
        center = torch.from_numpy(clean[clean_classes == label]).mean(0).float()
        torch.testing.assert_close(points[classes == label].mean(0), center, atol=0.02, rtol=0)


def test_circles_have_their_radii_and_noise() -> None:
    splits = load("circles", seed=0, batch_size=2000, validation=0, points=2000, noise=0.01)
    points, classes = next(splits.train.epoch(0))
    radii = points.norm(dim=1)
    assert radii[classes == 0].mean() == pytest.approx(1, abs=0.01)
    assert radii[classes == 1].mean() == pytest.approx(0.3, abs=0.01)
    assert radii[classes == 1].std() == pytest.approx(0.01, rel=0.2)
    assert splits.class_names == ("outer", "inner")
    other = load("circles", seed=1, batch_size=2000, validation=0, points=2000, noise=0.01)
    assert not torch.equal(next(other.train.epoch(0))[0], points)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("circles", {"sigma": 1}, "circles has no option 'sigma': it has points, noise, factor"),
        ("circles", {"input_size": (3, 8, 8)}, r"points of the plane: input_size is \(2,\)"),
        ("moons", {"augmentation": {}}, "moons are points of the plane"),
        ("moons", {"mixup": {}, "drop_last": True}, r"for images, not for inputs of \(2,\)"),
    ],
)
def test_what_cannot_be_says_why(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(name, seed=0, batch_size=32, **options)
