"""Trees of at most 64 leaves, scored for many rows at once by bit vectors.

A tree's leaves are numbered from the left. Where a comparison fails, the leaves to the left of
that node cannot be reached; the leaf of a row is the first that is left. What the comparisons of
one feature rule out depends only on how many of its sorted thresholds are below the row's value,
so for each feature a table has a word for that number and each tree, and a row is scored by one
search, one gather and one AND for each feature (QuickScorer: Lucchese et al., SIGIR 2015, with
tables in place of its loops over false nodes).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_LEAVES = 64
_ROWS_AT_ONCE = 512
_EXPONENT = 1023
_MANTISSA_BITS = 52

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Nodes:
    """The nodes of some trees, as a forest holds them; children are indices among these nodes."""

    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float32]


class BitVectors:
    """Some trees of a forest, as tables of words.

    Args:
        nodes: Their nodes. No tree has more than :data:`MOST_LEAVES` leaves.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._trees = len(nodes.roots)
        count, first = _leaf_ranges(nodes)
        sizes = np.diff(np.append(nodes.roots, len(nodes.feature)))
        tree = np.repeat(np.arange(self._trees), sizes)
        split = np.flatnonzero(nodes.left >= 0)
        masks = np.full(len(nodes.feature), ~np.uint64(0))
        reach = (np.uint64(1) << count[nodes.left[split]]) - np.uint64(1)
        masks[split] = ~(reach << first[split])
        self._tables = []
        for column in np.unique(nodes.feature[split]):
            own = np.flatnonzero(nodes.feature == column)
            own = own[np.argsort(nodes.threshold[own], kind="stable")]
            table = np.full((len(own) + 1, self._trees), ~np.uint64(0))
            table[np.arange(1, len(own) + 1), tree[own]] = masks[own]
            np.bitwise_and.accumulate(table, axis=0, out=table)
            self._tables.append((int(column), nodes.threshold[own], table))
        leaf = np.flatnonzero(nodes.left < 0)
        self._values = np.zeros(self._trees * MOST_LEAVES)
        self._values[tree[leaf] * MOST_LEAVES + first[leaf].astype(np.int64)] = nodes.value[leaf]

    def sums(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """The sum over these trees of the values of the leaves of each row: N."""
        result = np.empty(len(rows))
        size = min(_ROWS_AT_ONCE, len(rows))
        words, ruled = (np.empty((size, self._trees), dtype=np.uint64) for _ in range(2))
        offsets = np.arange(self._trees) * MOST_LEAVES
        for first in range(0, len(rows), size):
            part = rows[first : first + size].T
            left, taken = words[: part.shape[1]], ruled[: part.shape[1]]
            left[:] = ~np.uint64(0)
            for column, thresholds, table in self._tables:
                below = np.searchsorted(thresholds, part[column])
                np.take(table, below, axis=0, out=taken, mode="clip")
                np.bitwise_and(left, taken, out=left)
            leaf = _lowest_bit(left)
            leaf += offsets
            result[first : first + size] = self._values.take(leaf).sum(1)
        return result


def _lowest_bit(words: Words) -> NDArray[np.int64]:
    """The index of the lowest bit that is set in each word, read off the exponent of a double."""
    lowest = words & (~words + np.uint64(1))
    exponents = lowest.astype(np.float64).view(np.int64)
    exponents >>= _MANTISSA_BITS
    exponents -= _EXPONENT
    return exponents


def _leaf_ranges(nodes: Nodes) -> tuple[Words, Words]:
    """How many leaves are below each node, and the number of the first of them in its tree."""
    left, right = nodes.left, nodes.right
    levels = []
    inner = nodes.roots[left[nodes.roots] >= 0]
    while len(inner):
        levels.append(inner)
        children = np.concatenate([left[inner], right[inner]])
        inner = children[left[children] >= 0]
    count = np.ones(len(left), dtype=np.uint64)
    for inner in reversed(levels):
        count[inner] = count[left[inner]] + count[right[inner]]
    first = np.zeros(len(left), dtype=np.uint64)
    for inner in levels:
        first[left[inner]] = first[inner]
        first[right[inner]] = first[inner] + count[left[inner]]
    return count, first
