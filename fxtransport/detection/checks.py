"""Checks of what a detector's file holds, each with one line that says what is wrong."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fxtransport.errors import UsageError


class State:
    """The arrays and settings of a file, which are taken one by one, each checked.

    Args:
        arrays: By name.
        settings: By name; what JSON can hold.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]) -> None:
        self._arrays, self._settings = dict(arrays), dict(settings)

    def array(self, name: str, dtype: DTypeLike, *shape: int | None) -> NDArray[Any]:
        """An array of finite numbers.

        Args:
            name: Of the array.
            dtype: What it must hold.
            shape: Its lengths; None where any length will do.

        Raises:
            UsageError: there is none, or it is another.
        """
        found = self._arrays.pop(name, None)
        if found is None:
            raise UsageError(f"the array {name!r} is missing")
        expected = np.dtype(dtype)
        fits = found.ndim == len(shape) and all(
            want in (None, have) for want, have in zip(shape, found.shape, strict=True)
        )
        if found.dtype != expected or not fits:
            wanted = "×".join("any" if length is None else str(length) for length in shape)
            raise UsageError(
                f"the array {name!r} is {found.dtype} of shape {found.shape}, not {expected} of "
                f"shape {wanted}"
            )
        if not np.isfinite(found).all():
            raise UsageError(f"the array {name!r} holds NaN or infinities")
        return found

    def integer(self, name: str, low: int, high: int) -> int:
        """A whole number in a range, both ends included.

        Raises:
            UsageError: there is none, or it is out of range.
        """
        found = self._setting(name)
        if type(found) is not int or not low <= found <= high:
            raise UsageError(f"{name!r} is {found!r}, not an integer from {low} to {high}")
        return found

    def number(self, name: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number in a range, both ends included.

        Raises:
            UsageError: there is none, or it is out of range.
        """
        found = self._setting(name)
        if type(found) not in (int, float):
            raise UsageError(f"{name!r} is {found!r}, not a number")
        try:
            value = float(found)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value) or not low <= value <= high:
            raise UsageError(f"{name!r} is {found!r}, not a number from {low:g} to {high:g}")
        return value

    def choice(self, name: str, among: Sequence[str]) -> str:
        """One of some words.

        Raises:
            UsageError: there is none, or it is another.
        """
        found = self._setting(name)
        if not isinstance(found, str) or found not in among:
            raise UsageError(f"{name!r} is {found!r}, not one of {', '.join(among)}")
        return found

    def integers(self, name: str, low: int, high: int) -> list[int]:
        """Whole numbers in a range, ascending, each once.

        Raises:
            UsageError: they are not there, or others.
        """
        found = self._setting(name)
        good = isinstance(found, list) and all(
            type(number) is int and low <= number <= high for number in found
        )
        if not good or sorted(set(found)) != found:
            raise UsageError(f"{name!r} is not an ascending list of integers from {low} to {high}")
        assert isinstance(found, list)
        return found

    def numbers(self, name: str, low: float, high: float) -> dict[str, float]:
        """Finite numbers by name.

        Raises:
            UsageError: they are not there, or out of range.
        """
        found = self._setting(name)
        if not isinstance(found, dict):
            raise UsageError(f"{name!r} is {found!r}, not numbers by name")
        inner = State({}, found)
        return {key: inner.number(key, low, high) for key in list(found)}

    def part(self, prefix: str) -> "State":
        """The arrays and settings whose names start with a prefix, which is dropped."""
        arrays, settings = _taken(self._arrays, prefix), _taken(self._settings, prefix)
        return State(arrays, settings)

    def finish(self) -> None:
        """See that all was taken.

        Raises:
            UsageError: something is left.
        """
        left = [*self._arrays, *self._settings]
        if left:
            raise UsageError(f"{', '.join(map(repr, left[:5]))} is not of such a detector")

    def _setting(self, name: str) -> Any:
        if name not in self._settings:
            raise UsageError(f"the setting {name!r} is missing")
        return self._settings.pop(name)


def _taken(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    """What was moved out of a dictionary."""
    names = [name for name in values if name.startswith(prefix)]
    return {name.removeprefix(prefix): values.pop(name) for name in names}
