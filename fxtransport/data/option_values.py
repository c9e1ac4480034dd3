"""Values that options of timm may have, so that a wrong one is refused before the first batch.

timm looks at some of them when an image is drawn, and at some never: a mode that it does not know
is taken for another.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fxtransport.errors import UsageError


@dataclass(frozen=True)
class Allowed:
    """What a value may be.

    Attributes:
        words: For the error: an option "is …".
        fits: Whether a value is one.
    """

    words: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_number, value))


def _is_range(value: Any) -> bool:
    return _are_numbers(value) and len(value) == 2 and 0 < value[0] <= value[1]


def _one_of(*names: str) -> Allowed:
    return Allowed(f"one of {', '.join(names)}", lambda value: value in names)


_SHARE = Allowed("a number from 0 to 1", lambda v: _is_number(v) and 0 <= v <= 1)
_POSITIVE = Allowed("a number above 0", lambda v: _is_number(v) and v > 0)
_FROM_0 = Allowed("a number of at least 0", lambda v: _is_number(v) and v >= 0)
_WHOLE_FROM_0 = Allowed("a whole number of at least 0", lambda v: _is_whole(v) and v >= 0)
_WHOLE_FROM_1 = Allowed("a whole number of at least 1", lambda v: _is_whole(v) and v >= 1)
_RANGE = Allowed("two numbers above 0, the smaller first", _is_range)
_SHARES = Allowed(
    "two numbers from 0 to 1, the smaller first",
    lambda v: _are_numbers(v) and len(v) == 2 and 0 <= v[0] < v[1] <= 1,
)
_BOOL = Allowed("true or false", lambda v: type(v) is bool)

TRANSFORM = {
    "mean": Allowed("a list of numbers", _are_numbers),
    "std": Allowed("a list of numbers above 0", lambda v: _are_numbers(v) and min(v) > 0),
    "crop_pct": _POSITIVE,
    "crop_mode": _one_of("center", "squash", "border"),
    "crop_border_pixels": _WHOLE_FROM_0,
}
AUGMENTATION = {
    "padding": _WHOLE_FROM_0,
    "scale": _RANGE,
    "ratio": _RANGE,
    "hflip": _SHARE,
    "vflip": _SHARE,
    "color_jitter_prob": _SHARE,
    "grayscale_prob": _SHARE,
    "gaussian_blur_prob": _SHARE,
    "re_prob": _SHARE,
    "re_count": _WHOLE_FROM_1,
}
MIXUP = {
    "mixup_alpha": _FROM_0,
    "cutmix_alpha": _FROM_0,
    "cutmix_minmax": _SHARES,
    "prob": _SHARE,
    "switch_prob": _SHARE,
    "mode": _one_of("batch", "pair", "elem"),
    "correct_lam": _BOOL,
    "label_smoothing": _SHARE,
}


def check_values(what: str, given: Mapping[str, Any], allowed: Mapping[str, Allowed]) -> None:
    """See that options have values that mean something; those that are None are not set.

    Args:
        what: What they are options of, for the error.
        given: Their values.
        allowed: What each may be; others are for timm to look at.

    Raises:
        UsageError: one is of another kind, or out of range.
    """
    for name, value in given.items():
        if value is not None and name in allowed and not allowed[name].fits(value):
            raise UsageError(f"{what}: {name} is {allowed[name].words}, not {value!r}")
