"""Units: what of a network can only be reordered together.

A unit is an index of one dimension of one parameter or buffer: row 3 of ``fc1.weight``, number 3
of ``fc1.bias``, column 3 of ``fc2.weight``. Units that one neuron owns are united. Unit 0 stands
for everything whose order is fixed: the input, the output, and the residual stream.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
FIXED = 0


@dataclass(frozen=True)
class Place:
    """Where a unit is: an index of a dimension of a parameter or buffer."""

    name: str
    dim: int
    index: int


class Units:
    """A union-find of units, with the blocks that they are in and the way each was used."""

    def __init__(self) -> None:
        self._parents = np.zeros(1, dtype=np.int64)
        self.places: dict[int, Place] = {}
        """The place of each unit that has one; blocks have none."""
        self.colors: dict[int, int] = {}
        """Units of one dimension that are not all used alike differ in color."""
        self.inside: dict[int, int] = {}
        """The block of each unit that is in one, such as an attention head."""
        self.pinned: set[int] = set()
        """Blocks whose own order is fixed."""
        self.uses: dict[str, int] = {}
        """The number of the operation that first reads a parameter or buffer."""
        self._recolored: dict[tuple[int, object], int] = {}

    def new(self, count: int) -> Ids:
        """More units, without places."""
        first = len(self._parents)
        fresh = np.arange(first, first + count, dtype=np.int64)
        self._parents = np.concatenate([self._parents, fresh])
        return fresh

    def of_dimension(self, name: str, dim: int, size: int) -> Ids:
        """The units of a dimension of a parameter or buffer."""
        fresh = self.new(size)
        self.places |= {int(unit): Place(name, dim, i) for i, unit in enumerate(fresh)}
        return fresh

    def canonical(self, units: Ids) -> Ids:
        """The unit that stands for all that each is united with."""
        found = units
        while True:
            above = self._parents[found]
            if (above == found).all():
                break
            found = above
        self._parents[units] = found
        return found

    def unite(self, some: Ids, others: Ids) -> None:
        """Unite units pairwise; arrays of one shape."""
        pairs = np.stack([some.ravel(), others.ravel()], axis=1)
        for one, other in np.unique(pairs, axis=0).tolist():
            low, high = sorted((self.root(one), self.root(other)))
            # the lowest stands for all, so that 0 stands for whatever is united with it
            self._parents[high] = low

    def fix(self, units: Ids) -> None:
        """Fix the order of units."""
        self.unite(units, np.zeros_like(units))

    def put_inside(self, units: Ids, blocks: Ids) -> None:
        """Note which block each unit is in; arrays of one shape.

        A unit that would be in two blocks makes the order of both fixed.
        """
        pairs = np.stack([self.canonical(units).ravel(), self.canonical(blocks).ravel()], axis=1)
        for unit, block in np.unique(pairs, axis=0).tolist():
            known = self.inside.setdefault(unit, block)
            if self.root(known) != self.root(block):
                self.fix(np.array([unit, known, block], dtype=np.int64))

    def recolor(self, units: Iterable[int], how: object) -> None:
        """Note that some units of a dimension are used in a way in which others are not."""
        for unit in units:
            key = (self.colors.get(unit, 0), how)
            self.colors[unit] = self._recolored.setdefault(key, len(self._recolored) + 1)

    def root(self, unit: int) -> int:
        """The unit that stands for all that one is united with."""
        parents = self._parents
        while parents[unit] != unit:
            parents[unit] = parents[parents[unit]]
            unit = int(parents[unit])
        return unit
