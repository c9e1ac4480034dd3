"""Tiles of ten photographs that come with scikit-learn and scikit-image."""

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fxtransport.data.pixels import Pixels
from fxtransport.errors import UsageError

PHOTOGRAPHS = {
    "astronaut": ("skimage.data", "astronaut.png"),
    "cat": ("skimage.data", "chelsea.png"),
    "coffee": ("skimage.data", "coffee.png"),
    "flower": ("sklearn.datasets.images", "flower.jpg"),
    "galaxies": ("skimage.data", "hubble_deep_field.jpg"),
    "motorcycle": ("skimage.data", "motorcycle_left.png"),
    "retina": ("skimage.data", "retina.jpg"),
    "rocket": ("skimage.data", "rocket.jpg"),
    "temple": ("sklearn.datasets.images", "china.jpg"),
    "tissue": ("skimage.data", "ihc.png"),
}
"""The file of each photograph, in color, and the package that ships it."""
AREA = 512
"""At most this many pixels of each side are used, in the middle of a photograph."""
TILES = (32, 64)


def read_patches(tile: int = 32) -> Pixels:
    """Square tiles of ten photographs; the class is the photograph that a tile comes from.

    Tiles lie side by side in the middle 512×512 pixels of each photograph, or as much of them
    as there is, so no two share a pixel: 2204 tiles of 32×32, from 126 to 256 of a photograph,
    or 532 of 64×64, from 28 to 64. A tile that equals an earlier one is left out.

    Args:
        tile: The side of a tile, 32 or 64 pixels.

    Raises:
        UsageError: tiles are of another size, scikit-image is not installed, or it does not
            ship a photograph.
    """
    if tile not in TILES:
        raise UsageError(f"tile is 32 or 64 pixels, not {tile!r}")
    found: dict[bytes, NDArray[np.uint8]] = {}
    classes = []
    for number, (package, file) in enumerate(PHOTOGRAPHS.values()):
        for one in _tiles(_read_photograph(package, file), tile):
            if one.tobytes() not in found:
                found[one.tobytes()] = one
                classes.append(number)
    return Pixels(np.stack([*found.values()]), np.array(classes, np.int64), tuple(PHOTOGRAPHS))


def _read_photograph(package: str, file: str) -> NDArray[np.uint8]:
    """Its pixels, H×W×3."""
    try:
        path: Traversable = files(package) / file
    except ImportError as error:
        raise UsageError(
            "patches come with scikit-image, which is not installed: "
            "pip install 'fxtransport[photographs]'"
        ) from error
    try:
        with path.open("rb") as opened:
            return np.asarray(Image.open(opened).convert("RGB"))
    except OSError as error:
        raise UsageError(
            f"patches: {package} has no photograph {file} that can be read ({error}); install "
            "a release that ships it: pip install 'scikit-image>=0.22'"
        ) from error


def _tiles(photograph: NDArray[np.uint8], side: int) -> Iterator[NDArray[np.uint8]]:
    """The tiles in the middle of a photograph, row by row."""
    starts = []
    for length in photograph.shape[:2]:
        count = min(length, AREA) // side
        first = (length - count * side) // 2
        starts.append([first + side * i for i in range(count)])
    for top in starts[0]:
        for left in starts[1]:
            yield photograph[top : top + side, left : left + side]
