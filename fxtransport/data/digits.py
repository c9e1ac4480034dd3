"""Handwritten digits that come with scikit-learn."""

from fxtransport.data.pixels import Pixels

DIGITS = tuple("0123456789")


def read_digits() -> Pixels:
    """1797 handwritten digits of 8×8 pixels (UCI, from scikit-learn); levels are 0 to 16."""
    from sklearn import datasets

    loaded = datasets.load_digits()
    levels = loaded.images.astype("uint8")[..., None]
    return Pixels(levels, loaded.target.astype("int64"), DIGITS, highest=16)
