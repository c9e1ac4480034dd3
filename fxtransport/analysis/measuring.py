"""Make Python functions of ranges of a graph, which measure the residual blocks in them."""

import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from fxtransport.analysis.regions import Region, compile_function, fold
from fxtransport.errors import PartitionError
from fxtransport.ir import Costs, Tap, Taps
from fxtransport.lowered import Function
from fxtransport.runtime import copied, displaced, measured, scaled, tapped

CHECKPOINTED = " checkpointed"
"""Ends the name of the function of a part that checkpoints its blocks."""


def function(
    name: str,
    inputs: Sequence[fx.Node],
    body: Iterable[fx.Node],
    returned: Any,
    regions: Sequence[Region] = (),
) -> Function:
    """A function of some nodes of a graph.

    Args:
        name: What tracebacks call it.
        inputs: The nodes whose values are its arguments.
        body: What it computes, in order.
        returned: What it returns, made of nodes.
        regions: What is computed again in the backward pass.
    """
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    for node in body:
        if node.op != "placeholder":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(fx.map_arg(returned, copies.__getitem__))
    fold(graph, copies, regions)
    return compile_function(name, graph)


def measuring_function(
    name: str,
    inputs: Sequence[fx.Node],
    body: Sequence[fx.Node],
    returned: Any,
    taps: Taps,
    kept: Collection[str],
    regions: Sequence[Region] = (),
    *,
    counts: bool = False,
) -> Function:
    """A function of some nodes, and of a measure, last, which is given the blocks in them.

    It returns a pair, whose second is what was measured of each block in ``body`` and of each
    named activation. A block is measured as soon as its output is there, before anything can
    overwrite it.

    Args:
        name: What tracebacks call it.
        inputs: The nodes whose values are its arguments.
        body: What it computes, in order.
        returned: What it returns, made of nodes.
        taps: The residual blocks.
        kept: The residues of the blocks whose x_m and x_{m+1} are kept for backward anyway.
        regions: What is computed again in the backward pass.
        counts: Whether it takes, after the measure, how many of the regions that the program adds
            are.
    """
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    measure = graph.placeholder("measure")
    again = graph.placeholder("again") if counts else None
    ready, sums = _ready(taps, body), _sums(taps)
    activations: dict[str, list[str]] = {}
    for activation in taps.activations:
        activations.setdefault(activation.node, []).append(activation.name)
    found: list[fx.Node] = []
    at = {node.name: copy for node, copy in copies.items()}
    branches: dict[str, tuple[fx.Node, ...]] = {}
    for node in body:
        if node.op == "placeholder":
            continue
        if node.name not in taps.added:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        elif node.target in _LOWERED:
            values = fx.map_arg(node.args, copies.__getitem__)
            copies[node] = graph.call_function(_LOWERED[node.target], (measure, *values))
        if node in copies:
            at[node.name] = copies[node]
        for tap in sums.get(node.name, ()):
            difference = graph.call_function(displaced, (measure, at[tap.sum], at[tap.skip]))
            branches[tap.residue] = (difference,)
        for tap in ready.get(node.name, ()):
            at = {n.name: copy for n, copy in copies.items()}
            terms = branches.get(tap.residue) or tuple(at[name] for name in tap.branch)
            total = at[tap.sum]
            output = at.get(tap.output, total)
            flags = (tap.residue in kept, output is not total)
            block = (measure, tap.kind.value, terms, at[tap.skip], output, *flags)
            found.append(
                graph.call_function(
                    measured, (*block, *_start(tap, at, name.removesuffix(CHECKPOINTED)))
                )
            )
        for name in activations.get(node.name, ()):
            found.append(graph.call_function(tapped, (measure, name, copies[node])))
    graph.output((fx.map_arg(returned, copies.__getitem__), found))
    fold(graph, copies, regions, again)
    return compile_function(name, graph)


def _start(tap: Tap, at: Mapping[str, fx.Node], name: str) -> tuple[Any, ...]:
    """The input of a block and the dimensions of channels; nothing where it is not handed on.

    Raises:
        PartitionError: a cut parts the block from its input.
    """
    if tap.input is None:
        return ()
    if tap.input.node not in at:
        raise PartitionError(
            f"a cut of {name} lies inside the residual block that ends in {tap.sum!r}, whose input "
            f"{tap.input.node!r} is not handed on; cut elsewhere, or compile with "
            "projection_inputs=False"
        )
    return at[tap.input.node], (tap.input.channels, tap.input.output_channels)


_LOWERED: dict[Any, Callable[..., Any]] = {torch.clone: copied, operator.mul: scaled}
"""What the nodes that were added for residues do if something is to be measured."""


def _sums(taps: Taps) -> dict[str, list[Tap]]:
    """The blocks whose residue is y - skip and that go on after y, by the node of y.

    Where they end in y, the residue follows from their ends.
    """
    sums: dict[str, list[Tap]] = {}
    for tap in taps.found:
        if not tap.branch and tap.output != tap.sum:
            sums.setdefault(tap.sum, []).append(tap)
    return sums


def _ready(taps: Taps, body: Sequence[fx.Node]) -> dict[str, list[Tap]]:
    """The blocks among some nodes, by the node after which all values of each are there."""
    names = {n.name for n in body}
    ready: dict[str, list[Tap]] = {}
    for tap in taps.found:
        if tap.sum in names:
            # a cut by hand may part the sum from its activation; the block then ends in the sum
            last = tap.output if tap.output in names else tap.sum
            ready.setdefault(last, []).append(tap)
    return ready


def kept_residues(
    taps: Taps, body: Sequence[fx.Node], left: Collection[str], costs: Costs
) -> frozenset[str]:
    """The residues of the blocks whose x_m and x_{m+1} are kept for backward anyway.

    Args:
        taps: The residual blocks.
        body: The nodes that run in a part.
        left: Those whose values leave it: whoever takes them keeps them.
        costs: What each node keeps for backward.
    """
    values = {name: cost.value for name, cost in costs.nodes.items() if cost.value is not None}
    kept = {values[name] for name in left if name in values}
    for node in body:
        kept |= costs.nodes[node.name].kept if node.name in costs.nodes else frozenset()
    ends = {tap.residue: {values.get(tap.skip), values.get(tap.output)} for tap in taps.found}
    return frozenset(residue for residue, pair in ends.items() if pair <= kept)
