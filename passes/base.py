"""What a pass is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from fxtransport.unit import Unit


@dataclass(frozen=True)
class Pass(ABC):
    """One step of the compiler.

    A subclass is a frozen dataclass in a file of its own. Its fields are its options, in
    Python, in the pipeline's text form and on the command line; its docstring's first line
    says what it does.
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[type, ...]] = ()
    """The facts that it reads."""
    provides: ClassVar[tuple[type, ...]] = ()
    """The facts that it adds."""
    rewrites: ClassVar[bool] = False
    """Whether it returns another graph; if not, it only reads the graph."""

    @abstractmethod
    def run(self, unit: Unit) -> Unit:
        """The unit with what this pass finds out or rewrites."""
