"""What a pass is, and how its options are declared."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

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


@dataclass(frozen=True)
class Setting:
    """How a user sets a field of a pass that is an option of programs.

    From it follow the keyword of ``transportify``, the option of the command line and the key
    of a run's configuration. The field's name, type and default say the rest.
    """

    help: str
    """One sentence, for the command line."""
    flag: str = ""
    """The option, or its long and short form, ``--modules/-k``; ``--`` and the name if empty."""
    metavar: str | None = None
    """What stands for the value in a help text."""
    least: int | None = None
    """The smallest value, of a number."""


def setting(
    default: Any, help: str, *, flag: str = "", metavar: str | None = None, least: int | None = None
) -> Any:
    """A field of a pass that is an option of programs; see :class:`Setting`."""
    return field(default=default, metadata={"setting": Setting(help, flag, metavar, least)})
