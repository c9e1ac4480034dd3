"""The keys of the model: a size in every form is one text."""

from typing import Any

import pytest

from fxtransport.errors import UsageError
from fxtransport.runs.keys.model import KEYS

[SIZE] = [key for key in KEYS if key.path == "model.input_size"]


@pytest.mark.parametrize(
    ("size", "text"),
    [(32, "32"), ("32", "32"), ("32x48", "32x48"), ([3, 32, 48], "3,32,48"), ("3,4,5", "3,4,5")],
)
def test_a_size_is_one_text(size: Any, text: str) -> None:
    assert SIZE.read is not None
    assert SIZE.read(size) == text
    assert SIZE.read(text) == text


def test_what_is_not_a_size() -> None:
    assert SIZE.read is not None
    with pytest.raises(UsageError, match="is not a valid size"):
        SIZE.read("large")
