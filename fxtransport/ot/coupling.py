"""Sparse plans: who gives how much mass to whom."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
Indices = NDArray[np.int64]

_NOTHING = 1e-14
"""A share of all mass that is left out: it comes from rounding."""


class Coupling(NamedTuple):
    """A sparse plan: mass_k goes from row rows_k to column columns_k."""

    rows: Indices
    columns: Indices
    mass: Weights

    def turned(self) -> "Coupling":
        """The plan in the other direction."""
        return Coupling(self.columns, self.rows, self.mass)

    def where(self, kept: NDArray[np.bool_]) -> "Coupling":
        """The plan of some edges."""
        return Coupling(self.rows[kept], self.columns[kept], self.mass[kept])

    def marginal_error(self, a: Weights, b: Weights) -> float:
        """By how much the plan's sums differ from the weights, added up."""
        first = np.bincount(self.rows, self.mass, len(a))
        second = np.bincount(self.columns, self.mass, len(b))
        return float(np.abs(first - a).sum() + np.abs(second - b).sum())


def staircase(a: Weights, b: Weights) -> Coupling:
    """The north-west corner plan: mass in the order of rows and columns."""
    first, second = np.cumsum(a)[:-1], np.cumsum(b)[:-1]
    ends = np.union1d(first, second)
    mass = np.diff(ends, prepend=0.0, append=a.sum())
    rows = np.append(0, np.searchsorted(first, ends, side="right"))
    columns = np.append(0, np.searchsorted(second, ends, side="right"))
    return Coupling(rows, columns, mass).where(mass > _NOTHING * a.sum())


def split_rows(plan: Coupling, group: Indices, weights: Weights) -> Coupling:
    """Give the mass of each group of rows to its members, in order.

    Args:
        plan: A plan whose rows are groups.
        group: The group of each member; groups are numbered from 0.
        weights: The weight of each member.

    Returns:
        A plan whose rows are the members.
    """
    counts = np.bincount(group)
    alone = np.argsort(group, kind="stable")[np.cumsum(counts) - counts]
    single = counts[plan.rows] == 1
    kept = Coupling(alone[plan.rows[single]], plan.columns[single], plan.mass[single])
    return joined([kept, *_divided(plan, group, np.flatnonzero(counts > 1), weights)])


def _divided(
    plan: Coupling, group: Indices, numbers: Indices, weights: Weights
) -> Iterator[Coupling]:
    """The plans of the members of some groups."""
    for number in numbers:
        members, edges = np.flatnonzero(group == number), np.flatnonzero(plan.rows == number)
        stairs = staircase(weights[members], plan.mass[edges])
        yield Coupling(members[stairs.rows], plan.columns[edges[stairs.columns]], stairs.mass)


def joined(plans: Sequence[Coupling]) -> Coupling:
    """One plan of the edges of several."""
    return Coupling(
        np.concatenate([plan.rows for plan in plans]),
        np.concatenate([plan.columns for plan in plans]),
        np.concatenate([plan.mass for plan in plans]),
    )
