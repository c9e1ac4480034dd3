"""Errors for users: each says what was wrong, where, and what to do.

Every error knows the exit code with which the command line ends:
1 for a failed verification or training, 2 for wrong usage, 3 for a model that cannot be
compiled, 128 and the signal's number where a signal ended a run.
"""


class FxTransportError(Exception):
    """The base of all errors that this library raises for its users."""

    exit_code: int = 1


class UsageError(FxTransportError, ValueError):
    """An option or argument has a value that cannot be used."""

    exit_code = 2


class ModelNameError(UsageError):
    """A model's name is unknown or ambiguous, or its factory cannot be used."""


class PartitionError(UsageError):
    """The model cannot be cut as asked."""


class MemoryBudgetError(UsageError):
    """Training does not fit into the memory that was asked for."""


class PipelineError(UsageError):
    """A pipeline's text, or the order of its passes, is not valid."""


class SavedProgramError(UsageError):
    """A folder does not hold a program that can be loaded, or cannot be written."""


class SavedDetectorError(UsageError):
    """A folder does not hold a detector that can be loaded, or it is of another model."""


class TraceError(FxTransportError):
    """The model's forward cannot be turned into one graph."""

    exit_code = 3


class GuardError(FxTransportError, ValueError):
    """An input, or an attribute of the model, breaks an assumption that the graph was built on."""

    exit_code = 2


class VerificationError(FxTransportError):
    """The program and the model do not compute the same numbers."""

    exit_code = 1


class TrainingError(FxTransportError):
    """A run cannot go on: its loss is not a number, say."""

    exit_code = 1


class SolverError(FxTransportError):
    """A transport problem has no plan: its values are not finite, or all its solvers gave up."""

    exit_code = 1


class CheckpointError(FxTransportError):
    """A checkpoint cannot be written, or what is there cannot be read, or is of another run."""

    exit_code = 2


class RunInterruptedError(FxTransportError):
    """A signal ended a run after a step was finished and all of it was saved.

    Args:
        message: What happened, and how to go on.
        signal: The number of the signal.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal
        self.exit_code = 128 + signal


MODEL_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
    Warning,
)
"""What a forward that is given an input it cannot take may raise; warnings, where Python is told
to raise them. OSError is left out, because commands raise it of their own output."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without a full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
