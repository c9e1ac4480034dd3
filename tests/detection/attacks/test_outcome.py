"""Kinds of outcomes do not overlap, and rows can be taken."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxtransport.detection.attacks import Outcome
from fxtransport.errors import UsageError


@given(st.lists(st.tuples(*[st.booleans()] * 3), min_size=1), st.booleans())
def test_every_image_is_of_one_kind(rows: list[tuple[bool, bool, bool]], count_all: bool) -> None:
    outcome = Outcome(*np.array(rows).T, count_all=count_all)
    counts = outcome.counts
    kinds = ("successful", "misclassified before", "unchanged", "not fooled")
    assert sum(counts[kind] for kind in kinds) == len(outcome) == len(rows)
    assert counts["successful"] == sum(not a and not b and c for a, b, c in rows)
    assert counts["counted"] == (len(rows) if count_all else counts["successful"])
    kept = outcome.take(np.array([len(rows) - 1]))
    assert kept.successful.tolist() == [outcome.successful[-1]]
    assert kept.count_all == count_all


def test_lengths_must_agree() -> None:
    flags = [np.zeros(count, bool) for count in (3, 3, 4)]
    with pytest.raises(UsageError, match=r"is told of \[3, 4\] of them"):
        Outcome(*flags)
