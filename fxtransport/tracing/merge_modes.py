"""Make one graph of a train trace and an eval trace of a model.

Where an argument is another constant in train mode, it becomes a choice at run time. What
runs in train mode only, such as the auxiliary classifiers of Inception, becomes conditional.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from fxtransport.errors import TraceError
from fxtransport.runtime import IfTraining, choose, run_if
from fxtransport.tracing.tracer import ValueTracer

Choices = Mapping[tuple[str, str], str]
"""For a node and one of its arguments, what stands in the argument's place in both modes."""


def merge_modes(in_eval: ValueTracer, in_train: ValueTracer) -> Choices:
    """Let the eval graph compute what the train graph does when its modules train.

    At run time the choice follows the ``training`` flag of the module whose code made the node.

    Args:
        in_eval: The eval trace, whose graph is changed in place.
        in_train: The train trace of the same model.

    Returns:
        Which arguments of the eval graph were replaced by a choice.

    Raises:
        TraceError: eval mode runs something that train mode does not.
    """
    found = _twins(in_eval, in_train)
    if found is None:
        branches = sorted({b or "the model" for b in in_eval.mode_branches})
        raise TraceError(
            f"the forward of {', '.join(branches)} runs operations in eval mode that it does "
            "not run in train mode, so there is not one graph for both; move them into a "
            "submodule, which keeps its own mode"
        )
    merge = _Merge(in_eval, in_train, found)
    merge.run()
    return merge.choices


def _twins(in_eval: ValueTracer, in_train: ValueTracer) -> dict[fx.Node, fx.Node] | None:
    """For each train node that runs in eval too, its twin; None if eval runs anything else.

    Twins do the same in one module, in the same order, and if possible at the same place in
    the code.
    """
    train = list(in_train.graph.nodes)
    alike: dict[tuple[object, ...], list[int]] = {}
    for i, node in enumerate(train):
        alike.setdefault(_action(in_train, node), []).append(i)
    twins: dict[fx.Node, fx.Node] = {}
    last = -1
    for node in in_eval.graph.nodes:
        if node.op == "get_attr":
            continue
        ahead = [i for i in alike.get(_action(in_eval, node), ()) if i > last]
        if not ahead:
            return None
        site = in_eval.sites.get(node)
        last = next((i for i in ahead if in_train.sites.get(train[i]) == site), ahead[0])
        twins[train[last]] = node
    return twins


def _action(tracer: ValueTracer, node: fx.Node) -> tuple[object, ...]:
    return node.op, node.target, tracer.owners.get(node.name)


class _Merge:
    """The eval graph of a model, on its way to serve both modes."""

    def __init__(
        self, in_eval: ValueTracer, in_train: ValueTracer, twins: dict[fx.Node, fx.Node]
    ) -> None:
        self.in_eval = in_eval
        self.in_train = in_train
        self.graph = in_eval.graph
        self.twins = twins
        self.choices: dict[tuple[str, str], str] = {}

    def run(self) -> None:
        """Go through the train graph in order."""
        inputs = [node for node in self.graph.nodes if node.op == "placeholder"]
        attributes = self._hoist_attributes(inputs[-1])
        last = [*inputs, *attributes.values()][-1]
        for node in self.in_train.graph.nodes:
            if node.op == "get_attr":
                self.twins[node] = attributes[str(node.target)]
            elif node not in self.twins:
                with self.graph.inserting_after(last):
                    last = self.twins[node] = self._conditional(node)
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

    def _conditional(self, node: fx.Node) -> fx.Node:
        """A node that runs in train mode only, and is None otherwise."""
        args = fx.map_arg(node.args, self.twins.__getitem__)
        kwargs = fx.map_arg(node.kwargs, self.twins.__getitem__)
        flag = self.graph.get_attr(self._flag_name(node))
        with self.graph.inserting_after(flag):
            return self._register(self._call(node, flag, args, kwargs), node)

    def _register(self, made: fx.Node, node: fx.Node) -> fx.Node:
        """A node that was made after one of the train graph, with its value and owner."""
        self.in_eval.values[made] = self.in_train.values[node]
        self.in_eval.owners[made.name] = self._owner(node)
        return made

    def _call(self, node: fx.Node, flag: fx.Node, args: Any, kwargs: Any) -> fx.Node:
        """A call that is made if a flag is set."""
        if node.op == "call_module":
            module = self.graph.get_attr(str(node.target))
            with self.graph.inserting_after(module):
                return self.graph.call_function(run_if, (flag, module, *args), kwargs)
        function: Any = node.target
        if node.op == "call_method":
            function = getattr(torch.Tensor, str(node.target))
        return self.graph.call_function(IfTraining(function), (flag, *args), kwargs)

    def _merge_argument(self, twin: fx.Node, in_eval: Any, in_train: Any, node: fx.Node) -> Any:
        """An argument that serves both modes."""
        if in_eval == in_train:
            return in_eval
        if isinstance(in_eval, dict) and isinstance(in_train, dict):
            return {k: self._merge_argument(twin, v, in_train[k], node) for k, v in in_eval.items()}
        if (
            isinstance(in_eval, tuple | list)
            and isinstance(in_train, tuple | list)
            and len(in_eval) == len(in_train)
        ):
            pairs = zip(in_eval, in_train, strict=True)
            return type(in_eval)([self._merge_argument(twin, a, b, node) for a, b in pairs])
        with self.graph.inserting_before(twin):
            flag = self.graph.get_attr(self._flag_name(node))
            choice = self.graph.call_function(choose, (flag, in_train, in_eval))
        if isinstance(in_eval, fx.Node):
            self.choices[twin.name, in_eval.name] = choice.name
            self.in_eval.values[choice] = self.in_eval.values[in_eval]
        return choice

    def _flag_name(self, node: fx.Node) -> str:
        return f"{self._owner(node)}.training".lstrip(".")

    def _owner(self, node: fx.Node) -> str:
        """The path of the module whose code made a node."""
        return self.in_train.owners.get(node.name, "")
