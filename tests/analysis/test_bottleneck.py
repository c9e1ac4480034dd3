"""The solver against brute force, on random costs."""

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from fxtransport.analysis.bottleneck import minimal_bottleneck, most_parts, range_costs

ITEMS = st.dictionaries(st.integers(0, 5), st.just(1), max_size=3)


def paths(allowed: np.ndarray, parts: int) -> list[tuple[int, ...]]:
    """Every path of this many allowed steps from the first point to the last."""
    last = len(allowed) - 1
    inner = combinations(range(1, last), parts - 1)
    found = [(0, *points, last) for points in inner]
    return [p for p in found if all(allowed[i, j] for i, j in pairwise(p))]


def rank(cost: np.ndarray, path: Sequence[int]) -> tuple[int, int]:
    parts = [int(cost[i, j]) for i, j in pairwise(path)]
    return max(parts), sum(c * c for c in parts)


@st.composite
def lines(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Costs of ranges in which items are shared, and which steps are allowed."""
    size = draw(st.integers(2, 7))
    worth = draw(st.lists(st.integers(0, 10**10), min_size=6, max_size=6))
    items = draw(st.lists(ITEMS, min_size=size - 1, max_size=size - 1))
    cost = range_costs([{i: worth[i] for i in here} for here in items])
    allowed = draw(st.lists(st.booleans(), min_size=size * size, max_size=size * size))
    return cost, np.triu(np.array(allowed).reshape(size, size), 1)


@given(st.lists(ITEMS, min_size=1, max_size=6), st.lists(st.integers(0, 9), min_size=6))
def test_a_range_costs_each_item_once(items: list[dict[int, int]], worth: list[int]) -> None:
    cost = range_costs([{i: worth[i] for i in here} for here in items])
    for i in range(len(items) + 1):
        for j in range(len(items) + 1):
            union = {item for here in items[i:j] for item in here}
            assert cost[i, j] == sum(worth[item] for item in union)


@given(lines(), st.integers(1, 5))
def test_cuts_are_as_good_as_the_best_of_all(
    line: tuple[np.ndarray, np.ndarray], parts: int
) -> None:
    cost, allowed = line
    every = paths(allowed, parts)
    assume(every)
    cuts = minimal_bottleneck(cost, allowed, parts)
    chosen = (0, *cuts, len(cost) - 1)
    assert chosen in every
    assert rank(cost, chosen) == min(rank(cost, p) for p in every)


@given(lines())
def test_the_largest_number_of_parts(line: tuple[np.ndarray, np.ndarray]) -> None:
    _, allowed = line
    possible = [k for k in range(1, len(allowed)) if paths(allowed, k)]
    assert most_parts(allowed) == max(possible, default=0)


def test_costs_beyond_64_bits_when_squared() -> None:
    cost = range_costs([{0: 3 * 10**12 + 1}, {1: 10**12}, {2: 10**12 + 1}, {3: 10**12}])
    assert minimal_bottleneck(cost, np.triu(np.ones((5, 5), dtype=bool), 1), 2) == [1]
