"""Numbers as a person reads them."""

import pytest

from fxtransport.report.words import bar, count, size


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00 k"), (999_499, "999 k"), (999_600, "1.00 M")],
)
def test_counts_have_three_digits(number: int, text: str) -> None:
    assert count(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (1024, "1.00 KiB"),
        (2**40, "1.00 TiB"),
        (2**51, "2048 TiB"),
    ],
)
def test_sizes_have_three_digits(number: int, text: str) -> None:
    assert size(number) == text


def test_bars_stay_in_their_width() -> None:
    assert bar(0, 0, 5) == ""
    assert bar(3, 3, 5) == "█████"
    assert {len(bar(n, 40, 5)) for n in range(41)} == {0, 1, 2, 3, 4, 5}
