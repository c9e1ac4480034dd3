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
