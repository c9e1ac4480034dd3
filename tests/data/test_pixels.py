"""Pixels have a size, and become gray as PIL makes them."""

import numpy as np
from PIL import Image

from fxtransport.data.pixels import Pixels


def test_color_becomes_gray_where_one_channel_is_asked_for() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), np.uint8)
    color = Pixels(levels, np.array([0, 1]), ("a", "b"))
    assert color.size == (3, 4, 6)
    assert color.reduced(3) is color
    gray = color.reduced(1)
    assert gray.size == (1, 4, 6)
    assert gray.class_names == color.class_names
    assert np.array_equal(
        gray.levels[1, ..., 0], np.asarray(Image.fromarray(levels[1]).convert("L"))
    )
    assert gray.reduced(1) is gray
    assert gray.reduced(3) is gray
