"""Fold ranges of a graph into regions that are computed again in the backward pass."""

import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from fxtransport.ir import Checkpoint
from fxtransport.lowered import Function
from fxtransport.regions import Checkpointed, CheckpointedBlock
from fxtransport.runtime import (
    ITSELF,
    Conditional,
    assign,
    copied,
    displaced,
    measured,
    scaled,
    tapped,
)

_MEASURES = (copied, displaced, measured, scaled, tapped)
"""What measures a block, right after it."""


@dataclass(frozen=True)
class Region:
    """Nodes that are computed again in the backward pass."""

    name: str
    """What generated code calls it."""
    nodes: frozenset[str]
    checkpoint: Checkpoint | None
    """The call in the model's code; None where the program adds one."""
    number: int = 0
    """How many that the program adds come before it in the function."""

    @property
    def flag(self) -> str | None:
        """The flag of the module that decides whether it is checkpointed, if one does."""
        if self.checkpoint is None or self.checkpoint.mode is None:
            return None
        return f"{self.checkpoint.path}.training".lstrip(".")

    def target(
        self, function: Function, paths: Sequence[str], measures: bool
    ) -> Callable[..., Any]:
        """What generated code calls.

        Args:
            function: Computes what the nodes compute.
            paths: What it refers to.
            measures: Whether residual blocks are measured in it.
        """
        if self.checkpoint is None:
            return CheckpointedBlock(self.name, function, paths, measures)
        return Checkpointed(self.name, function, self.checkpoint.options, measures)


def model_regions(found: Iterable[Checkpoint]) -> tuple[Region, ...]:
    """The regions that a model's own code checkpoints."""
    return tuple(
        Region(f"{c.path}_checkpoint".lstrip("_").replace(".", "_"), c.nodes, c) for c in found
    )


def fold(
    graph: fx.Graph,
    copies: Mapping[fx.Node, fx.Node],
    regions: Sequence[Region],
    again: fx.Node | None = None,
) -> None:
    """Replace the nodes of each region by one call.

    Args:
        graph: Changed in place.
        copies: From the nodes that regions are made of to those of the graph.
        regions: One that lies in another comes later.
        again: How many of the regions that the program adds are computed again, the first ones.
    """
    members = [{copies[n] for n in copies if n.name in region.nodes} for region in regions]
    for i in reversed(range(len(regions))):
        body = _body(graph, members[i])
        if not body:
            continue
        call = _folded(graph, regions[i], body, again)
        for outer in members[:i]:
            if not outer.isdisjoint(members[i]):
                outer.add(call)


def _body(graph: fx.Graph, members: Collection[fx.Node]) -> list[fx.Node]:
    """The nodes from the first to the last of a region, with what measures them."""
    order = [n for n in graph.nodes if n.op not in ("placeholder", "get_attr", "output")]
    inside = [i for i, n in enumerate(order) if n in members]
    if not inside:
        return []
    end = inside[-1] + 1
    while end < len(order) and order[end].target in _MEASURES:
        end += 1
    body = set(order[inside[0] : end])
    # an attribute that is read here alone is read again with the rest, unless it is set elsewhere
    may_move = not any(target_of(n) is assign for n in graph.nodes)
    reads = (n for n in graph.nodes if n.op == "get_attr" and n.users)
    body |= {n for n in reads if body.issuperset(n.users) and (may_move or n in members)}
    return [n for n in graph.nodes if n in body]


def target_of(node: fx.Node) -> object:
    """What a node calls, perhaps in one mode only."""
    return node.target.function if isinstance(node.target, Conditional) else node.target


def _folded(
    graph: fx.Graph, region: Region, body: Sequence[fx.Node], again: fx.Node | None
) -> fx.Node:
    """The call of a region that was made of some nodes, which are erased."""
    own = set(body)
    used = {i for n in body for i in n.all_input_nodes} - own
    inputs = [n for n in graph.nodes if n in used]
    outputs = [n for n in body if any(user not in own for user in n.users)]
    inner = fx.Graph()
    copies = {node: inner.placeholder(node.name) for node in inputs}
    for node in body:
        copies[node] = inner.node_copy(node, copies.__getitem__)
    returned = tuple(copies[n] for n in outputs)
    inner.output(returned[0] if len(returned) == 1 else returned)
    paths = [
        str(n.target)
        for n in body
        if n.op == "call_module" or (n.op == "get_attr" and not str(n.target).endswith(ITSELF))
    ]
    measures = any(n.target in _MEASURES for n in body)
    function = compile_function(region.name, inner)
    target = region.target(function, tuple(dict.fromkeys(paths)), measures)
    last = body[-1]
    with graph.inserting_after(last):
        call = graph.call_function(target)
    with graph.inserting_before(call):
        call.args = (_enabled(graph, region, again), graph.get_attr(ITSELF), *inputs)
    if len(outputs) == 1:
        outputs[0].replace_all_uses_with(call, lambda user: user not in own)
    else:
        with graph.inserting_after(call):
            for i, node in reversed(list(enumerate(outputs))):
                piece = graph.call_function(operator.getitem, (call, i))
                node.replace_all_uses_with(piece, lambda user: user not in own)
    for node in reversed(body):
        graph.erase_node(node)
    return call


def _enabled(graph: fx.Graph, region: Region, again: fx.Node | None) -> Any:
    """Whether a region is checkpointed in the present mode."""
    if region.checkpoint is None:
        assert again is not None, "what the program adds is counted"
        return graph.call_function(operator.gt, (again, region.number))
    if region.flag is None:
        return True
    flag = graph.get_attr(region.flag)
    return flag if region.checkpoint.mode else graph.call_function(operator.not_, (flag,))


def compile_function(name: str, graph: fx.Graph) -> Function:
    """The function that a graph is.

    Args:
        name: What tracebacks call it.
        graph: Its placeholders are the arguments.
    """
    graph.lint()
    code = graph.python_code("self")
    inputs = tuple(n.name for n in graph.nodes if n.op == "placeholder")
    return Function.compile(name, code.src, inputs, code.globals)
