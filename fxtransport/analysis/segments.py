"""The parts that cuts make: what lies in each, what it costs, and the head that it ends in."""

from collections.abc import Sequence
from itertools import pairwise

from torch import fx

from fxtransport.analysis.head_sizes import choose_size
from fxtransport.analysis.line import FREE, added_by_head, balanced, cost_of
from fxtransport.analysis.ranges import partition_peaks
from fxtransport.ir import (
    Balance,
    Boundaries,
    Boundary,
    Costs,
    HeadCost,
    HeadKind,
    HeadPlan,
    Heads,
    HeadSpec,
    Layers,
    Residuals,
    Segment,
    TrainingMemory,
)
from fxtransport.unit import Unit


def segments_between(unit: Unit, cuts: Sequence[Boundary]) -> tuple[Segment, ...]:
    """The parts that cuts in execution order make, and what they cost without heads."""
    nodes: list[fx.Node] = list(unit.traced().nodes)
    placeholders = tuple(n.name for n in nodes if n.op == "placeholder")
    returned = tuple(n.name for n in nodes[-1].all_input_nodes)
    crossing = [placeholders, *(c.crossing for c in cuts), returned]
    return tuple(
        _segment(unit, inside, inputs, outputs)
        for inside, (inputs, outputs) in zip(_ranges(unit, cuts), pairwise(crossing), strict=True)
    )


def plan_heads(unit: Unit, cuts: Sequence[Boundary]) -> HeadPlan:
    """The heads of the parts that cuts make, and what each adds to its part."""
    planned, costs = unit.fact(Heads).planned, unit.fact(Costs)
    parts = _ranges(unit, cuts)[:-1]
    heads = [
        choose_size(
            planned[cut.after],
            cost_of(nodes, costs, Balance.FLOPS),
            cost_of(nodes, costs, Balance.ACTIVATIONS),
        )
        for cut, nodes in zip(cuts, parts, strict=True)
    ]
    added = [added_by_head(head, nodes, costs) for head, nodes in zip(heads, parts, strict=True)]
    specs = [head.spec for head in heads]
    return HeadPlan((*specs, HeadSpec(HeadKind.MODEL)), (*added, HeadCost()))


def part_costs(
    unit: Unit,
    balance: Balance,
    cuts: Sequence[Boundary],
    segments: Sequence[Segment],
    heads: HeadPlan,
    submodules: Sequence[int] = (),
) -> list[int]:
    """What each part costs with its head, or its number of depth units.

    Args:
        unit: The model and its facts.
        balance: What counts.
        cuts: Between the parts.
        segments: The parts.
        heads: Their heads.
        submodules: The positions of submodules, where these are counted as depth.
    """
    if balance is Balance.MEMORY:
        return partition_peaks(unit.fact(TrainingMemory), cuts)
    if balance is Balance.DEPTH and submodules:
        ranges = _ranges(unit, cuts)
        position = {node: i for i, node in enumerate(unit.traced().nodes)}
        return [sum(position[node] in submodules for node in nodes) for nodes in ranges]
    if balance is Balance.DEPTH:
        ends = [0, *(c.units for c in cuts), unit.fact(Boundaries).units]
        return [after - before for before, after in pairwise(ends)]
    return [
        balanced(segment, balance) + balanced(head, balance)
        for segment, head in zip(segments, heads.costs, strict=True)
    ]


def _ranges(unit: Unit, cuts: Sequence[Boundary]) -> list[list[fx.Node]]:
    """The nodes of each part, but for the output."""
    nodes: list[fx.Node] = list(unit.traced().nodes)
    position = {node.name: i for i, node in enumerate(nodes)}
    ends = [0, *(position[c.after] + 1 for c in cuts), len(nodes) - 1]
    return [nodes[start:end] for start, end in pairwise(ends)]


def _segment(
    unit: Unit, nodes: Sequence[fx.Node], inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> Segment:
    costs = unit.fact(Costs)
    names = {node.name for node in nodes}
    return Segment(
        first=nodes[0].name,
        last=nodes[-1].name,
        residuals=sum(node in names for node in _residues(unit)),
        blocks=_blocks_in(unit, names),
        submodules=sum(node in names for _, node in _submodules(unit)),
        parameters=cost_of(nodes, costs, Balance.PARAMETERS),
        flops=cost_of(nodes, costs, Balance.FLOPS),
        activation_bytes=cost_of(nodes, costs, Balance.ACTIVATIONS),
        inputs=inputs,
        outputs=outputs,
    )


def _residues(unit: Unit) -> list[str]:
    """The nodes at which residues are complete: tapped additions, or ends of layers."""
    residuals = unit.fact(Residuals).tapped
    return [r.node for r in residuals] + [layer.output for layer in unit.fact(Layers).found]


def _blocks_in(unit: Unit, names: set[str]) -> tuple[str, ...]:
    """The depth units in a part; its submodules with parameters where it has none."""
    found = [path for path, node in _blocks(unit) if node in names]
    found = found or [path for path, node in _submodules(unit) if node in names]
    return tuple(dict.fromkeys(found))


def _blocks(unit: Unit) -> list[tuple[str, str]]:
    """What a part is described by, as paths and nodes: its depth units."""
    match unit.fact(Boundaries).unit:
        case "residual":
            return [(r.path, r.node) for r in unit.fact(Residuals).tapped]
        case "layer":
            return [(layer.path, layer.output) for layer in unit.fact(Layers).found]
    return _submodules(unit)


def _submodules(unit: Unit) -> list[tuple[str, str]]:
    """The submodules with parameters that are nodes, as paths and nodes."""
    costs = unit.fact(Costs).nodes
    return [
        (str(node.target), node.name)
        for node in unit.traced().nodes
        if node.op == "call_module" and costs.get(node.name, FREE).parameters
    ]
