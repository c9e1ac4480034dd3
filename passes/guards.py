"""What a graph checks while it runs: the assumptions it was built on."""

from typing import TypeVar

from fxtransport.errors import GuardError

Value = TypeVar("Value")


def guard(value: object, expected: object, where: str) -> None:
    """Refuse an input whose shape takes another path through the model.

    Raises:
        GuardError: the value differs from that of the example the graph was built on.
    """
    if value != expected:
        raise GuardError(
            f"this program was compiled for inputs where a number in {where} is {expected!r}, "
            f"and this input makes it {value!r}; compile again with an example of this shape"
        )


def choose(training: bool, in_train: Value, in_eval: Value) -> Value:
    """One of two values, by a module's ``training`` flag."""
    return in_train if training else in_eval
