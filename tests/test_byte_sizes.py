"""Numbers of bytes as users write them."""

import pytest

from fxtransport.byte_sizes import parse_bytes
from fxtransport.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GiB", 2**33), ("1.5 mb", 1_500_000), ("12", 12), ("2KiB", 2048), ("3 TB", 3 * 10**12)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "eight", "8 GiX", "-1", "0", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"write 8GiB|above 0"):
        parse_bytes(text)
