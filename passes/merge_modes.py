"""Make one graph of a train trace and an eval trace that differ in constants only."""

from collections.abc import Mapping
from typing import Any

from torch import fx

from fxtransport.errors import TraceError
from fxtransport.passes.guards import choose


def merge_modes(
    graph: fx.Graph, in_train: fx.Graph, owners: Mapping[str, str], branches: list[str]
) -> None:
    """Let the eval graph compute what the train graph does when its modules train.

    Where an argument is another constant in the train graph, it becomes a choice at run
    time, by the ``training`` flag of the module whose code made the node.

    Args:
        graph: The eval graph, changed in place.
        in_train: The train graph of the same model.
        owners: For each node of the eval graph, the module whose code made it.
        branches: The modules whose code decides by the flag, for the error.

    Raises:
        TraceError: the graphs differ in more than constants.
    """
    pairs = list(zip(graph.nodes, in_train.nodes, strict=False))
    same = len(graph.nodes) == len(in_train.nodes) and all(
        (e.op, e.target, e.name) == (t.op, t.target, t.name) for e, t in pairs
    )
    if not same:
        raise TraceError(
            f"the forward of {', '.join(b or 'the model' for b in branches)} runs other "
            "operations in train mode than in eval mode, so there is no one graph for both; "
            "move what differs into a submodule, which keeps its own mode"
        )
    for in_eval, train in pairs:
        _merge_node(graph, in_eval, train, owners.get(in_eval.name, ""))


def _merge_node(graph: fx.Graph, node: fx.Node, train: fx.Node, owner: str) -> None:
    def merged(in_eval: Any, in_train: Any) -> Any:
        if isinstance(in_eval, fx.Node) and isinstance(in_train, fx.Node):
            return in_eval
        if isinstance(in_eval, tuple | list) and len(in_eval) == len(in_train):
            return type(in_eval)([merged(a, b) for a, b in zip(in_eval, in_train, strict=True)])
        if in_eval == in_train:
            return in_eval
        with graph.inserting_before(node):
            target = f"{owner}.training" if owner else "training"
            flag = graph.get_attr(target)
            return graph.call_function(choose, (flag, in_train, in_eval))

    node.args = tuple(merged(a, b) for a, b in zip(node.args, train.args, strict=True))
    node.kwargs = {k: merged(v, train.kwargs[k]) for k, v in node.kwargs.items()}
