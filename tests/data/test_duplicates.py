"""What is in two splits is counted once for each split after the first."""

import pytest

from fxtransport.data.duplicates import Named, count_duplicates
from fxtransport.errors import UsageError

ONE, OTHER = b"1", b"2"
SPLITS: dict[str, Named] = {
    "train": [(ONE, "a"), (ONE, "b"), (OTHER, "c")],
    "validation": [(ONE, "d"), (b"3", "e")],
    "test": [(ONE, "f"), (b"3", "g")],
}


def test_duplicates_are_counted_where_they_are_allowed() -> None:
    assert count_duplicates(SPLITS, allow=True) == 3
    assert count_duplicates({"train": SPLITS["train"]}, allow=False) == 0


def test_the_first_of_them_is_named() -> None:
    words = r"^3 images are in two splits, such as a \(train\) and d \(validation\)"
    with pytest.raises(UsageError, match=words):
        count_duplicates(SPLITS, allow=False)
