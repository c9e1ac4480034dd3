"""What passes hand on: a model on its way through the compiler, with what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, TypeVar

from fxtransport.errors import PipelineError
from fxtransport.example import Example

if TYPE_CHECKING:
    from torch import fx, nn

__all__ = ["Example", "Fact", "Step", "Unit"]

Fact = TypeVar("Fact")


class Step(Protocol):
    """A pass that ran, with its options; see ``passes/base.py``."""

    name: ClassVar[str]
    requires: ClassVar[tuple[type, ...]]
    provides: ClassVar[tuple[type, ...]]


@dataclass(frozen=True)
class Unit:
    """A model on its way through the compiler. A pass returns a new unit.

    ``model`` is the user's and is never changed.
    """

    model: nn.Module
    example: Example
    graph: fx.Graph | None = None
    facts: Mapping[type, object] = field(default_factory=dict)
    history: tuple[Step, ...] = ()
    """The passes that ran, in order."""

    def fact(self, kind: type[Fact]) -> Fact:
        """The fact of this type, which an earlier pass provided."""
        found = self.facts.get(kind)
        if not isinstance(found, kind):
            raise PipelineError(f"no pass has provided {kind.__name__} yet")
        return found

    def has(self, kind: type) -> bool:
        """Whether a pass has provided this fact, and it is still true."""
        return kind in self.facts

    def traced(self) -> fx.Graph:
        """The graph, which the pass ``trace`` provides."""
        if self.graph is None:
            raise PipelineError("there is no graph yet; run the pass trace first")
        return self.graph

    def with_facts(self, *facts: object) -> Self:
        """A unit with these facts added; a fact replaces an earlier one of its type."""
        return replace(self, facts={**self.facts, **{type(f): f for f in facts}})

    def with_graph(self, graph: fx.Graph, *facts: object) -> Self:
        """A unit with another graph, and these facts added."""
        return replace(self.with_facts(*facts), graph=graph)
