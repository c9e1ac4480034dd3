"""Whether code that writes an attribute by which it decides takes the same path when called again.

A window that is cut to the size of its input is written in each call, and from the second call on
it is read as it was written. What the code decides by is computed once more, of what was written.
"""

from collections.abc import Iterable, Mapping, Set
from typing import Any

from torch import fx
from torch.fx.node import map_arg

from fxtransport.runtime import assign, guard

_NUMBERS = (bool, int, float, tuple)
_FAILURES = (ArithmeticError, LookupError, TypeError, ValueError)


def unsteady(
    nodes: Iterable[fx.Node],
    values: Mapping[fx.Node, Any],
    read: Mapping[str, fx.Node],
    written: Mapping[str, fx.Node],
    deciding: Set[str],
) -> set[str]:
    """The attributes whose values make a second call decide, or write, something else.

    Args:
        nodes: The nodes, in order.
        values: The values of nodes in the first call.
        read: The nodes that read attributes before they are written.
        written: The nodes that write attributes last.
        deciding: The attributes by which the code decides.
    """
    targets, last = {node: target for target, node in read.items()}, set(written.values())
    again: dict[fx.Node, Any] = {}
    follows: dict[fx.Node, set[str]] = {}
    found: set[str] = set()

    def value(node: fx.Node) -> Any:
        return again.get(node, values.get(node))

    for node in nodes:
        if node in targets:
            follows[node] = {targets[node]}
            again[node] = map_arg(written[targets[node]].args[2], values.get)
            if type(again[node]) not in (int, float):
                return found | follows[node]
        sources = set[str]().union(*(follows.get(n, ()) for n in node.all_input_nodes))
        if not sources:
            continue
        if node.target is guard:
            found |= sources if map_arg(node.args[0], value) != node.args[1] else set()
        elif node.target is assign:
            before, after = (map_arg(node.args[2], of) for of in (values.get, value))
            found |= sources & deciding if node in last and before != after else set()
        elif all(isinstance(values.get(n), _NUMBERS) for n in (node, *node.all_input_nodes)):
            follows[node] = sources
            try:
                again[node] = _computed(node, value)
            except _FAILURES:
                return found | sources
    return found


def _computed(node: fx.Node, value: Any) -> Any:
    args, kwargs = map_arg(node.args, value), map_arg(node.kwargs, value)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)  # type: ignore[operator]
