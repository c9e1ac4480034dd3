"""Which of the sizes of a boundary's head a part has."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxtransport.ir import PlannedHead


def sizes_of(head: PlannedHead) -> tuple[PlannedHead, ...]:
    """A head in all its sizes, those to prefer last."""
    return (head, *head.larger)


def choose_sizes(
    head: PlannedHead, flops: NDArray[Any], activation_bytes: NDArray[Any]
) -> NDArray[np.int64]:
    """The positions, in :func:`sizes_of`, of the sizes that parts have.

    Args:
        head: The head of the boundary in which the parts end.
        flops: What each part costs without a head.
        activation_bytes: What each part saves for backward without a head.

    Returns:
        For each part the last size that it is large enough for.
    """
    chosen = np.zeros(flops.shape, dtype=np.int64)
    for position, size in enumerate(head.larger, start=1):
        fits = (flops >= size.least_flops) & (activation_bytes >= size.least_activation_bytes)
        chosen[fits] = position
    return chosen


def choose_size(head: PlannedHead, flops: int, activation_bytes: int) -> PlannedHead:
    """The head in the size that a part has, which costs as much without a head."""
    position = choose_sizes(head, np.array(flops), np.array(activation_bytes))
    return sizes_of(head)[int(position)]
