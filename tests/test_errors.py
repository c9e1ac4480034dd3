"""Errors know the exit code of the command line, and are one line."""

import inspect

import pytest

from fxtransport import errors
from fxtransport.errors import FxTransportError, RunInterruptedError, first_line

OURS = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, FxTransportError)
]


@pytest.mark.parametrize("error", OURS)
def test_every_error_has_an_exit_code_and_says_when_it_is_raised(error: type) -> None:
    assert error.exit_code in (1, 2, 3)  # type: ignore[attr-defined]
    assert inspect.getdoc(error)


def test_wrong_usage_is_an_error_of_value_too() -> None:
    codes = {error.__name__: error.exit_code for error in OURS if issubclass(error, ValueError)}
    assert codes.keys() >= {"UsageError", "PartitionError", "SavedProgramError", "GuardError"}
    assert set(codes.values()) == {2}


def test_a_signal_decides_the_exit_code() -> None:
    assert RunInterruptedError("ended", 15).exit_code == 143


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("one.\ntwo"), "one"),
        (KeyError("a"), "'a'"),
        (RuntimeError("  \n first "), "first"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_the_first_line_of_an_error(error: Exception, text: str) -> None:
    assert first_line(error) == text
