"""Pictures of images after each block, as a decoder shows them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from fxtransport.errors import UsageError
from fxtransport.ot.clouds import Movement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE = 0.75
"""Inches of an image."""
_PANEL = 2
"""How many rows of images the panel below has the height of."""


def draw_decoded(columns: Sequence[Tensor], movements: Sequence[Movement]) -> "Figure":
    """Draw a row for each image, and below it how far each block moves all that were measured.

    THESIS F.2, figures 29 and 30.

    Args:
        columns: The images, what the autoencoder makes of them, and what is decoded after each
            block: N×C×H×W, pixels from 0 to 1.
        movements: Of the identity blocks.

    Raises:
        UsageError: the images have neither one channel nor three.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    count, channels = columns[0].shape[:2]
    if channels not in (1, 3):
        raise UsageError(f"images with 1 or 3 channels can be drawn, not with {channels}")
    figure = Figure(
        figsize=(_SIDE * len(columns), _SIDE * (count + _PANEL + 0.5)), layout="constrained"
    )
    grid = figure.add_gridspec(count + _PANEL, len(columns))
    heads = ["image", "encoder", *(f"block {n + 1}" for n in range(len(columns) - 2))]
    for place, (head, images) in enumerate(zip(heads, columns, strict=True)):
        for row, image in enumerate(images):
            axis = figure.add_subplot(grid[row, place])
            pixels = image.movedim(0, -1).numpy()
            axis.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(head, fontsize=8)
    below = figure.add_subplot(grid[count:, 2:])
    numbers = [each.block + 1 for each in movements]
    below.plot(numbers, [each.displacement for each in movements], "C0o-", label="displacement")
    below.plot(numbers, [each.distance for each in movements], "C1.--", label="W₂")
    # each block below its own column
    below.set_xlim(0.5, len(columns) - 1.5)
    below.set_ylim(0, 1.1 * max(each.displacement for each in movements) or 1)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.tick_params(labelsize=8)
    below.set_xlabel("block", fontsize=8)
    below.legend(fontsize=8)
    return figure
