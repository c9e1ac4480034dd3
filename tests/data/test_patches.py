"""Tiles are pieces of the photographs, and no two share a pixel."""

import sys
from importlib.resources import files

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from sklearn import datasets

from fxtransport.data import load
from fxtransport.data.patches import PHOTOGRAPHS, read_patches
from fxtransport.errors import UsageError


def photograph(name: str) -> NDArray[np.uint8]:
    package, file = PHOTOGRAPHS[name]
    with (files(package) / file).open("rb") as opened:
        return np.asarray(Image.open(opened))


def test_photographs_are_those_that_the_libraries_give() -> None:
    assert np.array_equal(photograph("cat"), data.chelsea())
    assert np.array_equal(photograph("retina"), data.retina())
    assert np.array_equal(photograph("temple"), datasets.load_sample_image("china.jpg"))


@pytest.mark.parametrize(("tile", "count", "fewest"), [(32, 2204, 126), (64, 532, 28)])
def test_tiles_are_disjoint_pieces_of_the_photograph(tile: int, count: int, fewest: int) -> None:
    pixels = read_patches(tile)
    assert pixels.levels.shape == (count, tile, tile, 3)
    counts = np.bincount(pixels.classes)
    assert (counts.min(), counts.max()) == (fewest, (512 // tile) ** 2)
    for number, name in enumerate(pixels.class_names):
        whole = photograph(name)
        used = np.zeros(whole.shape[:2], int)
        own = {one.tobytes() for one in pixels.levels[pixels.classes == number]}
        assert len(own) == counts[number]
        height, width = (min(length, 512) // tile * tile for length in whole.shape[:2])
        top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
        for row in range(top, top + height, tile):
            for column in range(left, left + width, tile):
                place = np.s_[row : row + tile, column : column + tile]
                if whole[place].tobytes() in own:
                    own.remove(whole[place].tobytes())
                    used[place] += 1
        assert not own
        assert used.max() == 1


def test_tiles_of_64_are_asked_for_by_an_option() -> None:
    splits = load("patches", seed=0, batch_size=16, tile=64)
    assert (splits.input_size, splits.test.num_samples) == ((3, 64, 64), 107)
    with pytest.raises(UsageError, match=r"^tile is 32 or 64 pixels, not 48$"):
        load("patches", seed=0, batch_size=16, tile=48)


def test_without_scikit_image_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "skimage"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(UsageError, match=r"pip install 'fxtransport\[photographs\]'$"):
        load("patches", seed=0, batch_size=8)


def test_a_photograph_that_is_not_shipped_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PHOTOGRAPHS, "cat", ("skimage.data", "no_cat.png"))
    with pytest.raises(UsageError, match=r"skimage\.data has no photograph no_cat\.png"):
        load("patches", seed=0, batch_size=8)
