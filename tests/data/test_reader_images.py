"""Files that cannot be read as images are found before the first step."""

import os
from pathlib import Path
from typing import Any

import pytest

from fxtransport.data import load
from fxtransport.errors import UsageError
from tests.data.making import IDENTITY, gray, levels, write_folder

PLAIN: dict[str, Any] = {"batch_size": 4, "input_size": (3, 8, 8), "transform": IDENTITY}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(("train", "val", "test")):
        write_folder(tmp_path / name, {"ant": 4, "bee": 4}, first_level=8 * i)
    return tmp_path


def spoil(path: Path, how: str) -> None:
    """Make a file that is no image, or is an image no more."""
    whole = path.read_bytes()
    path.unlink()
    match how:
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("an error of a server")
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "pipe":
            os.mkfifo(path)
        case "broken link":
            path.symlink_to("nowhere.png")
        case "folder":
            path.mkdir()


@pytest.mark.parametrize("how", ["empty", "text", "cut", "pipe", "broken link"])
@pytest.mark.parametrize("place", ["train/ant/001.png", "val/bee/012.png", "test/ant/017.png"])
def test_what_is_no_image_is_an_error_or_is_skipped(folder: Path, how: str, place: str) -> None:
    spoil(folder / place, how)
    with pytest.raises(UsageError) as caught:
        load(str(folder), seed=0, **PLAIN)
    assert str(caught.value).startswith(f"{folder / place}: ")
    assert str(caught.value).endswith("or leave it out with on_bad_image='skip'")
    splits = load(str(folder), seed=0, on_bad_image="skip", **PLAIN)
    found = [*levels(splits.train.epoch(0)), *levels(splits.validation), *levels(splits.test)]
    lost = int(place[-7:-4])
    assert sorted(found) == [level for level in range(24) if level != lost]
    assert splits.notes == (f"1 image that cannot be read left out: {folder / place}",)
    assert sum(source.samples for source in splits.sources.values()) == 23


def test_pixels_that_are_damaged_are_found_where_all_images_are_decoded(folder: Path) -> None:
    path = folder / "train/ant/002.png"
    data = bytearray(path.read_bytes())
    # within the compressed pixels; begin and end are as they were
    at = data.index(b"IDAT") + 6
    data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(data))
    splits = load(str(folder), seed=0, **PLAIN)
    with pytest.raises(UsageError, match=r"002\.png: cannot be read as an image"):
        list(splits.train.epoch(0))
    with pytest.raises(UsageError, match=r"002\.png: cannot be read as an image"):
        load(str(folder), seed=0, check_data=True, **PLAIN)
    skipped = load(str(folder), seed=0, on_bad_image="skip", **PLAIN)
    assert skipped.train.num_samples == 7
    assert len(list(skipped.train.epoch(0))) == 2


def test_how_many_cannot_be_read_is_said(folder: Path) -> None:
    for name in (
        "train/ant/000.png",
        "train/ant/001.png",
        "train/bee/004.png",
        "train/bee/005.png",
    ):
        spoil(folder / name, "text")
    with pytest.raises(UsageError, match="; 3 more cannot be read: repair or delete"):
        load(str(folder), seed=0, **PLAIN)
    [note] = load(str(folder), seed=0, on_bad_image="skip", **PLAIN).notes
    assert note.startswith("4 images that cannot be read left out: ")
    assert note.endswith(" and 1 more")


def test_images_that_are_held_out_are_examined_too(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ant": 30, "bee": 30})
    before = load(str(tmp_path), seed=0, **PLAIN)
    kept = {split: levels(getattr(before, split)) for split in ("validation", "test")}
    bad = tmp_path / "ant" / f"{min(kept['test']):03}.png"
    spoil(bad, "text")
    after = load(str(tmp_path), seed=0, on_bad_image="skip", **PLAIN)
    # others stay in their splits
    assert levels(after.validation) == kept["validation"]
    assert levels(after.test) == [level for level in kept["test"] if level != min(kept["test"])]


def test_there_is_no_third_way(folder: Path) -> None:
    with pytest.raises(UsageError, match="on_bad_image is stop or skip, not 'ignore'"):
        load(str(folder), seed=0, on_bad_image="ignore", **PLAIN)


def test_an_image_of_another_depth_is_one_more_image(folder: Path) -> None:
    gray(200).convert("L").point(lambda level: level * 257, "I").save(folder / "train/ant/x.tiff")
    assert 200 in levels(load(str(folder), seed=0, **PLAIN).train.epoch(0))
