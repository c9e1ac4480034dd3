"""What a set of images is made of, before it is split."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True, eq=False)
class Pixels:
    """Images of one size in memory, and their classes.

    Attributes:
        levels: N×H×W×C, uint8, from 0 to ``highest``.
        classes: N, int64.
        class_names: The names of the classes, in order.
        highest: The highest level that a pixel may have.
    """

    levels: NDArray[np.uint8]
    classes: NDArray[np.int64]
    class_names: tuple[str, ...]
    highest: int = 255

    @property
    def size(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        _, height, width, channels = self.levels.shape
        return channels, height, width

    def reduced(self, channels: int) -> Self:
        """The same in gray where one channel is asked for, as PIL converts color; else itself."""
        if channels != 1 or self.size[0] == 1:
            return self
        gray = [np.asarray(Image.fromarray(image).convert("L")) for image in self.levels]
        return replace(self, levels=np.stack(gray)[..., None])
