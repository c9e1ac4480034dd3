"""Exact cuts of a line into parts, and the costs of ranges that share items.

Points 0 … M-1 lie on a line. A part runs from one point to a later one, so a partition into
K parts is a path of K steps from the first point to the last. Goals are optimized one after
the other: each keeps only the steps that lie on paths which are best for it and for all
goals before it. Everything is computed in integers.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.int64]
"""The cost of the part from point i to point j, at [i, j]."""
Steps = NDArray[np.bool_]
"""Whether a part may run from point i to point j, at [i, j]; for K parts, at [k, i, j]."""

_LIMIT = 2**62


@dataclass(frozen=True)
class Heaviest:
    """The heaviest part is to be as light as possible."""

    cost: Matrix


@dataclass(frozen=True)
class Total:
    """The sum over all parts is to be as small as possible."""

    cost: NDArray[Any]
    """Of 64-bit integers, or of Python's."""


Goal = Heaviest | Total


def range_costs(stretches: Sequence[Mapping[Hashable, int]]) -> Matrix:
    """The cost of every range of stretches, in which each item counts once.

    Args:
        stretches: For each stretch between two points, the items in it and what each costs;
            an item costs the same wherever it is.

    Returns:
        A matrix of one more row and column than there are stretches; [i, j] is what the
        stretches i … j-1 cost together.
    """
    size = len(stretches) + 1
    # an item counts in a range at its first occurrence there: with the previous one at p and
    # this one at s, that is in the ranges that start in p+1 … s and end after s
    steps = np.zeros((size + 1, size + 1), dtype=np.int64)
    last: dict[Hashable, int] = {}
    for s, items in enumerate(stretches):
        for item, cost in items.items():
            steps[last.get(item, -1) + 1, s + 1] += cost
            steps[s + 1, s + 1] -= cost
            last[item] = s
    summed: Matrix = steps.cumsum(axis=0).cumsum(axis=1)
    return np.triu(summed[:size, :size], 1)


def squares(cost: Matrix, parts: int) -> NDArray[Any]:
    """Squared costs, up to a common factor; in Python's integers if sums could overflow."""
    unit = int(np.gcd.reduce(cost, axis=None)) or 1
    scaled = cost // unit
    if parts * int(scaled.max()) ** 2 < _LIMIT // 4:
        return scaled * scaled
    exact: NDArray[Any] = scaled.astype(object) ** 2
    return exact


def most_parts(allowed: Steps) -> int:
    """The largest number of parts that allowed steps from the first to the last point make."""
    longest = [0] + [-1] * (len(allowed) - 1)
    for j in range(1, len(allowed)):
        before = [longest[i] for i in np.flatnonzero(allowed[:j, j]) if longest[i] >= 0]
        longest[j] = max(before, default=-2) + 1
    return max(longest[-1], 0)


def best_cuts(allowed: Steps, parts: int, goals: Sequence[Goal]) -> list[int]:
    """Where to cut so that the goals are met, the first one first.

    Among cuts that are equally good for all goals, those as late as possible are taken.
    O(goals · parts · points²).

    Args:
        allowed: Which steps a part may make; some path of ``parts`` steps must exist.
        parts: The number of parts.
        goals: At least one.

    Returns:
        The points between the parts, in order; one fewer than there are parts.
    """
    steps: Steps = np.broadcast_to(allowed, (parts, *allowed.shape))
    # the last one costs nothing: it only drops steps that lead nowhere
    for goal in (*goals, Total(np.zeros_like(allowed, dtype=np.int64))):
        steps = _on_best_paths(steps, goal)
    point, cuts = 0, []
    for k in range(parts - 1):
        point = int(np.flatnonzero(steps[k, point])[-1])
        cuts.append(point)
    return cuts


def lightest_bottleneck(cost: Matrix, allowed: Steps, parts: int) -> int:
    """The cost of the heaviest part where it is lightest; some such path must exist."""
    return _lightest(np.broadcast_to(allowed, (parts, *allowed.shape)), cost)


def limit_with_fees(cost: Matrix, fees: Matrix, allowed: Steps, parts: int) -> int:
    """The cost of the heaviest part where it is lightest together with the fees of all parts.

    Among equally good ones, the lightest. Some path of ``parts`` steps must exist.
    """
    steps = np.broadcast_to(allowed, (parts, *allowed.shape))
    least = _cheapest(steps, fees)
    limit = lightest_bottleneck(cost, allowed, parts)
    best = (limit + _cheapest(steps & (cost <= limit), fees), limit)
    for value in np.unique(cost[allowed & (cost > limit)]):
        # no fees are less than these
        if value + least >= best[0]:
            break
        best = min(best, (int(value) + _cheapest(steps & (cost <= value), fees), int(value)))
    return best[1]


def minimal_bottleneck(cost: Matrix, allowed: Steps, parts: int) -> list[int]:
    """The cuts whose heaviest part is lightest and, among those, the most even.

    Evenness is the sum of squares. See :func:`best_cuts`.
    """
    return best_cuts(allowed, parts, [Heaviest(cost), Total(squares(cost, parts))])


def _on_best_paths(steps: Steps, goal: Goal) -> Steps:
    """The steps that lie on paths which are best for a goal."""
    if isinstance(goal, Heaviest):
        return steps & (goal.cost <= _lightest(steps, goal.cost))
    cost = goal.cost
    never = len(steps) * int(cost.max()) + 1  # more than any path costs
    at_end: NDArray[Any] = np.full(len(cost), never, dtype=cost.dtype)
    at_end[-1] = 0
    ahead = [at_end]
    for allowed in steps[::-1]:
        cheapest = np.where(allowed, cost + ahead[-1], never).min(axis=1)
        ahead.append(np.minimum(cheapest, never))
    ahead.reverse()
    found = np.zeros_like(steps)
    here = np.zeros(len(cost), dtype=np.bool_)
    here[0] = True
    for k, allowed in enumerate(steps):
        best = cost + ahead[k + 1] == ahead[k][:, None]
        found[k] = allowed & best & here[:, None] & (ahead[k] < never)[:, None]
        here = found[k].any(axis=0)
    return found


def _cheapest(steps: Steps, cost: Matrix) -> int:
    """The smallest possible sum of the costs of a path's steps; some path must exist."""
    never = len(steps) * int(cost.max()) + 1
    ahead = np.full(len(cost), never, dtype=np.int64)
    ahead[-1] = 0
    for allowed in steps[::-1]:
        ahead = np.minimum(np.where(allowed, cost + ahead, never).min(axis=1), never)
    return int(ahead[0])


def _lightest(steps: Steps, cost: Matrix) -> int:
    """The smallest possible cost of the heaviest step of a path."""
    never = int(cost.max()) + 1
    ahead = np.full(len(cost), never, dtype=np.int64)
    ahead[-1] = 0
    for allowed in steps[::-1]:
        ahead = np.where(allowed, np.maximum(cost, ahead), never).min(axis=1)
    return int(ahead[0])
