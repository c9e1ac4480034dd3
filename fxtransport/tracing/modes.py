"""Decisions that code takes on ``training`` flags: both outcomes are traced, none is guarded."""

import operator

from torch import fx

from fxtransport.tracing.interface import Tracer


class Modes:
    """The flags that traced code asked for, and which of them decide about each node."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._flags: dict[fx.Node, frozenset[str]] = {}
        """The nodes that follow from flags alone, and those flags."""
        self._asked: dict[int | None, dict[str, None]] = {}
        """The flags that decided something, by the module call whose code asked."""
        self._deciding: dict[str, tuple[str, ...]] = {}

    @property
    def asked(self) -> tuple[str, ...]:
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
        self._deciding[node.name] = self._deciding_now()
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

    def of_module(self, node: fx.Node) -> tuple[str, ...]:
        """The flag of the closed module that a node's value comes from."""
        while node.op != "call_module":
            if node.target is not operator.getitem or not node.all_input_nodes:
                return ()
            node = node.all_input_nodes[0]
        return (f"{node.target}.training",)

    def deciding(self, node: fx.Node) -> tuple[str, ...]:
        """The flags that decided whether, or how, a node is made."""
        return self._deciding.get(node.name) or self.asked

    def _call(self) -> int | None:
        return self._tracer.recorder.current_call

    def _deciding_now(self) -> tuple[str, ...]:
        call = self._call()
        while call is not None:
            if call in self._asked:
                return tuple(self._asked[call])
            call = self._tracer.recorder.calls[call].parent
        return ()
