"""What the comparison of a program with its model found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One comparison of a program with its model."""

    mode: str
    """``train`` or ``eval``."""
    batch_size: int
    output_error: float
    """The largest absolute difference between outputs."""
    gradient_error: float
    """The largest absolute difference between gradients of parameters and inputs."""
    buffer_error: float
    """The largest absolute difference between buffers after the pass."""
    refused: str | None = None
    """Why the model itself refuses this input, if it does (the program then must too), or
    which guard does, where the model decides on the batch size."""
    setting: str = ""
    """What else is special: ``under autocast``, or which modules are in the other mode."""

    @property
    def error(self) -> float:
        """The largest of the three errors."""
        return max(self.output_error, self.gradient_error, self.buffer_error)


@dataclass(frozen=True)
class VerificationReport:
    """All comparisons of one compilation."""

    checks: tuple[Check, ...]

    @property
    def max_error(self) -> float:
        """The largest error of all comparisons."""
        return max((c.error for c in self.checks), default=0.0)
