"""The decoder doubles the size of maps to that of images."""

import pytest
import torch
from torch import nn

from fxtransport.errors import UsageError
from fxtransport.nets import Decoder


@pytest.mark.parametrize(
    ("hidden", "image", "channels"),
    [
        ((32, 14, 14), (1, 28, 28), [32, 16, 1]),
        ((100, 8, 8), (3, 32, 32), [100, 50, 25, 3]),
        ((4, 6, 10), (3, 6, 10), [4, 2, 3]),
        ((1, 3, 5), (1, 6, 10), [1, 1, 1]),
    ],
)
def test_maps_become_images(
    hidden: tuple[int, ...], image: tuple[int, ...], channels: list[int]
) -> None:
    decoder = Decoder(hidden, image)
    assert decoder(torch.randn(2, *hidden)).shape == (2, *image)
    layers = [m for m in decoder if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert [layers[0].in_channels, *(layer.out_channels for layer in layers)] == channels


@pytest.mark.parametrize(
    ("hidden", "image"),
    [
        ((8, 5, 5), (1, 15, 15)),
        ((8, 4, 4), (1, 8, 16)),
        ((8, 16, 16), (1, 8, 8)),
        ((16, 64), (3, 32, 32)),
        ((), (1, 8, 8)),
        ((8, 0, 0), (1, 8, 8)),
    ],
)
def test_other_shapes(hidden: tuple[int, ...], image: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="whose size doubles to theirs, not from"):
        Decoder(hidden, image)
