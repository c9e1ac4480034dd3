"""Folders and sets of torchvision are opened with the splits that they have, offline."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import ImageFolder

from fxtransport.data import Splits, load
from fxtransport.data.contents import row_hashes
from fxtransport.data.embedded import embedded_images
from fxtransport.data.holdout import HoldOut
from fxtransport.data.images import split_images
from fxtransport.data.sets import ImageSet
from fxtransport.data.transforms import make_transforms
from fxtransport.errors import UsageError
from tests.data.making import (
    CIFAR_CLASSES,
    IDENTITY,
    classes,
    gray,
    levels,
    write_folder,
    write_stl,
)


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


@pytest.mark.parametrize("options", [{}, {"validation_split": "val"}, {"validation_split": "dev"}])
def test_validation_beside_train_is_for_validation(tmp_path: Path, options: dict[str, str]) -> None:
    name = "dev" if "dev" in options.values() else "val"
    write_folder(tmp_path / "train", {"ant": 10, "bee": 10})
    write_folder(tmp_path / name, {"bee": 4}, first_level=20)
    splits = load("imagefolder", seed=0, validation=0.3, root=tmp_path, **PLAIN, **options)
    assert splits.class_names == ("ant", "bee")
    assert trained_on(splits) == list(range(20))
    assert levels(splits.validation) == [20, 21, 22, 23]
    # there are no ants, and bees are what they are in train
    assert classes(splits.validation) == [1] * 4
    assert splits.test is None
    with pytest.raises(UsageError, match=r"there is no test split .*4 for validation, no test"):
        splits.require_test()
    assert {split: str(source) for split, source in splits.sources.items()} == {
        "train": "20 samples of 2 classes, from the folder train",
        "validation": f"4 samples of 1 class, from the folder {name}",
        "test": f"none, because the folder has {name} and no test; test_split names one",
    }


@pytest.mark.parametrize(
    ("folders", "options", "expected"),
    [
        (["train", "val"], {"test_split": "val"}, ["train", "held", "val"]),
        (["train", "test"], {}, ["train", "held", "test"]),
        (["train", "test"], {"validation_split": "test"}, ["train", "test", "none"]),
        (["training", "valid", "testing"], {}, ["training", "valid", "testing"]),
        (["train"], {}, ["train", "held", "held"]),
        (["."], {}, ["folder", "held", "held"]),
    ],
)
def test_where_splits_come_from_is_said(
    tmp_path: Path, folders: list[str], options: dict[str, str], expected: list[str]
) -> None:
    for i, name in enumerate(folders):
        write_folder(tmp_path / name, {"ant": 30, "bee": 30}, first_level=60 * i)
    splits = load(str(tmp_path), seed=0, **PLAIN, **options)
    found = split_of(splits)
    assert {split: source.samples for split, source in splits.sources.items()} == {
        split: list(found.values()).count(split) for split in ("train", "validation", "test")
    }
    for source, word in zip(splits.sources.values(), expected, strict=True):
        first = str(source).partition(", ")
        assert word in (first[0] if word == "none" else first[2])
        assert source.classes == (0 if word == "none" else 2)


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


PLAIN: dict[str, Any] = {"batch_size": 4, "input_size": (3, 8, 8), "transform": IDENTITY}


def split_of(splits: Splits) -> dict[int, str]:
    """The split of each image, by its level."""
    found = dict.fromkeys(trained_on(splits), "train")
    if splits.test is not None:
        found |= dict.fromkeys(levels(splits.test), "test")
    if splits.validation is not None:
        found |= dict.fromkeys(levels(splits.validation), "validation")
    return found


def test_a_folder_without_splits_is_split(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ant": 40, "bee": 40})
    splits = load(str(tmp_path), seed=0, validation=0.25, **PLAIN)
    found = split_of(splits)
    assert sorted(found) == list(range(80))
    counts = Counter(found.values())
    # 16 for the test, 16 for validation, on average
    assert 8 <= counts["test"] <= 24
    assert 8 <= counts["validation"] <= 24
    assert split_of(load(str(tmp_path), seed=0, validation=0.25, **PLAIN)) == found
    assert split_of(load(str(tmp_path), seed=1, validation=0.25, **PLAIN)) != found


def test_an_image_that_is_added_moves_no_other_one(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ant": 30, "bee": 30})
    before = split_of(load(str(tmp_path), seed=0, **PLAIN))
    # first, last and in the middle, in both classes, and a class of its own
    for name, level in (("ant/!", 100), ("ant/015b", 101), ("bee/zzz", 102), ("bee/!", 103)):
        gray(level).save(tmp_path / f"{name}.png")
        after = split_of(load(str(tmp_path), seed=0, **PLAIN))
        assert {level: after[level] for level in before} == before
    write_folder(tmp_path, {"cat": 12}, first_level=110)
    after = split_of(load(str(tmp_path), seed=0, **PLAIN))
    assert {level: after[level] for level in before} == before
    (tmp_path / "ant" / "003.png").unlink()
    (tmp_path / "ant" / "004.png").rename(tmp_path / "ant" / "renamed.png")
    after = split_of(load(str(tmp_path), seed=0, **PLAIN))
    assert {level: after[level] for level in before if level != 3} == {
        level: split for level, split in before.items() if level != 3
    }


def test_an_image_that_is_there_twice_is_in_one_split(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ant": 30, "bee": 30})
    for path in sorted(tmp_path.glob("*/*.png")):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    splits = load(str(tmp_path), seed=0, **PLAIN)
    together = [trained_on(splits), levels(splits.validation), levels(splits.test)]
    assert sum(map(len, together)) == 120
    assert sum(len({*each}) for each in together) == 60


@pytest.mark.parametrize("place", ["val/bee/copy.png", "test/ant/copy.png"])
def test_an_image_in_two_splits_is_counted_and_refused(place: str, tmp_path: Path) -> None:
    for i, name in enumerate(("train", "val", "test")):
        write_folder(tmp_path / name, {"ant": 3, "bee": 3}, first_level=6 * i)
    assert "two splits" not in load(str(tmp_path), seed=0, **PLAIN).description
    shutil.copy(tmp_path / "train/ant/000.png", tmp_path / place)
    with pytest.raises(UsageError) as caught:
        load(str(tmp_path), seed=0, **PLAIN)
    split = "test" if "test" in place else "validation"
    assert str(caught.value) == (
        f"1 image is in two splits, such as {tmp_path}/train/ant/000.png (train) and "
        f"{tmp_path / place} ({split}): take them out of one of the two, or give "
        "allow_duplicates=True"
    )
    allowed = load(str(tmp_path), seed=0, allow_duplicates=True, **PLAIN)
    assert allowed.description.endswith("2 classes; 1 of them in two splits")
    # what is not trained on is in one split only
    (tmp_path / "train/ant/000.png").unlink()
    assert "two splits" not in load(str(tmp_path), seed=0, **PLAIN).description


def test_images_in_two_published_splits_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # levels count from 0 in both splits: each image of the test is trained on, or validated on
    write_stl(tmp_path, train=15, test=6, patch=monkeypatch)
    options: dict[str, Any] = {"seed": 0, "batch_size": 4, "root": tmp_path}
    options |= {"validation": 0.2, "transform": IDENTITY}
    assert load("torch/stl10", **options).description.endswith("; 6 of them in two splits")
    few = load("torch/stl10", train_samples=6, **options)
    shared = {*levels(few.train.epoch(0)), *levels(few.validation)} & {*levels(few.test)}
    assert few.description.endswith(f"; {len(shared)} of them in two splits")


def test_published_splits_without_such_images(cifar: Path) -> None:
    found = load("torch/cifar10", seed=0, batch_size=8, root=cifar)
    assert found.description.endswith("inputs of 3×32×32, 3 classes")


def test_sets_in_files_are_not_read_to_compare_their_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_folder(tmp_path / split, {"ant": 3, "bee": 3})
    images = [ImageFolder(tmp_path / split) for split in ("train", "val")]
    found = split_images(
        ImageSet(images[0], None, images[1], ("ant", "bee"), published=True),
        HoldOut(0, validation=0),
        make_transforms((3, 8, 8), {}, None),
    )
    assert found.duplicates is None


@pytest.mark.parametrize("name", ["digits", "mnist5k", "patches"])
def test_sets_of_libraries_hold_no_image_twice(name: str) -> None:
    images, _ = embedded_images(name, HoldOut(0), None)
    hashes = row_hashes(images.train)
    assert hashes is not None
    assert len({*hashes}) == len(hashes)


@pytest.mark.parametrize("how", ["named twice", "a link", "inside", "a link to a class"])
def test_two_splits_that_share_a_folder_are_refused(how: str, tmp_path: Path) -> None:
    for i, name in enumerate(("train", "test")):
        write_folder(tmp_path / name, {"ant": 3, "bee": 3}, first_level=6 * i)
    options: dict[str, Any] = {}
    match how:
        case "named twice":
            options = {"validation_split": "train"}
        case "a link":
            (tmp_path / "val").symlink_to("train")
        case "inside":
            shutil.copytree(tmp_path / "test", tmp_path / "train/ant/more")
            options = {"validation_split": "train/ant"}
        case _:
            (tmp_path / "val").mkdir()
            (tmp_path / "val/ant").symlink_to(tmp_path / "train/ant")
    words = "3 images are in two splits" if "class" in how else "share their images: .*train"
    with pytest.raises(UsageError, match=words):
        load(str(tmp_path), seed=0, **PLAIN, **options)


def test_a_class_of_which_nothing_is_trained_on_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ant": 30})
    write_folder(tmp_path, {"bee": 1}, first_level=50)
    seeds = range(40)
    with pytest.raises(UsageError, match="no image of the class bee is left to train on"):
        for seed in seeds:
            load(str(tmp_path), seed=seed, test=0.3, **PLAIN)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_lost_while_it_is_trained_on_is_named(
    tmp_path: Path, workers: int
) -> None:
    write_folder(tmp_path, {"ant": 5, "bee": 5})
    splits = load(
        str(tmp_path),
        seed=0,
        batch_size=10,
        input_size=(3, 8, 8),
        num_workers=workers,
        validation=0,
        test=0.2,
    )
    broken = tmp_path / "ant" / "002.png"
    broken.write_bytes(b"no image")
    with pytest.raises(UsageError) as caught:
        list(splits.train.epoch(0)), list(splits.require_test())
    assert str(caught.value).startswith(f"{broken}: cannot be read as an image: ")
    assert "repair it and resume" in str(caught.value)
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
        ("circle", {}, r"neither a set nor a folder \(did you mean circles\?\)"),
        ("hiden", {}, r"neither a set nor a folder \(did you mean hidden\?\)"),
        ("a.zip", {}, "neither a set nor a folder, but a file .unpack an archive"),
        ("one", {"input_size": (3, 8, 8)}, "there is a single class, ant, so nothing to tell"),
        (
            "cifar10",
            {},
            r"a folder \(torch/cifar10 is torchvision's\): give digits, .*, torch/cifar10",
        ),
        ("hfds/mnist", {}, r"downloaded from its hub: allow it with download=True$"),
        ("here", {"input_size": (3, 8, 8), "color": 1}, "here: cannot open.*color"),
        ("here", {"input_size": (3, 8, 8), "test_split": "x"}, "here has no folder called x"),
        ("empty", {"input_size": (3, 8, 8)}, r"empty holds no images .* end in .*\.png"),
        ("flat", {"input_size": (3, 8, 8)}, "flat: 2 images are in no folder of a class, such as"),
        ("partly", {"input_size": (3, 8, 8)}, "train: 1 image is in no folder of a class, such as"),
        ("hidden", {"input_size": (3, 8, 8)}, "hidden holds no images but hidden ones"),
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
    Path("flat").mkdir()
    for level in (1, 2):
        gray(level).save(f"flat/{level}.png")
    write_folder(Path("partly/train"), {"ant": 2})
    gray(9).save("partly/train/preview.png")
    write_folder(Path("one"), {"ant": 9})
    Path("a.zip").write_bytes(b"PK")
    write_folder(Path("hidden"), {".ant": 2, "@eaDir": 2})
    with pytest.raises(UsageError, match=message):
        load(name, seed=0, batch_size=2, **options)
