"""Sets of timm and torchvision are opened, split, transformed and shuffled, offline."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fxtransport.data import Splits, load
from fxtransport.data.streams import Batch
from fxtransport.errors import UsageError
from tests.data.making import CIFAR_CLASSES, write_cifar, write_folder, write_stl

IDENTITY = {"mean": (0.0,), "std": (1 / 255,)}
"""Pixels as they are, so that an image tells its level."""


def levels(batches: Iterable[Batch] | None) -> list[int]:
    """The level of each image; they have one each."""
    assert batches is not None
    return [round(float(image.max())) for images, _ in batches for image in images]


def classes(batches: Iterable[Batch] | None) -> list[int]:
    assert batches is not None
    return [int(target) for _, targets in batches for target in targets]


def trained_on(splits: Splits) -> list[int]:
    return sorted(levels(splits.train.epoch(0)))


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_cifar(tmp_path, train=60, test=12, patch=monkeypatch)
    return tmp_path


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


def test_all_images_are_normalized_and_resized_alike(cifar: Path) -> None:
    splits = load("torch/cifar10", seed=0, batch_size=12, root=cifar, input_size=(3, 16, 24))
    [(images, _)] = splits.test
    assert images.shape == (12, 3, 16, 24)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    level = torch.arange(60, 72)[:, None] / 255
    torch.testing.assert_close(images.mean((2, 3)), (level - mean) / std, atol=1e-5, rtol=1e-5)
    assert images.std((2, 3)).max() < 1e-5
    gray = load("torch/cifar10", seed=0, batch_size=12, root=cifar, input_size=(1, 8, 8))
    assert next(iter(gray.test))[0].shape == (12, 1, 8, 8)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mixup", [None, {"mixup_alpha": 0.8, "cutmix_alpha": 1.0}])
def test_augmented_epochs_can_be_entered_anywhere(
    cifar: Path, workers: int, mixup: dict[str, float] | None
) -> None:
    def stream(num_workers: int) -> Any:
        return load(
            "torch/cifar10",
            seed=1,
            batch_size=8,
            root=cifar,
            num_workers=num_workers,
            drop_last=True,
            augmentation={"padding": 4, "hflip": 0.5, "color_jitter": 0.4, "re_prob": 0.5},
            mixup=mixup,
        ).train

    whole = list(stream(0).epoch(1))
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    rest = list(stream(workers).epoch(1, start=4))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(rest) == len(whole) - 4 > 0
    for found, expected in zip(rest, whole[4:], strict=True):
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
    assert rest[0][1].dtype == (torch.int64 if mixup is None else torch.float32)


def test_nothing_is_random_but_what_is_named(cifar: Path) -> None:
    def train(**options: Any) -> torch.Tensor:
        splits = load("torch/cifar10", seed=0, batch_size=60, root=cifar, **options).train
        return next(splits.epoch(0))[0]

    plain = train()
    torch.testing.assert_close(train(augmentation={}), plain)
    padded = train(augmentation={"padding": 4}, transform={"mean": (0.0,), "std": (1.0,)})
    # crops see the black around, each at most 4 pixels of it
    visible = padded[padded.amax((1, 2, 3)) > 0]
    black = (visible == 0).float().mean((1, 2, 3))
    assert len(black.unique()) > 5
    assert black.max() < 1 - (28 / 32) ** 2 + 1e-6
    changed = train(augmentation={"color_jitter": 0.4})
    assert not torch.allclose(changed, plain)


def test_mixup_gives_probabilities_without_label_smoothing(cifar: Path) -> None:
    splits = load("torch/cifar10", seed=0, batch_size=54, root=cifar, mixup={"mixup_alpha": 1.0})
    _, targets = next(splits.train.epoch(0))
    assert targets.shape == (54, 3)
    torch.testing.assert_close(targets.sum(1), torch.ones(54))
    assert (targets > 0).sum(1).max() <= 2
    assert ((targets > 0) & (targets < 1)).any()


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
        ("here", {}, "these images have several sizes: give input_size"),
        ("here", {"input_size": (4, 8, 8)}, r"\(1, H, W\) or \(3, H, W\), not \(4, 8, 8\)"),
        ("here", {"input_size": (3, 8, 8), "colour": 1}, "here: cannot open.*colour"),
        ("here", {"input_size": (3, 8, 8), "test_split": "x"}, "here has no folder called x"),
        ("empty", {"input_size": (3, 8, 8)}, "Found 0 images"),
        ("untrained", {"input_size": (3, 8, 8)}, "has a folder val, but none called train"),
        (
            "strange",
            {"input_size": (3, 8, 8)},
            "strange/val has classes that .* does not have: cat",
        ),
        ("here", {"input_size": (3, 8, 8), "transform": {"hflip": 1}}, "transform has no option"),
        ("here", {"input_size": (3, 8, 8), "transform": {"mean": (0, 0)}}, "2 values for 3"),
        ("here", {"input_size": (3, 8, 8), "augmentation": {"flip": 1}}, "it has padding, scale"),
        ("here", {"input_size": (3, 8, 8), "augmentation": {"auto_augment": "x"}}, "policy x"),
        ("here", {"input_size": (3, 8, 8), "mixup": {"alpha": 1}}, "mixup has no option 'alpha'"),
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
