"""Folders and sets of torchvision are opened with the splits that they have, offline."""

from pathlib import Path
from typing import Any

import pytest

from fxtransport.data import Splits, load
from fxtransport.errors import UsageError
from tests.data.making import CIFAR_CLASSES, IDENTITY, classes, levels, write_folder, write_stl


def trained_on(splits: Splits) -> list[int]:
    return sorted(levels(splits.train.epoch(0)))


def test_cifar_keeps_its_test_split(cifar: Path) -> None:
    splits = load("torch/cifar10", seed=0, batch_size=8, root=cifar, transform=IDENTITY)
    assert splits.class_names == tuple(CIFAR_CLASSES)
    assert splits.input_size == (3, 32, 32)
    validated = levels(splits.validation)
    assert len(validated) == 6
    assert sorted(trained_on(splits) + validated) == list(range(60))
    assert levels(splits.test) == list(range(60, 72))
    assert classes(splits.test) == [level % 3 for level in range(60, 72)]
    assert sorted(classes(splits.validation)) == [0, 0, 1, 1, 2, 2]


def test_stl10_is_opened_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stl(tmp_path, train=15, test=6, patch=monkeypatch)
    splits = load(
        "torch/stl10", seed=0, batch_size=4, root=tmp_path, validation=0.2, transform=IDENTITY
    )
    assert splits.input_size == (3, 96, 96)
    assert (splits.train.num_samples, levels(splits.test)) == (12, list(range(6)))
    assert classes(splits.test) == [0, 1, 2, 0, 1, 2]


def test_a_folder_like_imagenet(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"ant": 10, "bee": 10})
    write_folder(tmp_path / "val", {"bee": 4}, first_level=20)
    splits = load(
        "imagefolder",
        seed=0,
        batch_size=4,
        root=tmp_path,
        input_size=(3, 8, 8),
        transform=IDENTITY,
    )
    assert splits.class_names == ("ant", "bee")
    assert levels(splits.test) == [20, 21, 22, 23]
    # val has no ants, and bees are what they are in train
    assert classes(splits.test) == [1] * 4
    assert sorted(trained_on(splits) + levels(splits.validation)) == list(range(20))


def test_a_folder_with_all_three(tmp_path: Path) -> None:
    for i, name in enumerate(("train", "val", "test")):
        write_folder(tmp_path / name, {"ant": 2, "bee": 2}, first_level=4 * i)
    splits = load(str(tmp_path), seed=0, batch_size=4, input_size=(3, 8, 8), transform=IDENTITY)
    assert trained_on(splits) == [0, 1, 2, 3]
    assert levels(splits.validation) == [4, 5, 6, 7]
    assert levels(splits.test) == [8, 9, 10, 11]
    swapped = load(
        str(tmp_path),
        seed=0,
        batch_size=4,
        input_size=(3, 8, 8),
        transform=IDENTITY,
        validation_split="test",
        test_split="val",
    )
    assert levels(swapped.test) == [4, 5, 6, 7]


def test_a_folder_without_splits_is_split(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ant": 20, "bee": 20})
    splits = load(
        str(tmp_path),
        seed=0,
        batch_size=4,
        input_size=(3, 8, 8),
        transform=IDENTITY,
        validation=0.25,
    )
    test, validation = levels(splits.test), levels(splits.validation)
    assert (len(test), len(validation), splits.train.num_samples) == (8, 8, 24)
    assert sorted(trained_on(splits) + validation + test) == list(range(40))
    assert sorted(classes(splits.test)) == [0] * 4 + [1] * 4


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, workers: int) -> None:
    write_folder(tmp_path, {"ant": 5, "bee": 5})
    broken = tmp_path / "ant" / "002.png"
    broken.write_bytes(b"no image")
    splits = load(
        str(tmp_path),
        seed=0,
        batch_size=10,
        input_size=(3, 8, 8),
        num_workers=workers,
        validation=0,
        test=0.2,
    )
    with pytest.raises(UsageError) as caught:
        list(splits.train.epoch(0)), list(splits.test)
    assert str(caught.value).startswith(f"{broken}: cannot be read as an image: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("torch/cifar10", {}, r"^torch/cifar10: give root, the folder that holds the set$"),
        ("torch/cifar10", {"root": "here"}, r"cannot open the split train in .*download=True"),
        ("torch/mnist", {"test_split": "train"}, "torch/mnist has fixed splits"),
        ("digits", {"validation_split": "test"}, "digits has fixed splits"),
        ("imagefolder", {}, "imagefolder: give root"),
        ("imagefolder", {"root": "nowhere"}, "there is no folder nowhere"),
        ("cifar10", {}, "'cifar10' is neither a set nor a folder: give digits, .*, torch/cifar10"),
        ("hfds/mnist", {}, r"downloaded from its hub: allow it with download=True$"),
        ("here", {"input_size": (3, 8, 8), "color": 1}, "here: cannot open.*color"),
        ("here", {"input_size": (3, 8, 8), "test_split": "x"}, "here has no folder called x"),
        ("empty", {"input_size": (3, 8, 8)}, "Found 0 images"),
        ("untrained", {"input_size": (3, 8, 8)}, "has a folder val, but none called train"),
        ("strange", {"input_size": (3, 8, 8)}, "strange/val has classes that .* not have: cat"),
    ],
)
def test_what_cannot_be_opened_says_why(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(Path("here"), {"ant": 10, "bee": 10})
    Path("empty").mkdir()
    write_folder(Path("untrained/val"), {"ant": 1})
    write_folder(Path("strange/train"), {"ant": 2, "bee": 2})
    write_folder(Path("strange/val"), {"cat": 2})
    with pytest.raises(UsageError, match=message):
        load(name, seed=0, batch_size=2, **options)
