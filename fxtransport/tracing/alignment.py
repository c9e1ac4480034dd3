"""Which nodes of two traces of one model do the same."""

from collections.abc import Hashable, Sequence
from difflib import SequenceMatcher

Pair = tuple[int, int]


def align(
    first: Sequence[tuple[Hashable, Hashable]], second: Sequence[tuple[Hashable, Hashable]]
) -> list[Pair]:
    """Pairs of positions at which two sequences do the same, in order.

    Each entry is an action and the place in the code that takes it. Entries that are alike in
    both are matched first; between them, those whose actions are alike.

    >>> align([("add", 1), ("mul", 2)], [("add", 1), ("relu", 5), ("mul", 9)])
    [(0, 0), (1, 2)]
    """
    start = 0
    while start < min(len(first), len(second)) and first[start] == second[start]:
        start += 1
    pairs = [(i, i) for i in range(start)]
    matcher = SequenceMatcher(None, first[start:], second[start:], autojunk=False)
    done, other_done = start, start
    for a, b, size in matcher.get_matching_blocks():
        gap = range(done, a + start), range(other_done, b + start)
        pairs += _align_actions(first, second, *gap)
        pairs += [(a + start + k, b + start + k) for k in range(size)]
        done, other_done = a + start + size, b + start + size
    return pairs


def _align_actions(
    first: Sequence[tuple[Hashable, Hashable]],
    second: Sequence[tuple[Hashable, Hashable]],
    own: range,
    other: range,
) -> list[Pair]:
    actions = [first[i][0] for i in own], [second[i][0] for i in other]
    matcher = SequenceMatcher(None, *actions, autojunk=False)
    return [
        (own[a + k], other[b + k])
        for a, b, size in matcher.get_matching_blocks()
        for k in range(size)
    ]
