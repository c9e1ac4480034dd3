"""Digits and points are those of scikit-learn, split by the seed, normalized by train."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from sklearn import datasets
from torch.nn import functional as F

from fxtransport.data import EvalStream, Splits, load
from fxtransport.data.streams import Batch
from fxtransport.errors import UsageError


def whole(batches: Iterable[Batch]) -> Batch:
    inputs, targets = zip(*batches, strict=True)
    return torch.cat(inputs), torch.cat(targets)


def everything(splits: Splits) -> list[Batch]:
    assert splits.validation is not None
    return [whole(splits.train.epoch(0)), whole(splits.validation), whole(splits.test)]


def rows(inputs: torch.Tensor) -> list[tuple[float, ...]]:
    return [tuple(row.flatten().tolist()) for row in inputs]


def test_every_digit_is_in_one_split() -> None:
    splits = load("digits", seed=0, batch_size=100)
    parts = everything(splits)
    assert [len(targets) for _, targets in parts] == [1293, 144, 360]
    counts = sum((Counter(rows(images)) for images, _ in parts), Counter[tuple[float, ...]]())
    original = torch.from_numpy(datasets.load_digits().images).float()
    assert sorted(counts.values()) == sorted(Counter(rows(original)).values())


def test_digits_are_normalized_by_the_training_split() -> None:
    (train, _), _, (test, _) = everything(load("digits", seed=0, batch_size=100))
    assert train.mean().abs() < 1e-5
    assert abs(train.std(correction=0) - 1) < 1e-5
    assert test.mean().abs() > 1e-4


def test_each_class_has_its_share_of_each_split() -> None:
    for _, targets in everything(load("digits", seed=4, batch_size=100)):
        share = torch.bincount(targets) / len(targets)
        assert share.min() > 0.09
        assert share.max() < 0.11


def test_digits_are_resized_and_channels_repeated() -> None:
    small = load("digits", seed=0, batch_size=4)
    large = load("digits", seed=0, batch_size=4, input_size=(3, 20, 24))
    images, targets = next(small.train.epoch(0))
    resized, same_targets = next(large.train.epoch(0))
    assert torch.equal(targets, same_targets)
    expected = F.interpolate(images, (20, 24), mode="bilinear").expand(-1, 3, -1, -1)
    torch.testing.assert_close(resized, expected)


def test_the_seed_decides_the_split() -> None:
    first, again, other = (load("digits", seed=s, batch_size=400).test for s in (0, 0, 1))
    assert torch.equal(whole(first)[0], whole(again)[0])
    assert not torch.equal(whole(first)[0], whole(other)[0])


def test_fewer_training_samples_leave_the_other_splits_as_they_are() -> None:
    def labels(stream: EvalStream | None) -> list[int]:
        assert stream is not None
        return whole(stream)[1].tolist()

    all_of_them = load("digits", seed=0, batch_size=50)
    some = load("digits", seed=0, batch_size=50, train_samples=150)
    assert some.train.num_samples == 150
    assert labels(some.test) == labels(all_of_them.test)
    assert labels(some.validation) == labels(all_of_them.validation)
    images, targets = whole(some.train.epoch(0))
    assert torch.bincount(targets).tolist() == pytest.approx([15] * 10, abs=1)
    assert images.mean().abs() < 1e-5


@pytest.mark.parametrize(
    ("options", "channels"),
    [({"augmentation": {}}, 1), ({"transform": {"interpolation": "bilinear"}}, 3)],
)
def test_digits_as_images_are_the_digits(options: dict[str, Any], channels: int) -> None:
    size = (channels, 16, 16)
    tensors = load("digits", seed=0, batch_size=50, input_size=size)
    images = load("digits", seed=0, batch_size=50, input_size=size, **options)
    (found, targets), (expected, same) = whole(images.train.epoch(0)), whole(tensors.train.epoch(0))
    assert torch.equal(targets, same)
    # PIL resizes to 256 levels
    assert (found - expected).abs().max() < 0.03
    assert torch.equal(whole(images.test)[1], whole(tensors.test)[1])


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
        ("digits", {"points": 3}, r"^digits has no option 'points': it has none$"),
        ("digits", {"input_size": (2,)}, r"input_size is \(C, H, W\), not \(2,\)"),
        ("circles", {"sigma": 1}, "circles has no option 'sigma': it has points, noise, factor"),
        ("circles", {"input_size": (3, 8, 8)}, r"points of the plane: input_size is \(2,\)"),
        ("moons", {"augmentation": {}}, "moons are points of the plane"),
        ("moons", {"mixup": {}, "drop_last": True}, r"for images, not for inputs of \(2,\)"),
        ("digits", {"validation": 1.0}, "validation is a share, from 0 to below 1, not 1.0"),
        ("digits", {"test": 0}, "test must be above 0"),
        ("digits", {"validation": 0.001}, "cannot take 0.001 of 1437 samples"),
        ("digits", {"train_samples": 5}, "train_samples: cannot take 5 of 1293 samples"),
        (
            "digits",
            {"train_samples": 2000},
            "train_samples is 2000, but there are 1293 training samples",
        ),
        ("digits", {"train_samples": 0}, "train_samples is 0"),
    ],
)
def test_what_cannot_be_says_why(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(name, seed=0, batch_size=32, **options)
