"""What traced code decides by: numbers that may be others at run time are guarded."""

import operator
import sys
from abc import abstractmethod
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import fx, nn

from fxtransport.runtime import GRADIENT_QUESTIONS, guard, guard_rank
from fxtransport.tracing.error_context import describe_module, source_line
from fxtransport.tracing.free_functions import FreeFunction, free_function
from fxtransport.tracing.modes import Modes
from fxtransport.tracing.recorder import Recorder

_length = len
"""Python's own: while traced code runs, another function stands in its place."""


@dataclass(frozen=True)
class Decision:
    """Where code looked at a number."""

    where: str
    function: FreeFunction | None


@dataclass(frozen=True)
class _Pending:
    """A number that was asked for, perhaps only to see its type."""

    value: Any
    node: fx.Node
    frame: FrameType
    instruction: int
    decision: Decision


class GuardingTracer:
    """A tracer that guards what traced code decides by.

    After a trace, ``deciding`` has the functions outside of modules that decided on shapes, and
    ``counts_pieces`` says whether a number of pieces was looked at.
    """

    root: nn.Module
    graph: fx.Graph
    recorder: Recorder
    modes: Modes
    values: dict[fx.Node, Any]
    owners: dict[str, str]

    def __init__(self) -> None:
        self.deciding: list[FreeFunction] = []
        self.counts_pieces = False
        self.asked_rank = False
        self.guarded: set[fx.Node] = set()
        self.questions: list[str] = []
        self._pending: list[_Pending] = []

    @abstractmethod
    def create_node(
        self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> fx.Node:
        """A new node, evaluated."""

    @abstractmethod
    def trace(self, run: Any, whole: Any = ()) -> fx.Graph:
        """The graph of the shadow's forward."""

    @abstractmethod
    def node_of(self, value: Any) -> fx.Node | None:
        """The node that computes a tensor or another object; None if there is none."""

    @abstractmethod
    def missing(self, node: fx.Node) -> None:
        """Code sees that a node's value is None."""

    def decided(self, value: Any, node: fx.Node) -> None:
        """Code decides by a node's value: guard it, or see that it depends on the mode."""
        if not self.modes.decided_by(node):
            self._guard(value, node, self.decision(sys._getframe(1)))

    def expect_guard(self, value: Any, node: fx.Node, frame: FrameType) -> None:
        """A number was asked for: guard it, unless torch only looks at its type.

        The parser of torch's arguments asks a proxy for its number, then makes the call with
        the proxy, from the same instruction of the same frame.
        """
        self._pending.append(_Pending(value, node, frame, frame.f_lasti, self.decision(frame)))

    def drop_guards(self, frame: FrameType) -> None:
        """Forget the numbers that torch's parser asked for in this instruction."""
        self._pending = [
            p for p in self._pending if not (p.frame is frame and p.instruction == frame.f_lasti)
        ]

    def guard_count(self, node: fx.Node) -> None:
        """Refuse inputs for which a node computes another number of pieces."""
        if node in self.guarded:
            return
        self.guarded.add(node)
        self.counts_pieces = True
        count = self.create_node("call_function", _length, (node,), {})
        self.decided(self.values[count], count)

    def guard_missing(self, node: fx.Node, index: int) -> None:
        """Refuse inputs for which a piece is not None."""
        self.missing(self.create_node("call_function", operator.getitem, (node, index), {}))

    def constant(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The values of a tensor that follows from sizes alone; None for any other tensor."""
        return self.recorder.constants.asked(tensor)

    def rank(self, value: torch.Tensor) -> int:
        """The number of dimensions, which follows from those of the inputs."""
        self.asked_rank = True
        return value.dim()

    def _guard(self, value: Any, node: fx.Node, decision: Decision) -> None:
        """A node that refuses inputs for which a number is another than for the example."""
        if node.target in GRADIENT_QUESTIONS:
            # both answers are traced
            self.questions.append(f"torch.is_grad_enabled() in {decision.where}")
            return
        if decision.function is not None:
            self.deciding.append(decision.function)
        if node not in self.guarded:
            self.guarded.add(node)
            names = self._attributes_of(node)
            arguments = (node, value, decision.where, *([names] if names else []))
            self.create_node("call_function", guard, arguments, {})

    def _attributes_of(self, node: fx.Node) -> str:
        """The attributes of modules that a number follows from; a comma if it does not alone."""
        sources: dict[fx.Node, None] = {}
        ahead, seen = [node], {node}
        while ahead:
            found = ahead.pop()
            inputs = [n for n in found.all_input_nodes if n not in seen]
            if not found.all_input_nodes or isinstance(self.values.get(found), torch.Tensor):
                sources[found] = None
                continue
            seen.update(inputs)
            ahead += inputs
        named = [n for n in sources if self._is_number(n)]
        names = []
        for target in sorted({str(n.target) for n in named}):
            path, _, name = target.rpartition(".")
            own = path == self.recorder.current_path
            of = "" if own else f" of {describe_module(self.root, path)}"
            names.append(f"self.{name}{of}")
        return " and ".join(names) + ("," if names and len(named) < len(sources) else "")

    def _is_number(self, node: fx.Node) -> bool:
        """Whether a node reads a number that a module holds."""
        return node.op == "get_attr" and isinstance(self.values.get(node), int | float)

    def flush_guards(self) -> None:
        """Guard the numbers that were asked for."""
        pending, self._pending = self._pending, []
        for p in pending:
            if not self.modes.decided_by(p.node):
                self._guard(p.value, p.node, p.decision)

    def guard_ranks(self) -> None:
        """Refuse inputs of another number of dimensions, for code has asked for one."""
        inputs = [n for n in self.graph.nodes if n.op == "placeholder"]
        where = describe_module(self.root, "")
        with self.graph.inserting_after(inputs[-1]):
            for node in reversed(inputs):
                value = self.values[node]
                if isinstance(value, torch.Tensor):
                    arguments = (node, value.dim(), where)
                    guarded = self.graph.call_function(guard_rank, arguments)
                    self.owners[guarded.name], self.values[guarded] = "", None

    def decision(self, frame: FrameType) -> Decision:
        """Where code looks at a number."""
        return Decision(self.place(frame), free_function(frame))

    def place(self, frame: FrameType) -> str:
        """The module whose code runs, and the line."""
        where = describe_module(self.root, self.recorder.current_path)
        line = source_line(frame, type(self).trace.__code__)
        return f"{where} at {line}" if line else where
