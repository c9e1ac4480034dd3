"""What is held out of a set depends on the seed alone, and is the same in every release."""

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


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_shares_are_below_one(share: float) -> None:
    with pytest.raises(UsageError, match="validation is a share, from 0 to below 1"):
        HoldOut(0, validation=share)
