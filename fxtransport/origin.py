"""Where a program's model came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self


@dataclass(frozen=True)
class Origin:
    """From which name, and with what options, a program's model was built."""

    model: str
    """The canonical name."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the constructor was given, other than weights."""

    def at(self, submodule: str) -> Self:
        """The origin of a submodule of this model."""
        return replace(self, model=f"{self.model}#{submodule}")


@dataclass(frozen=True)
class Provenance:
    """From what, and by which passes, a program was made: enough to make it again."""

    origin: Origin | None
    """None where the model was not built from a name."""
    inputs: tuple[Mapping[str, Any], ...]
    """Each input, as :meth:`fxtransport.example.Example.described` says it: of a tensor the
    ``shape`` without the batch, and the ``dtype``."""
    pipeline: str
    cuts: tuple[str, ...]
    """The paths after which it is cut."""
    graph_hash: str
