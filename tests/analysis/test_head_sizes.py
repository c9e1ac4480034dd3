"""Which size of a head a part has: the last one that it is large enough for."""

import math

import numpy as np

from fxtransport.analysis.head_sizes import choose_size, choose_sizes, sizes_of
from fxtransport.ir import HeadKind, HeadSpec, PlannedHead

MIDDLE, LARGE, NEVER = (
    PlannedHead(HeadSpec(HeadKind.CONV, width=width), least_flops=flops, least_activation_bytes=by)
    for width, flops, by in ((2, 10, 5), (3, 20, 50), (4, math.inf, math.inf))
)
HEAD = PlannedHead(HeadSpec(HeadKind.CONV, width=1), larger=(MIDDLE, LARGE, NEVER))


def test_both_costs_of_a_part_count() -> None:
    flops, saved = np.array([0, 9, 10, 10, 20, 20, 10**15]), np.array([0, 5, 4, 5, 49, 50, 10**15])
    assert choose_sizes(HEAD, flops, saved).tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_one_part_has_what_many_have() -> None:
    assert sizes_of(HEAD) == (HEAD, MIDDLE, LARGE, NEVER)
    assert choose_size(HEAD, 10, 4) is HEAD
    assert choose_size(HEAD, 10, 5) is MIDDLE
    assert choose_size(HEAD, 20, 50) is LARGE
    assert choose_size(MIDDLE, 0, 0) is MIDDLE
