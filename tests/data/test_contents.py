"""Images are known by their bytes, wherever they lie."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fxtransport.data.contents import content_hashes, images_hash
from fxtransport.data.sets import Images, Location, open_set
from fxtransport.errors import UsageError
from tests.data.making import gray, write_folder


def opened(root: Path) -> Images:
    return open_set(str(root), Location()).train


def test_the_hash_of_a_file_is_that_of_its_copy(tmp_path: Path) -> None:
    write_folder(tmp_path / "one", {"ant": 2, "bee": 2})
    shutil.copy(tmp_path / "one/ant/000.png", tmp_path / "one/bee/copy.png")
    hashes = content_hashes(opened(tmp_path / "one"))
    assert hashes is not None
    assert len(hashes) == 5
    assert len(set(hashes)) == 4
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    before = images_hash(opened(tmp_path / "other"))
    assert before == images_hash(opened(tmp_path / "one"))
    # one class for another, with the same files
    (tmp_path / "other/bee/copy.png").rename(tmp_path / "other/ant/copy.png")
    assert images_hash(opened(tmp_path / "other")) != before


def test_images_in_memory_and_of_torchvision(cifar: Path) -> None:
    images = [(gray(1), 0), (gray(2), 1)]
    assert content_hashes(images) is None
    assert images_hash(images) == images_hash([(gray(1), 0), (gray(2), 1)])
    assert images_hash(images) != images_hash([(gray(1), 0), (gray(2), 0)])
    assert images_hash(images) != images_hash([(gray(1), 0), (gray(3), 1)])
    train = open_set("torch/cifar10", Location(cifar)).train
    before = images_hash(train)
    data: np.ndarray = train.data  # type: ignore[attr-defined]
    data[3, 0, 0, 0] += 1
    assert before is not None
    assert images_hash(train) != before


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ant": 2, "bee": 2})
    os.mkfifo(tmp_path / "ant" / "pipe.png")
    with pytest.raises(UsageError, match=r"pipe\.png: not a file"):
        content_hashes(opened(tmp_path))


def test_nothing_tells_what_a_set_of_unknown_make_holds() -> None:
    class Foreign:
        def __len__(self) -> int:
            return 0

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            raise IndexError

    assert images_hash(Foreign()) is None
