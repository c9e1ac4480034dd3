"""Decisions that code takes on ``training`` flags: both outcomes are traced, none is guarded."""

import operator
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from torch import fx

from fxtransport.tracing.interface import Tracer

Flags = tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    """A call of an opened module."""

    path: str
    parent: int | None
    given: tuple[str | None, ...]
    """The nodes of the tensors that it was given."""
    flags: Flags
    """Those that had decided something around it."""


@dataclass(frozen=True)
class _Exit:
    """A tensor that an opened module returned and was not given."""

    path: str
    position: int
    flags: Flags
    """Those that had decided something inside."""


class Modes:
    """The flags that traced code asked for, and which of them decide about each node."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._flags: dict[fx.Node, frozenset[str]] = {}
        """The nodes that follow from flags alone, and those flags."""
        self._asked: dict[int | None, dict[str, None]] = {}
        """The flags that decided something, by the module call whose code asked."""
        self._deciding: dict[str, Flags] = {}
        self._calls: dict[str, int | None] = {}
        """For each node, the module call whose code made it."""
        self._entries: dict[int, _Entry] = {}
        self._exits: dict[str, _Exit] = {}

    @property
    def asked(self) -> Flags:
        """All flags that decided something."""
        return tuple(dict.fromkeys(flag for own in self._asked.values() for flag in own))

    def flag(self, path: str, training: bool) -> fx.Node:
        """The node of a module's ``training`` flag."""
        target = f"{path}.training" if path else "training"
        node = self._tracer.create_node("get_attr", target, (), {})
        self._flags[node] = frozenset((target,))
        return node

    def follow(self, node: fx.Node) -> None:
        """See whether a new node follows from flags alone, and what decides about it."""
        self._calls[node.name] = self._call()
        self._deciding[node.name] = self._deciding_in(self._call())
        inputs = node.all_input_nodes
        if inputs and all(n in self._flags for n in inputs):
            self._flags[node] = frozenset[str]().union(*(self._flags[n] for n in inputs))

    def decided_by(self, node: fx.Node) -> bool:
        """Whether a decision by a node's value is one by flags; it is noted."""
        if node not in self._flags:
            return False
        self.decide(*sorted(self._flags[node]))
        return True

    def decide(self, *flags: str) -> None:
        """Code decides by these flags, or by what depends on them."""
        self._asked.setdefault(self._call(), {}).update(dict.fromkeys(flags))

    def of_module(self, node: fx.Node) -> Flags:
        """The flag of the closed module that a node's value comes from."""
        while node.op != "call_module":
            if node.target is not operator.getitem or not node.all_input_nodes:
                return ()
            node = node.all_input_nodes[0]
        return (f"{node.target}.training",)

    def enter(self, given: Sequence[str | None]) -> None:
        """An opened module is called with tensors of these nodes."""
        call = self._call()
        assert call is not None, "a module runs"
        found = self._tracer.recorder.calls[call]
        flags = self._deciding_in(found.parent)
        self._entries[call] = _Entry(found.path, found.parent, tuple(given), flags)

    def leave(self, returned: Sequence[str | None]) -> None:
        """The module that runs returns tensors of these nodes."""
        call = self._call()
        assert call is not None, "a module runs"
        entry, flags = self._entries[call], self._deciding_in(call)
        for position, name in enumerate(returned):
            if name is not None and name not in entry.given:
                self._exits.setdefault(name, _Exit(entry.path, position, flags))

    @property
    def called(self) -> list[str]:
        """The paths of the opened modules, once for each call."""
        return [entry.path for entry in self._entries.values()]

    def deciding(self, node: fx.Node) -> Flags:
        """The flags that decided how a node is made."""
        return self._deciding.get(node.name) or self.asked

    def running(self, node: fx.Node, alone: Collection[str]) -> Flags:
        """The flags that decided whether a node is made.

        Args:
            node: The node.
            alone: The paths of the modules that are called more often in one mode.
        """
        around = [e.flags for e in self._around(node) if e.path in alone]
        return tuple(dict.fromkeys([*self.deciding(node), *(f for flags in around for f in flags)]))

    def _around(self, node: fx.Node) -> Iterator[_Entry]:
        """The calls in which a node was made, from the innermost outwards."""
        call = self._calls.get(node.name)
        while call is not None and (entry := self._entries.get(call)) is not None:
            yield entry
            call = entry.parent

    def between(self, node: fx.Node, own: str, other: "Modes", twin: fx.Node, others: str) -> Flags:
        """The flags that decided which of two tensors a node is given in each mode.

        If both are what a module was given in one place, code around it chose; if both are what
        a module returned, its own code did.

        Args:
            node: The node, of this mode.
            own: The node of the tensor that it is given in this mode.
            other: The other mode.
            twin: The same node in the other mode.
            others: The node of the tensor in the other mode.
        """
        one, two = self._exits.get(own), other._exits.get(others)
        if one and two and (one.path, one.position) == (two.path, two.position):
            return (*one.flags, *two.flags)
        found: Flags = ()
        for inner, others_inner in zip(self._around(node), other._around(twin), strict=False):
            if (own, others) not in zip(inner.given, others_inner.given, strict=False):
                break
            found = (*inner.flags, *others_inner.flags) or found
        return found

    def _call(self) -> int | None:
        return self._tracer.recorder.current_call

    def _deciding_in(self, call: int | None) -> Flags:
        """The flags that decided something in a module call, or else around it."""
        while call is not None:
            if call in self._asked:
                return tuple(self._asked[call])
            call = self._tracer.recorder.calls[call].parent
        return ()
