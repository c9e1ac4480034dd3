"""Embedded sets are split by the seed and normalized by the training split."""

from collections import Counter
from typing import Any

import pytest
import torch
from sklearn import datasets
from torch.nn import functional as F

from fxtransport.data import EvalStream, Splits, load
from fxtransport.data.streams import Batch
from fxtransport.errors import UsageError
from tests.data.making import whole


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


@pytest.mark.parametrize(
    ("name", "own", "counts"),
    [
        ("digits", (1, 8, 8), [1293, 144, 360]),
        ("mnist5k", (1, 28, 28), [3600, 400, 1000]),
        ("patches", (3, 32, 32), [1586, 177, 441]),
    ],
)
def test_every_set_is_split_and_normalized_by_channel(
    name: str, own: tuple[int, ...], counts: list[int]
) -> None:
    splits = load(name, seed=0, batch_size=512)
    assert splits.input_size == own
    assert splits.num_classes == 10
    parts = everything(splits)
    assert [len(targets) for _, targets in parts] == counts
    pixels = [images.transpose(0, 1).flatten(1) for images, _ in parts]
    torch.testing.assert_close(pixels[0].mean(1), torch.zeros(own[0]), atol=2e-5, rtol=0)
    torch.testing.assert_close(pixels[0].std(1), torch.ones(own[0]), atol=2e-4, rtol=0)
    assert pixels[2].mean(1).abs().max() > 1e-4
    seen = [set(rows(images)) for images, _ in parts]
    if name != "digits":
        # of digits, some are there twice
        assert [*map(len, seen)] == counts
        assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["mnist5k", "patches"])
def test_images_for_augmentation_are_those_in_memory(name: str, channels: int) -> None:
    size = (channels, 32, 32)
    chosen = {"seed": 3, "batch_size": 64, "input_size": size, "train_samples": 128}
    images, tensors = load(name, **chosen, augmentation={}), load(name, **chosen)
    (found, targets), (expected, same) = whole(images.train.epoch(0)), whole(tensors.train.epoch(0))
    assert torch.equal(targets, same)
    assert found.shape == (128, *size)
    # PIL resizes to 256 levels
    assert (found - expected).abs().max() < 0.05
    flipped = load(name, **chosen, augmentation={"hflip": 1.0})
    turned, _ = whole(flipped.train.epoch(0))
    torch.testing.assert_close(turned, found.flip(3), atol=0.05, rtol=0)


def test_pixels_between_0_and_1_are_a_transform() -> None:
    plain = {"mean": (0.0,), "std": (1.0,)}
    images, _ = whole(load("patches", seed=0, batch_size=512, transform=plain).test)
    assert (images.min(), images.max()) == (0, 1)
    assert torch.equal((images * 255).round() / 255, images)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits", {"points": 3}, r"^digits has no option 'points': it has none$"),
        ("digits", {"input_size": (2,)}, r"input_size is \(C, H, W\), not \(2,\)"),
        ("mnist5k", {"tile": 32}, r"^mnist5k has no option 'tile': it has none$"),
        ("patches", {"points": 3}, r"^patches has no option 'points': it has tile$"),
        ("patches", {"input_size": (32,)}, r"patches are images: input_size is .*, not \(32,\)"),
        ("patches", {"test_split": "a"}, "patches has fixed splits"),
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


@pytest.mark.parametrize(
    ("name", "size"), [("digits", (1, 8, 8)), ("digits", (3, 20, 24)), ("patches", (3, 32, 32))]
)
def test_the_transform_makes_the_same_inputs_of_images_from_files(
    name: str, size: tuple[int, int, int]
) -> None:
    """Up to the rounding of pixels to 255 levels."""
    how: dict[str, Any] = {"seed": 0, "batch_size": 40, "input_size": size}
    splits = load(name, **how)
    assert splits.transform is not None
    pixels = load(name, **how, transform={**splits.transform, "mean": (0.0,), "std": (1.0,)})
    mean, std = (torch.tensor(splits.transform[key]).reshape(-1, 1, 1) for key in ("mean", "std"))
    (inputs, labels), (images, same_labels) = (next(iter(each.test)) for each in (splits, pixels))
    assert torch.equal(labels, same_labels)
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    torch.testing.assert_close((images - mean) / std, inputs, rtol=0, atol=2.1 / 255 / 0.17)
    again = load(name, **how, transform=splits.transform)
    found, _ = next(iter(again.test))
    torch.testing.assert_close(found, inputs, rtol=0, atol=2.1 / 255 / 0.17)


def test_points_have_no_transform() -> None:
    assert load("moons", seed=0, batch_size=10).transform is None
