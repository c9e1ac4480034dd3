"""What traced code is given for a tuple that a node computes.

Its tensors are the tuple's own. That there are as many of them, and that one of them is None, is
guarded as soon as the code looks.
"""

from collections.abc import Iterator
from typing import Any, Self, SupportsIndex

from torch import fx

from fxtransport.tracing.interface import Tracer


class Pieces(tuple[Any, ...]):
    """The pieces that a node computes. Its tensors are those of the node's value."""

    node: fx.Node
    tracer: Tracer

    @classmethod
    def of(cls, pieces: Any, node: fx.Node, tracer: Tracer) -> Self:
        """The pieces of a node's value, in which numbers are proxies."""
        made = cls(pieces)
        made.node, made.tracer = node, tracer
        return made

    def __len__(self) -> int:
        self.tracer.guard_count(self.node)
        return super().__len__()

    def __iter__(self) -> Iterator[Any]:
        self.tracer.guard_count(self.node)
        return (self._piece(i) for i in range(super().__len__()))

    def __getitem__(self, key: SupportsIndex | slice) -> Any:
        if isinstance(key, slice):
            return tuple(self)[key]
        index = key.__index__()
        if index < 0:
            index += len(self)
        return self._piece(index)

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, tuple):
            return NotImplemented
        return tuple(self) + tuple(other)

    def __radd__(self, other: Any) -> Any:
        if not isinstance(other, tuple):
            return NotImplemented
        return tuple(other) + tuple(self)

    def __contains__(self, item: object) -> bool:
        return item in tuple(self)

    def __reduce__(self) -> Any:
        return tuple, (tuple(self),)

    def _piece(self, index: int) -> Any:
        found = super().__getitem__(index)
        if found is None:
            self.tracer.guard_missing(self.node, index)
        return found
