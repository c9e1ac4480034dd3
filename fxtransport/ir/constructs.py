"""What a model's code does that one comparison in each mode does not show."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Constructs:
    """Constructs that tracing met, so that verification runs them in all their ways."""

    autocast: bool = False
    """Whether the code switches autocast on or off, so that the program is compared under
    autocast, too."""
    modes: bool = False
    """Whether the graph chooses by the ``training`` flags of modules, so that it is compared
    with some of them flipped."""
    pieces: bool = False
    """Whether the graph holds for one number of pieces that a tensor is split into, so that it
    is compared at other sizes, where it must be equal or refuse."""


@dataclass(frozen=True)
class WatchedAttributes:
    """The attributes of modules, and global variables, that a graph depends on."""

    found: tuple[Any, ...]
    """Each a ``fxtransport.watched.Watched``."""
