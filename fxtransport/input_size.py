"""The size of a model's input, as users write it: ``N``, ``HxW`` or every dimension."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fxtransport.errors import UsageError

SizeLike = int | str | Sequence[int]
"""How a size is given: ``32``, ``"32x48"``, ``"3,32,48"`` or ``(3, 32, 48)``."""

_IMAGE = re.compile(r"(\d+)(?:x(\d+))?")
_SHAPE = re.compile(r"\d+(?:,\d+)*,?")


@dataclass(frozen=True)
class InputSize:
    """The size of one input, without the batch dimension.

    Args:
        sizes: All of its dimensions; or one number, or height and width.
        is_shape: Whether these are all of its dimensions.
    """

    sizes: tuple[int, ...]
    is_shape: bool

    @classmethod
    def parse(cls, size: "SizeLike | InputSize") -> "InputSize":
        """The size that a number, a text or a shape describes.

        >>> InputSize.parse(32), InputSize.parse("32x48")
        (InputSize(sizes=(32,), is_shape=False), InputSize(sizes=(32, 48), is_shape=False))
        >>> InputSize.parse("3,32,48") == InputSize.parse((3, 32, 48))
        True

        Raises:
            UsageError: it is not a valid size.
        """
        if isinstance(size, InputSize):
            return size
        text = str(size).replace(" ", "")
        if not isinstance(size, int | str):
            text = ",".join(str(number) for number in size) + ","
        if image := _IMAGE.fullmatch(text):
            sizes, is_shape = [n for n in image.groups() if n is not None], False
        elif _SHAPE.fullmatch(text):
            sizes, is_shape = text.strip(",").split(","), True
        else:
            sizes, is_shape = [], False
        numbers = tuple(int(n) for n in sizes)
        if not numbers or min(numbers) < 1:
            raise UsageError(
                f"{size!r} is not a valid size of an input: write N, HxW or C,H,W, such as 32, "
                "32x48 or 3,32,48"
            )
        return cls(numbers, is_shape)

    def shape(self, own: tuple[int, ...] | None) -> tuple[int, ...]:
        """The input's shape, without the batch dimension.

        Args:
            own: The shape that the model takes otherwise; None if it is not known.

        >>> InputSize.parse(32).shape((3, 224, 224)), InputSize.parse(5).shape((8,))
        ((3, 32, 32), (5,))

        Raises:
            UsageError: there is only a height and width, and the input is not an image, or the
                number of its channels is not known.
        """
        if self.is_shape:
            return self.sizes
        if own is None:
            raise UsageError(
                f"the model does not say how many channels its input has, so {self} is not "
                "enough: give every dimension, such as 3,32,48"
            )
        if len(own) == len(self.sizes) == 1:
            return self.sizes
        if len(own) < 3:
            raise UsageError(
                f"the input is not an image, its shape is {'×'.join(map(str, own))}: give every "
                "dimension of the size, separated by commas"
            )
        return (*own[:-2], self.sizes[0], self.sizes[-1])

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        """Of an image; None for a vector."""
        if self.is_shape and len(self.sizes) < 3:
            return None
        height, width = self.sizes[-2:] if len(self.sizes) > 1 else self.sizes * 2
        return height, width

    def __str__(self) -> str:
        """The text form: ``32``, ``32x48``, ``3,32,48``; ``8,`` for a vector."""
        if not self.is_shape:
            return "x".join(map(str, self.sizes))
        return ",".join(map(str, self.sizes)) + ("," if len(self.sizes) == 1 else "")
