"""Make one graph of a train trace and an eval trace of a model.

Where an argument is another constant in train mode, it becomes a choice at run time. What
runs in train mode only, such as the auxiliary classifiers of Inception, becomes conditional.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from fxtransport.errors import TraceError
from fxtransport.passes.guards import choose, if_training, run_if
from fxtransport.passes.tracer import ValueTracer


def merge_modes(in_eval: ValueTracer, in_train: ValueTracer) -> None:
    """Let the eval graph compute what the train graph does when its modules train.

    What is decided follows, at run time, the ``training`` flag of the module whose code made
    the node.

    Args:
        in_eval: The eval trace, whose graph is changed in place.
        in_train: The train trace of the same model.

    Raises:
        TraceError: eval mode runs something that train mode does not.
    """
    found = _twins(list(in_eval.graph.nodes), list(in_train.graph.nodes))
    if found is None:
        branches = sorted({b or "the model" for b in in_eval.mode_branches})
        raise TraceError(
            f"the forward of {', '.join(branches)} runs operations in eval mode that it does "
            "not run in train mode, so there is no one graph for both; move them into a "
            "submodule, which keeps its own mode"
        )
    _Merge(in_eval, in_train, found).run()


def _twins(
    in_eval: Sequence[fx.Node], in_train: Sequence[fx.Node]
) -> dict[fx.Node, fx.Node] | None:
    """For each train node that runs in eval too, its twin; None if eval runs anything else."""
    twins: dict[fx.Node, fx.Node] = {}
    left = list(reversed(in_eval))
    for node in in_train:
        if left and (left[-1].op, left[-1].target, left[-1].name) == (
            node.op,
            node.target,
            node.name,
        ):
            twins[node] = left.pop()
    return None if left else twins


class _Merge:
    """The eval graph of a model, on its way to serve both modes."""

    def __init__(
        self, in_eval: ValueTracer, in_train: ValueTracer, twins: dict[fx.Node, fx.Node]
    ) -> None:
        self.in_eval = in_eval
        self.in_train = in_train
        self.graph = in_eval.graph
        self.twins = twins

    def run(self) -> None:
        """Go through the train graph in order."""
        last: fx.Node | None = None
        for node in self.in_train.graph.nodes:
            if node not in self.twins:
                assert last is not None, "both modes start with the inputs"
                with self.graph.inserting_after(last):
                    last = self.twins[node] = self._conditional(node)
                continue
            twin = last = self.twins[node]
            args = fx.map_arg(node.args, self.twins.__getitem__)
            kwargs = fx.map_arg(node.kwargs, self.twins.__getitem__)
            twin.args = self._merged(twin, twin.args, args, node)
            twin.kwargs = self._merged(twin, twin.kwargs, kwargs, node)

    def _conditional(self, node: fx.Node) -> fx.Node:
        """A node that runs in train mode only, and is None otherwise."""
        args = fx.map_arg(node.args, self.twins.__getitem__)
        kwargs = fx.map_arg(node.kwargs, self.twins.__getitem__)
        if node.op == "get_attr":
            made = self.graph.get_attr(str(node.target))
        else:
            flag = self.graph.get_attr(self._flag_name(node))
            with self.graph.inserting_after(flag):
                made = self._call(node, flag, args, kwargs)
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
        return self.graph.call_function(if_training(function), (flag, *args), kwargs)

    def _merged(self, twin: fx.Node, in_eval: Any, in_train: Any, node: fx.Node) -> Any:
        """An argument that serves both modes."""
        if in_eval == in_train:
            return in_eval
        if isinstance(in_eval, dict) and isinstance(in_train, dict):
            return {k: self._merged(twin, v, in_train[k], node) for k, v in in_eval.items()}
        if (
            isinstance(in_eval, tuple | list)
            and isinstance(in_train, tuple | list)
            and len(in_eval) == len(in_train)
        ):
            pairs = zip(in_eval, in_train, strict=True)
            return type(in_eval)([self._merged(twin, a, b, node) for a, b in pairs])
        with self.graph.inserting_before(twin):
            flag = self.graph.get_attr(self._flag_name(node))
            return self.graph.call_function(choose, (flag, in_train, in_eval))

    def _flag_name(self, node: fx.Node) -> str:
        return f"{self._owner(node)}.training".lstrip(".")

    def _owner(self, node: fx.Node) -> str:
        """The module whose code made a node: what the node itself is called in."""
        return self.in_train.owners.get(node.name, "")
