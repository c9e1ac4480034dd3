"""Numbers of bytes as users write them."""

import re

from fxtransport.errors import UsageError

_SIZE = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[A-Za-z]*)\s*")
_UNITS = {
    "": 1,
    "b": 1,
    **{f"{letter}ib": 2 ** (10 * power) for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}b": 10 ** (3 * power) for power, letter in enumerate("kmgt", 1)},
}


def parse_bytes(size: int | str) -> int:
    """The number of bytes that a number or a text means.

    >>> parse_bytes("8GiB"), parse_bytes("1.5 MB"), parse_bytes(4096)
    (8589934592, 1500000, 4096)

    Raises:
        UsageError: it is not a size, or not above 0.
    """
    match = _SIZE.fullmatch(str(size))
    unit = None if match is None else _UNITS.get(match["unit"].lower())
    if match is None or unit is None:
        raise UsageError(f"{size!r} is not a size in bytes: write 8GiB, 500MB or a whole number")
    found = int(float(match["number"]) * unit)
    if found < 1:
        raise UsageError(f"{size!r} is no memory at all; give a size above 0")
    return found
