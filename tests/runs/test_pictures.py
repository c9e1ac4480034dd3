"""Images in files, as a run's model takes them."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from fxtransport.data import load
from fxtransport.errors import UsageError
from fxtransport.runs.inputs import Inputs
from fxtransport.runs.pictures import find_pictures, read_pictures
from tests.runs.photos import write_tiles

SIZE = (3, 32, 32)


def test_files_are_read_as_for_validation(tmp_path: Path) -> None:
    folder = write_tiles(tmp_path / "tiles", count=6)
    options = {"mean": (0.2,), "interpolation": "bicubic", "crop_pct": 0.9}
    splits = load(str(folder), seed=0, batch_size=5, input_size=SIZE, transform=options, test=0.4)
    inputs = Inputs.of(splits)
    expected = {tuple(image.flatten().tolist()) for batch, _ in splits.test for image in batch}
    found = [
        each
        for batch in read_pictures(inputs, find_pictures([folder]), batch_size=4)
        for each in batch
    ]
    assert len(found) == 18
    pixels = [tuple(p.flatten().tolist()) for each in found if (p := each.pixels) is not None]
    assert expected < set(pixels)


def test_workers_read_the_same(tmp_path: Path) -> None:
    folder = write_tiles(tmp_path / "tiles", count=2)
    inputs = Inputs(SIZE, ("a", "b"), "tiles", {"mean": (0.5,), "std": (0.5,)})
    files = find_pictures([folder])
    one, other = (
        [
            each
            for batch in read_pictures(inputs, files, batch_size=4, num_workers=n)
            for each in batch
        ]
        for n in (0, 1)
    )
    assert [each.name for each in one] == [each.name for each in other] == list(map(str, files))
    for mine, same in zip(one, other, strict=True):
        assert mine.pixels is not None
        assert same.pixels is not None
        assert torch.equal(mine.pixels, same.pixels)


def test_folders_are_searched_and_what_is_hidden_is_not(tmp_path: Path) -> None:
    for name in ("b/2.png", "a.PNG", ".hidden.png", ".cache/1.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name, format="PNG")
    assert find_pictures([tmp_path]) == [tmp_path / "a.PNG", tmp_path / "b/2.png"]
    named = [tmp_path / ".hidden.png", tmp_path / "none.png"]
    assert find_pictures(named) == named
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty holds no image"):
        find_pictures([tmp_path / "empty"])


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGB", (40, 40), "red").save(tmp_path / "half.png")
    whole = (tmp_path / "half.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    inputs = Inputs(SIZE, ("a", "b"), "tiles", {"mean": (0.5,), "std": (0.5,)})
    files = [tmp_path / name for name in ("text.png", "half.png", "none.png")]
    [batch] = read_pictures(inputs, files, batch_size=9)
    assert [each.pixels for each in batch] == [None] * 3
    reasons = ("cannot be read as an image", "cannot be read as an image", "there is no such file")
    for each, reason in zip(batch, reasons, strict=True):
        assert reason in each.reason
        assert "\n" not in each.reason


def test_points_are_no_images() -> None:
    inputs = Inputs((2,), ("a", "b"), "moons: 640 to train on")
    with pytest.raises(UsageError, match="was trained on points, not on images: moons"):
        read_pictures(inputs, [], batch_size=1)
