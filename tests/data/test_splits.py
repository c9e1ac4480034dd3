"""A set is loaded by its name, and says what it is."""

from typing import Any

import pytest

from fxtransport.data import load
from fxtransport.errors import UsageError


def test_a_set_is_described_in_a_line() -> None:
    splits = load("digits", seed=0, batch_size=100)
    assert splits.description == (
        "digits: 1293 to train on, 144 for validation, 360 for the test; "
        "inputs of 1×8×8, 10 classes"
    )
    without = load("moons", seed=0, batch_size=100, validation=0)
    assert without.description == (
        "moons: 800 to train on, 200 for the test; inputs of 2, 2 classes"
    )


def test_the_last_batch_is_left_out_if_asked_for() -> None:
    splits = load("digits", seed=0, batch_size=100, drop_last=True)
    assert (len(splits.train), splits.train.num_samples) == (12, 1200)
    assert splits.test.num_samples == 360


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eval_batch_size": -1}, "eval_batch_size must be 1 or more, not -1"),
        ({"num_workers": -1}, "num_workers must be 0 or more"),
        ({"train_samples": 20, "drop_last": True}, "a batch_size of 32 leaves none"),
        ({"mixup": {}}, "a training batch has 13 samples: choose an even"),
    ],
)
def test_batches_that_cannot_be_say_why(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load("digits", seed=0, batch_size=32, **options)
