"""A decoder of the maps that an encoder makes of images."""

from typing import TypeAlias

from torch import nn

from fxtransport.errors import UsageError

Size: TypeAlias = tuple[int, ...]


class Decoder(nn.Sequential):
    """An image from a hidden map: its size is doubled as often as needed, then it gets its colors.

    A transposed convolution of kernel 5 and a ReLU double the size and halve the channels; a
    convolution of kernel 3 ends. Where map and image have one size, a convolution of kernel 3
    takes the place of the first. From the authors' program of LAP: kernels, strides and channels.
    Theirs ends in tanh; this one does not, because the pixels of normalized images go beyond 1.

    Args:
        hidden: The shape of the map, (C, H, W).
        image: The shape of the image, (C, H, W), of 1, 2, 4, … times the height and width.

    Raises:
        UsageError: the map has another shape.

    >>> import torch
    >>> Decoder((32, 14, 14), (1, 28, 28))(torch.zeros(5, 32, 14, 14)).shape
    torch.Size([5, 1, 28, 28])
    """

    def __init__(self, hidden: Size, image: Size) -> None:
        channels, doublings = _channels_and_doublings(hidden, image)
        layers: list[nn.Module] = []
        for _ in range(max(1, doublings)):
            fewer = max(1, channels // 2)
            layers += [_layer(channels, fewer, doubles=doublings > 0), nn.ReLU(inplace=True)]
            channels = fewer
        super().__init__(*layers, nn.Conv2d(channels, image[0], 3, padding=1))
        self.hidden = hidden
        self.image = image


def _layer(channels: int, fewer: int, *, doubles: bool) -> nn.Module:
    if not doubles:
        return nn.Conv2d(channels, fewer, 3, padding=1)
    return nn.ConvTranspose2d(channels, fewer, 5, stride=2, padding=2, output_padding=1)


def _channels_and_doublings(hidden: Size, image: Size) -> tuple[int, int]:
    if len(hidden) == len(image) == 3:
        channels, height, width = hidden
        factor = image[1] // max(1, height)
        power = factor > 0 and factor & (factor - 1) == 0
        if power and (height * factor, width * factor) == (image[1], image[2]):
            return channels, factor.bit_length() - 1
    raise UsageError(
        f"a decoder makes images of {_text(image)} from maps C×H×W whose size doubles to theirs, "
        f"not from {_text(hidden)}"
    )


def _text(shape: Size) -> str:
    return "×".join(map(str, shape))
