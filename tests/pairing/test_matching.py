"""Pairs by name, and by spatial size and depth."""

import pytest

from fxtransport.errors import UsageError
from fxtransport.objectives.neurons import Pool
from fxtransport.objectives.transfer import LayerOf
from fxtransport.pairing.matching import match
from fxtransport.pairing.sites import Pairing, Site


def site(name: str, side: int, depth: float, part: int = 0, width: int = 8) -> Site:
    shape = (width, side, side) if side else (width,)
    return Site(LayerOf(name, shape, 1), part, depth)


def named(*sites: Site) -> dict[str, Site]:
    return {each.layer.name: each for each in sites}


def resnet(*sides: int, blocks: int = 2, parts: tuple[int, ...] = ()) -> dict[str, Site]:
    """Stages of blocks, each of a map of a size, and what enters the classifier."""
    count = len(sides) * blocks
    found = []
    for i in range(count):
        stage = i // blocks
        part = parts[i] if parts else 0
        found.append(site(f"s{stage}.{i % blocks}", sides[stage], (i + 1) / count, part, stage + 4))
    return named(*found, site("penultimate", 0, 1.0, parts[-1] if parts else 0))


def pairs(
    own: dict[str, Site], others: dict[str, Site], layers: Pairing = "auto", pool: Pool = "mean"
) -> list[tuple[str, str]]:
    return [(p.student.name, p.teacher.name) for p in match(layers, own, others, pool)]


def test_ends_of_stages_go_with_layers_of_their_size() -> None:
    found = pairs(resnet(16, 8, 4), resnet(32, 16, 8, 4, blocks=5))
    assert found == [
        ("s0.1", "s1.4"),
        ("s1.1", "s2.4"),
        ("s2.1", "s3.4"),
        ("penultimate", "penultimate"),
    ]


def test_of_layers_of_one_size_the_nearest_in_depth() -> None:
    found = pairs(resnet(8, 4, blocks=1), resnet(8, 4, blocks=4))
    assert found[0] == ("s0.0", "s0.3")


def test_other_sizes_go_by_depth_where_positions_are_pooled() -> None:
    own, others = resnet(14, 7), resnet(9, 5)
    assert pairs(own, others)[:2] == [("s0.1", "s0.1"), ("s1.1", "s1.1")]
    assert pairs(own, others, pool="none") == [("penultimate", "penultimate")]


def test_depth_is_that_among_layers_of_one_size() -> None:
    own = resnet(8, 4, blocks=4, parts=(0, 0, 1, 1, 1, 2, 2, 2))
    found = pairs(own, resnet(16, 8, 4, blocks=2))
    # the second of four goes with the first of two
    assert found[0] == ("s0.1", "s1.0")
    # of two that are as near, the deeper one
    assert pairs(resnet(8, blocks=1), resnet(8, blocks=1))[0] == ("s0.0", "s0.0")
    assert pairs(resnet(9, blocks=1), resnet(8, 7, blocks=1))[0] == ("s0.0", "s1.0")


def test_each_part_has_a_pair() -> None:
    own = resnet(8, 8, blocks=3, parts=(0, 0, 1, 1, 2, 2))
    found = match("auto", own, resnet(8, 8, blocks=3), "mean")
    assert [(p.part, p.student.name) for p in found] == [
        (0, "s0.1"),
        (1, "s1.0"),
        (2, "penultimate"),
    ]
    assert [p.teacher.name for p in found] == ["s0.1", "s1.0", "penultimate"]


def test_pairs_by_name_are_in_the_order_of_the_student() -> None:
    own, others = resnet(8, 4), resnet(8, 4)
    found = pairs(own, others, [("penultimate", "s0.0"), ("s0.1", "s1.0"), ("s0.1", "s1.0")])
    assert found == [("s0.1", "s1.0"), ("penultimate", "s0.0")]


def test_no_pairs_where_none_are_wanted() -> None:
    assert match((), {}, {}, "mean") == ()


def test_positions_that_differ_are_refused_unless_pooled() -> None:
    own, others = resnet(8, 4), resnet(6, 4)
    given = [("s0.0", "s0.0")]
    message = r"s0.0 of the student has 8×8 positions and s0.0 of the teacher 6×6 positions: .*mean"
    with pytest.raises(UsageError, match=message):
        pairs(own, others, given, "none")
    assert pairs(own, others, given, 9) == given
    with pytest.raises(UsageError, match="the teacher a single vector: pool=9 samples positions"):
        pairs(own, others, [("s0.0", "penultimate")], 9)


def test_nothing_to_pair() -> None:
    with pytest.raises(UsageError, match="the teacher has no residual site"):
        pairs(resnet(8), {})
    with pytest.raises(UsageError, match="the student has no residual site"):
        pairs({}, resnet(8))
    alone = named(site("a", 8, 1.0))
    with pytest.raises(UsageError, match="no layers of the two models have the same positions"):
        pairs(alone, named(site("b", 4, 1.0)), pool="none")


def test_what_has_no_channels_is_refused() -> None:
    with pytest.raises(UsageError, match="mask of the teacher is no tensor with a batch"):
        pairs(resnet(8), resnet(8), [("s0.0", "mask")])
