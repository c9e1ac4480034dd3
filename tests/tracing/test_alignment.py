"""Which nodes of two traces do the same."""

from fxtransport.tracing.alignment import align


def test_equal_sequences_are_paired() -> None:
    sequence = [("add", 1), ("mul", 2), ("add", 3)]
    assert align(sequence, sequence) == [(0, 0), (1, 1), (2, 2)]
    assert align(sequence, []) == []
    assert align([], []) == []


def test_what_is_in_one_only_has_no_partner() -> None:
    first = [("add", 1), ("relu", 2), ("mul", 3)]
    second = [("add", 1), ("mul", 3)]
    assert align(first, second) == [(0, 0), (2, 1)]
    assert align(second, first) == [(0, 0), (1, 2)]


def test_the_place_comes_before_the_action() -> None:
    """Of two alike, the one of the same line is the partner."""
    first = [("add", 1), ("relu", 7), ("mul", 9)]
    second = [("add", 1), ("relu", 5), ("relu", 7), ("mul", 9)]
    assert align(first, second) == [(0, 0), (1, 2), (2, 3)]


def test_actions_are_paired_where_places_differ() -> None:
    first = [("add", 1), ("relu", 2), ("mul", 3), ("sub", 4)]
    second = [("add", 1), ("relu", 8), ("mul", 9), ("sub", 4)]
    assert align(first, second) == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_pairs_are_in_order() -> None:
    first = [("a", 1), ("b", 2), ("c", 3), ("b", 4)]
    second = [("b", 4), ("c", 5), ("a", 1), ("b", 6)]
    pairs = align(first, second)
    assert pairs
    assert pairs == sorted(pairs)
    assert [j for _, j in pairs] == sorted(j for _, j in pairs)
