"""What is held out of a set depends on the seed alone, and is the same in every release."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxtransport.data.holdout import HoldOut
from fxtransport.errors import UsageError

CLASSES = [0, 1] * 12


def test_splits_stay_what_they_were() -> None:
    assert HoldOut(3, validation=0.2, test=0.25, train_samples=6).split(CLASSES) == (
        [4, 9, 10, 12, 13, 21],
        [0, 8, 17, 23],
        [5, 7, 14, 16, 18, 19],
    )


@given(seed=st.integers(0, 2**40), kept=st.integers(2, 12))
def test_every_sample_is_in_one_split_at_most(seed: int, kept: int) -> None:
    train, validation, test = HoldOut(seed, 0.2, 0.25, kept).split(CLASSES)
    assert (len(train), len(validation), len(test)) == (kept, 4, 6)
    assert len({*train, *validation, *test}) == kept + 4 + 6
    _, same_validation, same_test = HoldOut(seed, 0.2, 0.25).split(CLASSES)
    assert (validation, test) == (same_validation, same_test)


@pytest.mark.parametrize(
    ("hold_out", "message"),
    [
        (HoldOut(0, test=0), "test must be above 0"),
        (HoldOut(0, train_samples=99), "train_samples is 99, but there are 17 training samples"),
        (HoldOut(0, train_samples=1), "train_samples: cannot take 1 of 17 samples"),
        (HoldOut(0, validation=0.01), "validation: cannot take 0.01 of 19 samples"),
    ],
)
def test_what_cannot_be_held_out_says_why(hold_out: HoldOut, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        hold_out.split(CLASSES)


@pytest.mark.parametrize(
    ("hold_out", "classes", "message"),
    [
        (
            HoldOut(0),
            [0, 0, 0, 0, 0, 1],
            "test: cannot take 0.2 of 6 samples: the class bee has a single one, and each must be "
            "on both sides: add samples to it, or leave that class out",
        ),
        (
            HoldOut(0, test=0.5),
            [0, 0, 0, 0, 1, 1],
            "validation: cannot take 0.1 of 3 samples: the class bee has a single one, and each "
            "must be on both sides: add samples to it, or set validation to 0",
        ),
        (
            HoldOut(0, test=0.1),
            [0, 1] * 5,
            "test: cannot take 0.1 of 10 samples: fewer than one of each of 2 classes would be "
            "taken; give at least 0.2",
        ),
        (
            HoldOut(0, test=0.9),
            [0, 1] * 5,
            "test: cannot take 0.9 of 10 samples: fewer than one of each of 2 classes would be "
            "left; give at most 0.8",
        ),
        (
            HoldOut(0, validation=0, train_samples=15),
            [0, 1] * 10,
            "train_samples: cannot take 15 of 16 samples: fewer than one of each of 2 classes "
            "would be left; give at most 14",
        ),
    ],
)
def test_small_classes_say_what_to_do(hold_out: HoldOut, classes: list[int], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        hold_out.split(classes, ("ant", "bee"))
    assert str(caught.value) == message


@given(
    classes=st.lists(st.integers(0, 3), min_size=2, max_size=40),
    test=st.floats(0.01, 0.99),
    kept=st.integers(1, 40),
)
def test_what_is_not_refused_is_split_and_what_is_advised_works(
    classes: list[int], test: float, kept: int
) -> None:
    hold_out = HoldOut(0, validation=0, test=test)
    try:
        rest, held_out = hold_out.hold_out_test(classes)
    except UsageError as error:
        advised = re.search(r"give at (?:least|most) ([\d.]+)$", str(error))
        if advised is None:
            assert "single one" in str(error) or "need at least" in str(error)
            return
        rest, held_out = HoldOut(0, validation=0, test=float(advised[1])).hold_out_test(classes)
    assert {classes[i] for i in rest} == {classes[i] for i in held_out} == {*classes}
    limited = HoldOut(0, train_samples=min(kept, len(classes)))
    try:
        chosen = limited.keep(classes, range(len(classes)))
    except UsageError as error:
        assert str(error).startswith("train_samples: cannot take")
        return
    assert {classes[i] for i in chosen} == {*classes}


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_shares_are_below_one(share: float) -> None:
    with pytest.raises(UsageError, match="validation is a share, from 0 to below 1"):
        HoldOut(0, validation=share)


HASHES = [bytes([i]) * 16 for i in range(200)]


def test_splits_by_content_stay_what_they_were() -> None:
    rest, held_out = HoldOut(3, test=0.1).by_content(HASHES[:60], range(60), "test")
    assert held_out == [7, 8, 12, 14, 29, 59]
    assert sorted(rest + held_out) == list(range(60))


@given(seed=st.integers(0, 2**40), hidden=st.sets(st.integers(0, 199), max_size=50))
def test_by_content_each_sample_stays_where_it_is(seed: int, hidden: set[int]) -> None:
    hold_out = HoldOut(seed, validation=0.4, test=0.4)
    for what in ("test", "validation"):
        _, every = hold_out.by_content(HASHES, range(200), what)
        there = [i for i in range(200) if i not in hidden]
        _, fewer = hold_out.by_content(HASHES, there, what)
        assert fewer == [i for i in every if i not in hidden]
        _, reverse = hold_out.by_content(HASHES[::-1], range(200), what)
        assert sorted(199 - i for i in reverse) == every


def test_the_share_by_content_holds_on_average() -> None:
    counts = [
        len(HoldOut(seed, test=0.2).by_content(HASHES, range(200), "test")[1]) for seed in range(50)
    ]
    # 40, with a standard deviation of 5.7 / √50
    assert 37 < sum(counts) / 50 < 43
    assert len(set(counts)) > 5


def test_what_cannot_be_held_out_by_content_says_why() -> None:
    with pytest.raises(UsageError, match="test must be above 0"):
        HoldOut(0, test=0).by_content(HASHES, range(200), "test")
    with pytest.raises(UsageError, match=r"of 3 samples, a share of 0\.001 by their content is 0"):
        HoldOut(0, validation=0.001).by_content(HASHES, range(3), "validation")
    assert HoldOut(0, validation=0).by_content(HASHES, range(3), "validation") == ([0, 1, 2], [])
