"""Make one graph of a train trace and an eval trace of a model.

Where an argument is another one in train mode, it becomes a choice at run time. What runs in one
mode only, such as the auxiliary classifiers of Inception, becomes conditional. What decides at
run time are the flags that the model's code asked for.
"""

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from fxtransport.runtime import Conditional, agreed, choose, run_if
from fxtransport.tracing.alignment import align
from fxtransport.tracing.modes import Flags
from fxtransport.tracing.tracer import ValueTracer


@dataclass(frozen=True)
class Merged:
    """What became of the eval graph."""

    choices: Mapping[tuple[str, str], str]
    """For a node and one of its arguments, what stands in the argument's place in both modes."""
    conditional: frozenset[str]
    """The nodes that run in one mode only."""
    names: Mapping[str, str]
    """What the nodes of the train graph are called."""


def merge_modes(in_eval: ValueTracer, in_train: ValueTracer) -> Merged:
    """Let the eval graph compute what the train graph does when its modules train.

    Args:
        in_eval: The eval trace, whose graph is changed in place.
        in_train: The train trace of the same model.
    """
    merge = _Merge(in_eval, in_train)
    merge.run()
    names = {node.name: twin.name for node, twin in merge.twins.items()}
    return Merged(merge.choices, frozenset(merge.conditional), names)


def _twins(in_eval: ValueTracer, in_train: ValueTracer) -> dict[fx.Node, fx.Node]:
    """For each train node that runs in eval too, its twin."""
    sequences = [
        [node for node in tracer.graph.nodes if node.op != "get_attr"]
        for tracer in (in_train, in_eval)
    ]
    keys = [
        [((*_form(n), tracer.owners.get(n.name)), tracer.sites.get(n)) for n in nodes]
        for tracer, nodes in zip((in_train, in_eval), sequences, strict=True)
    ]
    return {sequences[0][i]: sequences[1][j] for i, j in align(*keys)}


def _form(node: fx.Node) -> tuple[Any, ...]:
    """What two nodes have in common that one node can do the work of both."""
    return node.op, node.target, len(node.args), frozenset(node.kwargs)


def _is_same(one: Any, other: Any) -> bool:
    """Whether two arguments are the same, as 1, 1.0 and True, or 0.0 and -0.0, are not."""
    return bool(one == other) and repr(one) == repr(other)


class _Merge:
    """The eval graph of a model, on its way to serve both modes."""

    def __init__(self, in_eval: ValueTracer, in_train: ValueTracer) -> None:
        self.in_eval = in_eval
        self.in_train = in_train
        self.graph = in_eval.graph
        self.twins = _twins(in_eval, in_train)
        called = Counter(in_eval.modes.called), Counter(in_train.modes.called)
        self._alone = frozenset((called[0] - called[1]) | (called[1] - called[0]))
        self._names: dict[fx.Node, str] = {}
        """What nodes of the eval graph that run in train mode are called in the train graph."""
        self._needed: dict[fx.Node, Flags] = {}
        """The flags by which nodes are conditional."""
        self._needed_by: dict[fx.Node, Flags] = {}
        self.choices: dict[tuple[str, str], str] = {}
        self.conditional: list[str] = []
        self._flags: dict[tuple[tuple[str, ...], bool], fx.Node] = {}
        self._last_flag: fx.Node

    def run(self) -> None:
        """Go through the train graph in order."""
        inputs = [node for node in self.graph.nodes if node.op == "placeholder"]
        attributes = self._hoist_attributes(inputs[-1])
        self._last_flag = [*inputs, *attributes.values()][-1]
        twins = set(self.twins.values())
        alone = [n for n in self.graph.nodes if n.op.startswith("call_") and n not in twins]
        for node in alone:
            self._run_in_eval(node)
        self._names = {twin: node.name for node, twin in self.twins.items()}
        last: fx.Node | None = None
        for node in self.in_train.graph.nodes:
            if node.op == "get_attr":
                self.twins[node] = attributes[str(node.target)]
            elif node not in self.twins:
                last = self.twins[node] = self._run_in_train(node, last)
                self._names[last] = node.name
            elif node.op != "placeholder":
                last = self.twins[node]
                self._merge(last, node)

    def _merge(self, twin: fx.Node, node: fx.Node) -> None:
        """Let a node of the eval graph do what its twin does in train mode."""
        args = fx.map_arg(node.args, self.twins.__getitem__)
        kwargs = fx.map_arg(node.kwargs, self.twins.__getitem__)
        twin.args = self._merge_argument(twin, twin.args, args, node)
        twin.kwargs = self._merge_argument(twin, twin.kwargs, kwargs, node)

    def _hoist_attributes(self, last: fx.Node) -> dict[str, fx.Node]:
        """The node of each attribute that either mode reads, moved to after the inputs.

        When an attribute is read does not matter, and each mode has an order of its own.
        """
        found: dict[str, fx.Node] = {}
        for node in list(self.graph.nodes):
            if node.op != "get_attr":
                continue
            first = found.setdefault(str(node.target), node)
            if first is node:
                last.append(node)
                last = node
            else:
                node.replace_all_uses_with(first)
                self.graph.erase_node(node)
        for node in self.in_train.graph.nodes:
            target = str(node.target)
            if node.op == "get_attr" and target not in found:
                with self.graph.inserting_after(last):
                    last = found[target] = self._register(self.graph.get_attr(target), node)
        return found

    def _run_in_eval(self, node: fx.Node) -> None:
        """Make a node of the eval graph one that runs in eval mode only, and is None otherwise."""
        flag = self._running(self.in_eval, node, node.all_input_nodes, training=False)
        if node.op == "call_module":
            with self.graph.inserting_before(node):
                module = self.graph.get_attr(str(node.target))
            node.args = (flag, module, *node.args)
            node.op, node.target = "call_function", run_if
        else:
            node.target = Conditional(_function(node))
            node.op, node.args = "call_function", (flag, *node.args)
        self.conditional.append(node.name)
        self._needed[node] = self._needed_by[flag]

    def _run_in_train(self, node: fx.Node, last: fx.Node | None) -> fx.Node:
        """A node that runs in train mode only, and is None otherwise.

        Args:
            node: Of the train graph.
            last: After which it runs; None for the first, which runs after the flags.
        """
        args = fx.map_arg(node.args, self.twins.__getitem__)
        kwargs = fx.map_arg(node.kwargs, self.twins.__getitem__)
        inputs = [self.twins[n] for n in node.all_input_nodes]
        flag = self._running(self.in_train, node, inputs, training=True)
        place = last or self._last_flag
        function: Any = run_if
        given = (flag, *args)
        if node.op == "call_module":
            with self.graph.inserting_after(place):
                place = self.graph.get_attr(str(node.target))
            given = (flag, place, *args)
        else:
            function = Conditional(_function(node))
        with self.graph.inserting_after(place):
            made = self.graph.call_function(function, given, kwargs)
        self.conditional.append(made.name)
        self._needed[made] = self._needed_by[flag]
        return self._register(made, node)

    def _register(self, made: fx.Node, node: fx.Node) -> fx.Node:
        """A node that was made after one of the train graph, with its value and owner."""
        self.in_eval.values[made] = self.in_train.values[node]
        self.in_eval.owners[made.name] = self._owner(node)
        return made

    def _merge_argument(self, twin: fx.Node, in_eval: Any, in_train: Any, node: fx.Node) -> Any:
        """An argument that serves both modes."""
        if _is_same(in_eval, in_train):
            return in_eval
        if (
            isinstance(in_eval, dict)
            and isinstance(in_train, dict)
            and in_eval.keys() == in_train.keys()
        ):
            return {k: self._merge_argument(twin, v, in_train[k], node) for k, v in in_eval.items()}
        if (
            isinstance(in_eval, tuple | list)
            and isinstance(in_train, tuple | list)
            and len(in_eval) == len(in_train)
            and type(in_eval) is type(in_train)
        ):
            pairs = zip(in_eval, in_train, strict=True)
            return type(in_eval)([self._merge_argument(twin, a, b, node) for a, b in pairs])
        deciding = self._between(twin, in_eval, in_train, node)
        flag = self._flag(tuple(dict.fromkeys(deciding)), node, training=True)
        with self.graph.inserting_before(twin):
            choice = self.graph.call_function(choose, (flag, in_train, in_eval))
        if isinstance(in_eval, fx.Node):
            self.choices[twin.name, in_eval.name] = choice.name
            self.in_eval.values[choice] = self.in_eval.values[in_eval]
        return choice

    def _between(self, twin: fx.Node, in_eval: Any, in_train: Any, node: fx.Node) -> Flags:
        """The flags that decide which of two arguments a node is given."""
        one, other = self.in_train.modes, self.in_eval.modes
        nodes = isinstance(in_eval, fx.Node) and isinstance(in_train, fx.Node)
        if nodes and in_train in self._names:
            found = one.between(node, self._names[in_train], other, twin, in_eval.name)
            if found:
                return found
        given = [argument for argument in (in_train, in_eval) if isinstance(argument, fx.Node)]
        return (*one.deciding(node), *other.deciding(twin), *self._needed_for(given))

    def _running(
        self, tracer: ValueTracer, node: fx.Node, inputs: Sequence[fx.Node], *, training: bool
    ) -> fx.Node:
        """The node of whether one of a mode runs: what it is given must be there, too."""
        own = tracer.modes.running(node, self._alone)
        flags = tuple(dict.fromkeys((*own, *self._needed_for(inputs)))) or self._own(node)
        flag = self._flag(flags, node, training=training)
        self._needed_by.setdefault(flag, flags)
        return flag

    def _needed_for(self, inputs: Sequence[fx.Node]) -> Flags:
        """The flags by which some nodes are conditional."""
        return tuple(flag for node in inputs for flag in self._needed.get(node, ()))

    def _flag(self, flags: tuple[str, ...], node: fx.Node, *, training: bool) -> fx.Node:
        """The node of whether modules are in a mode: those whose flags decide about a node."""
        flags = flags or self._own(node)
        if (flags, training) not in self._flags:
            made = (
                self._agreed(flags)
                if training
                else self._negated(self._flag(flags, node, training=True))
            )
            self._flags[flags, training] = made
        return self._flags[flags, training]

    def _agreed(self, flags: tuple[str, ...]) -> fx.Node:
        read = [self._after_flags(lambda f=f: self.graph.get_attr(f)) for f in flags]
        if len(read) == 1:
            return read[0]
        return self._after_flags(lambda: self.graph.call_function(agreed, tuple(read)))

    def _negated(self, flag: fx.Node) -> fx.Node:
        return self._after_flags(lambda: self.graph.call_function(operator.not_, (flag,)))

    def _after_flags(self, make: Any) -> fx.Node:
        with self.graph.inserting_after(self._last_flag):
            self._last_flag = make()
        return self._last_flag

    def _own(self, node: fx.Node) -> Flags:
        """The flag of the module whose code made a node."""
        return (f"{self._owner(node)}.training".lstrip("."),)

    def _owner(self, node: fx.Node) -> str:
        """The path of the module whose code made a node."""
        return self.in_train.owners.get(node.name) or self.in_eval.owners.get(node.name, "")


def _function(node: fx.Node) -> Any:
    return getattr(torch.Tensor, str(node.target)) if node.op == "call_method" else node.target
