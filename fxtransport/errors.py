"""Errors for users: each says what was wrong, where, and what to do.

Every error knows the exit code with which the command line ends:
1 for a failed verification, 2 for wrong usage, 3 for a model that cannot be compiled.
"""

from typing import ClassVar


class FxTransportError(Exception):
    """The base of all errors that this library raises for its users."""

    exit_code: ClassVar[int] = 1


class UsageError(FxTransportError, ValueError):
    """An option or argument has a value that cannot be used."""

    exit_code = 2


class ModelNameError(UsageError):
    """A model's name is unknown or ambiguous, or its factory cannot be used."""


class PartitionError(UsageError):
    """The model cannot be cut as asked."""


class PipelineError(UsageError):
    """A pipeline's text, or the order of its passes, makes no sense."""


class SavedProgramError(UsageError):
    """A folder does not hold a program that can be loaded, or cannot be written."""


class TraceError(FxTransportError):
    """The model's forward cannot be turned into one graph."""

    exit_code = 3


class GuardError(FxTransportError, ValueError):
    """An input breaks an assumption on shapes that the graph was built on."""

    exit_code = 2


class VerificationError(FxTransportError):
    """The program and the model do not compute the same numbers."""

    exit_code = 1
