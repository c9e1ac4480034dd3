"""Cut the graph into modules."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from torch import fx

from fxtransport.analysis.bottleneck import (
    Goal,
    Heaviest,
    Total,
    best_cuts,
    lightest_bottleneck,
    most_parts,
    squares,
)
from fxtransport.analysis.hand_cuts import boundaries_by_hand
from fxtransport.analysis.line import FREE, Line, cost_of
from fxtransport.errors import PartitionError
from fxtransport.ir import (
    Balance,
    Boundaries,
    Boundary,
    Costs,
    Layers,
    PartitionPlan,
    Residuals,
    Segment,
)
from fxtransport.passes.base import Pass, setting
from fxtransport.unit import Unit

_WORTH_IT = 0.6
"""How heavy the heaviest module may be, relative to what cuts through one tensor allow, for
cuts through several to be worth it."""


@dataclass(frozen=True)
class Partition(Pass):
    """Cut the graph into modules so that the heaviest is as light as possible.

    Exact: a dynamic programme over the legal boundaries, O(modules · boundaries²). Equally
    good partitions are told apart by the sum of squares; with balance by depth then by the
    activations of the heaviest module; then by how few levels deep the cuts lie in the
    user's modules, how few tensors cross, and how late they are (THESIS 4.5.3).
    """

    name: ClassVar[str] = "partition"
    requires: ClassVar[tuple[type, ...]] = (Boundaries, Costs, Residuals, Layers)
    provides: ClassVar[tuple[type, ...]] = (PartitionPlan,)

    modules: int = setting(1, "The number of modules.", flag="--modules/-k", metavar="K", least=1)
    balance: Balance = setting(
        Balance.DEPTH,
        "What is even among the modules; activations are bytes saved for backward.",
    )
    cuts: tuple[str, ...] = setting(
        (), "Cut after this module or node; may be repeated.", flag="--cut", metavar="PATH"
    )

    def __post_init__(self) -> None:
        if self.modules < 1:
            raise PartitionError(
                f"cannot cut a model into {self.modules} modules; ask for at least 1"
            )
        if self.cuts and self.modules not in (1, len(self.cuts) + 1):
            raise PartitionError(
                f"{len(self.cuts)} in cuts makes {len(self.cuts) + 1} modules, not "
                f"{self.modules}; leave out either the cuts or the number of modules"
            )

    def run(self, unit: Unit) -> Unit:
        """Add the plan.

        Raises:
            PartitionError: the model has too few places to cut, or a cut by hand is none.
        """
        boundaries = unit.fact(Boundaries)
        every = Line(unit, (*boundaries.found, *boundaries.wide))
        if self.cuts:
            chosen = boundaries_by_hand(unit, self.cuts)
        else:
            line = self._line(unit, every)
            chosen = tuple(line.boundaries[p - 1] for p in self._best(unit, line))
        segments = segments_between(unit, chosen)
        costs = self._costs_of(unit, chosen, segments)
        plan = PartitionPlan(
            balance=self.balance,
            unit=boundaries.unit,
            segments=segments,
            cuts=chosen,
            bottleneck=max(costs),
            lower_bound=self._lower_bound(unit, every),
            imbalance=max(costs) * len(costs) / sum(costs) - 1 if sum(costs) else 0.0,
        )
        return unit.with_facts(plan)

    @property
    def parts(self) -> int:
        """How many modules there will be."""
        return len(self.cuts) + 1 if self.cuts else self.modules

    def _line(self, unit: Unit, every: "Line") -> "Line":
        """The legal boundaries to choose from; wide ones where they are needed, or worth it."""
        boundaries = unit.fact(Boundaries)
        line = every
        if boundaries.wide:
            single = Line(unit, boundaries.found)
            enough = most_parts(single.steps) >= self.parts
            if enough and self._bottleneck(every) > _WORTH_IT * self._bottleneck(single):
                line = single
        most = most_parts(line.steps)
        if most < self.parts:
            plural = "" if boundaries.units == 1 else "s"
            raise PartitionError(
                f"cannot cut {type(unit.model).__name__} into {self.parts} modules: it has "
                f"{boundaries.units} {boundaries.unit}{plural} and makes at most {most} "
                f"module{'' if most == 1 else 's'} of at least one each; ask for no more, or "
                f"place the cuts by hand"
            )
        return line

    def _bottleneck(self, line: "Line") -> int:
        """What the heaviest module costs at best."""
        return lightest_bottleneck(line.cost(self.balance), line.steps, self.parts)

    def _best(self, unit: Unit, line: "Line") -> list[int]:
        cost = line.cost(self.balance)
        goals: list[Goal] = [Heaviest(cost), Total(squares(cost, self.parts))]
        if self.balance is Balance.DEPTH:
            goals.append(Heaviest(line.cost(Balance.ACTIVATIONS)))
        goals.append(Total(line.oddness(unit, self.parts)))
        return best_cuts(line.steps, self.parts, goals)

    def _lower_bound(self, unit: Unit, every: "Line") -> int:
        """The mean, if the modules shared nothing, or what no cut can separate.

        Cuts by hand may separate any two nodes; others only what lies on both sides of a
        legal boundary, be it a wide one.
        """
        cost = every.cost(self.balance)
        mean = -(-int(cost[0, -1]) // self.parts)
        if not self.cuts:
            return max(mean, int(np.diagonal(cost, 1).max()))
        if self.balance is Balance.DEPTH:
            return max(mean, min(1, unit.fact(Boundaries).units))
        costs = unit.fact(Costs)
        return max(mean, *(cost_of([n], costs, self.balance) for n in unit.traced().nodes))

    def _costs_of(
        self, unit: Unit, cuts: Sequence[Boundary], segments: Sequence[Segment]
    ) -> list[int]:
        match self.balance:
            case Balance.ACTIVATIONS:
                return [s.activation_bytes for s in segments]
            case Balance.PARAMETERS:
                return [s.parameters for s in segments]
            case Balance.FLOPS:
                return [s.flops for s in segments]
        ends = [0, *(c.units for c in cuts), unit.fact(Boundaries).units]
        return [after - before for before, after in pairwise(ends)]


def segments_between(unit: Unit, cuts: Sequence[Boundary]) -> tuple[Segment, ...]:
    """The modules that cuts in execution order make, and what they cost."""
    nodes: list[fx.Node] = list(unit.traced().nodes)
    position = {node.name: i for i, node in enumerate(nodes)}
    ends = [position[c.after] + 1 for c in cuts]
    placeholders = tuple(n.name for n in nodes if n.op == "placeholder")
    returned = tuple(n.name for n in nodes[-1].all_input_nodes)
    crossing = [placeholders, *(c.crossing for c in cuts), returned]
    ranges = zip([0, *ends], [*ends, len(nodes) - 1], strict=True)
    return tuple(
        _segment(unit, nodes[start:end], crossing[k], crossing[k + 1])
        for k, (start, end) in enumerate(ranges)
    )


def _segment(
    unit: Unit, nodes: Sequence[fx.Node], inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> Segment:
    costs = unit.fact(Costs)
    names = {node.name for node in nodes}
    return Segment(
        first=nodes[0].name,
        last=nodes[-1].name,
        residuals=sum(node in names for node in _residues(unit)),
        blocks=tuple(dict.fromkeys(path for path, node in _blocks(unit) if node in names)),
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


def _blocks(unit: Unit) -> list[tuple[str, str]]:
    """What a module is described by, as paths and nodes: its depth units."""
    match unit.fact(Boundaries).unit:
        case "residual":
            return [(r.path, r.node) for r in unit.fact(Residuals).tapped]
        case "layer":
            return [(layer.path, layer.output) for layer in unit.fact(Layers).found]
    costs = unit.fact(Costs).nodes
    return [
        (str(node.target), node.name)
        for node in unit.traced().nodes
        if node.op == "call_module" and costs.get(node.name, FREE).parameters
    ]
