"""From the value of a layer to the activations of its neurons, sample by sample."""

import math
from collections.abc import Sequence

import torch

from fxtransport.errors import UsageError

Pool = str | int
"""``mean``, ``none``, or a number of positions."""


def check_pool(pool: Pool) -> None:
    """Refuse what is not a way to pool.

    Raises:
        UsageError: it is neither ``mean`` nor ``none`` nor a number of positions.
    """
    if pool in ("mean", "none") or (type(pool) is int and pool >= 1):
        return
    raise UsageError(f"pool is 'mean', 'none' or a number of positions, not {pool!r}")


def parse_pool(text: str) -> Pool:
    """The way to pool that a text names.

    >>> parse_pool("mean"), parse_pool("16")
    ('mean', 16)

    Raises:
        UsageError: it names none.
    """
    pool: Pool = int(text) if text.isdecimal() else text
    check_pool(pool)
    return pool


def positions_of(shape: Sequence[int], channels: int) -> tuple[int, ...]:
    """The sizes of a layer's dimensions other than batch and channels.

    Args:
        shape: Of the layer, without the batch.
        channels: The dimension of the channels, counted with the batch.

    >>> positions_of((64, 8, 8), 1), positions_of((197, 192), 2), positions_of((64,), 1)
    ((8, 8), (197,), ())
    """
    return tuple(size for i, size in enumerate(shape) if i != channels - 1)


def activations_of(value: torch.Tensor, channels: int, pool: Pool) -> torch.Tensor:
    """The activations of a layer's neurons, in float32 at least.

    Args:
        value: What the layer computes: B×C, B×C×H×W, B×N×C, ….
        channels: The dimension of the channels.
        pool: ``mean``: over all positions. ``none``: each position counts as a sample. A number:
            that number of positions count as samples, spread evenly, at the same relative places of
            any map.

    Returns:
        B×C for ``mean``, and where there is a single vector for each sample; else B×P×C.

    Raises:
        UsageError: the layer has as many positions as are asked for, or fewer.
    """
    value = value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if value.dim() == 2:
        return value
    sizes = tuple(value.movedim(channels, -1).shape[1:-1])
    flat = value.movedim(channels, -1).flatten(1, -2)
    if pool == "mean":
        return flat.mean(1)
    if pool == "none":
        return flat
    assert isinstance(pool, int)
    return flat[:, list(spread_positions(sizes, pool))]


def spread_positions(sizes: tuple[int, ...], count: int) -> tuple[int, ...]:
    """The flat indices of positions that are spread evenly over a map.

    They are those of a Kronecker sequence with the steps of the generalized golden ratio, whose
    points fill a cube evenly however many there are.

    Args:
        sizes: The sizes of the map.
        count: How many positions.

    >>> spread_positions((8,), 4), spread_positions((4, 4), 4)
    ((0, 5, 2, 7), (4, 2, 12, 11))

    Raises:
        UsageError: the map has as many positions, or fewer.
    """
    total = math.prod(sizes)
    if count >= total:
        raise UsageError(
            f"pool={count} takes {count} positions of a layer that has {total}; take a smaller "
            "number, or pool='none' for all"
        )
    steps = _steps(len(sizes))
    found: dict[int, None] = {}
    i = 0
    while len(found) < count:
        i += 1
        index = 0
        for size, step in zip(sizes, steps, strict=True):
            index = index * size + int((0.5 + i * step) % 1 * size)
        found.setdefault(index)
    return tuple(found)


def _steps(dimensions: int) -> tuple[float, ...]:
    """Powers of 1/φ, where φ is the positive root of φ^(dimensions + 1) = φ + 1."""
    ratio = 2.0
    for _ in range(64):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    return tuple(ratio ** -(i + 1) for i in range(dimensions))
