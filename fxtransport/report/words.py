"""Numbers and shapes in readable form."""

from collections.abc import Iterable, Sequence

EIGHTHS = " ▏▎▍▌▋▊▉█"


def count(number: int) -> str:
    """A number with three digits.

    >>> count(28_288_354), count(999)
    ('28.3 M', '999')
    """
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit * 0.9995:
            return f"{three_digits(number / limit)} {letter}"
    return str(number)


def size(number: int) -> str:
    """A number of bytes with three digits.

    >>> size(851_443_712), size(1023 * 2**20)
    ('812 MiB', '0.999 GiB')
    """
    for limit, name in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= limit * 0.9765:
            return f"{three_digits(number / limit)} {name}"
    return f"{number} B"


def three_digits(number: float) -> str:
    """A number with three digits, including trailing zeros.

    >>> three_digits(0.999), three_digits(1.5), three_digits(27.96), three_digits(812.3)
    ('0.999', '1.50', '28.0', '812')
    """
    whole = len(str(int(float(f"{number:.3g}"))).lstrip("0"))
    return f"{number:.{max(3 - whole, 0)}f}"


def duration(seconds: float) -> str:
    """A time in hours, minutes and seconds.

    >>> duration(59.4), duration(3725)
    ('0:59', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plural(number: int, thing: str) -> str:
    """A number of things, with the noun in the right form.

    >>> plural(1, "layer"), plural(2, "layer")
    ('1 layer', '2 layers')
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"


def shape(dimensions: Iterable[object]) -> str:
    """A shape, such as 56×56×96."""
    return "×".join(map(str, dimensions))


def shapes(several: Sequence[Iterable[object]]) -> str:
    """Several shapes together."""
    return " + ".join(map(shape, several)) or "–"


def bar(value: int, longest: int, width: int) -> str:
    """A bar whose length is proportional to a value.

    Args:
        value: What is shown.
        longest: The value whose bar has the full width.
        width: The full width in columns.

    >>> bar(5, 8, 4)
    '██▌'
    """
    eighths = round(8 * width * value / longest) if longest else 0
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
