"""The graph as a line of points, and what the parts between two of them cost."""

from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from torch import fx

from fxtransport.analysis.bottleneck import Matrix, Steps, range_costs
from fxtransport.analysis.head_sizes import choose_sizes, sizes_of
from fxtransport.analysis.ranges import Ranges, head_fees, points_of
from fxtransport.ir import (
    Balance,
    Boundaries,
    Boundary,
    Costs,
    HeadCost,
    Heads,
    NodeCost,
    PlannedHead,
    Segment,
    TrainingMemory,
)
from fxtransport.unit import Unit

FREE = NodeCost({}, 0, {})
"""What a node costs that a pass added."""


class Line:
    """The graph as a line, with the boundaries, the start and the end as its points.

    A part ends in the head of the boundary at its end, which must be planned.

    Args:
        unit: The model and its facts.
        boundaries: Where it may be cut.
        submodules: The positions of submodules, where these are counted as depth.
    """

    def __init__(
        self, unit: Unit, boundaries: Sequence[Boundary], submodules: Sequence[int] = ()
    ) -> None:
        nodes = list(unit.traced().nodes)
        position = {node.name: i for i, node in enumerate(nodes)}
        self.boundaries = sorted(boundaries, key=lambda b: position[b.after])
        planned = unit.fact(Heads).planned
        self.heads = [planned[b.after] for b in self.boundaries]
        ends = [position[b.after] + 1 for b in self.boundaries]
        self._stretches = [
            nodes[start:end] for start, end in zip([0, *ends], [*ends, len(nodes)], strict=True)
        ]
        self._costs = unit.fact(Costs)
        if submodules:
            before = [sum(at < end for at in submodules) for end in ends]
            units = [0, *before, len(submodules)]
        else:
            units = [0, *(b.units for b in self.boundaries), unit.fact(Boundaries).units]
        self._units = np.array(units, dtype=np.int64)
        trained = [bool(cost_items(s, self._costs, Balance.PARAMETERS)) for s in self._stretches]
        self._trained = np.array([False, *trained], dtype=np.int64).cumsum()
        self._memory = unit.fact(TrainingMemory) if unit.has(TrainingMemory) else None
        self._costs_by: dict[Balance, Matrix] = {}

    def steps(self, balance: Balance) -> Steps:
        """Which parts may be: those with something of their own to train, and the whole.

        With balance by depth, a part has at least one depth unit.
        """
        count = self._units if balance is Balance.DEPTH else self._trained
        allowed: Steps = count[None, :] > count[:, None]
        allowed[0, -1] = True
        return np.triu(allowed, 1)

    def cost(self, balance: Balance) -> Matrix:
        """The cost of every part between two points, with its head."""
        if balance not in self._costs_by:
            self._costs_by[balance] = self._cost(balance)
        return self._costs_by[balance]

    def _cost(self, balance: Balance) -> Matrix:
        if balance is Balance.DEPTH:
            return np.triu(self._units[None, :] - self._units[:, None], 1)
        if balance is Balance.MEMORY:
            assert self._memory is not None, "Partition needs what training holds"
            points = points_of(self._memory, self.boundaries)
            return Ranges(self._memory).peaks[np.ix_(points, points)]
        items = [cost_items(nodes, self._costs, balance) for nodes in self._stretches]
        cost = range_costs(items)
        for j, head in enumerate(self.heads, start=1):
            chosen = self.sizes(j)
            for position, size in enumerate(sizes_of(head)):
                cost[:j, j] += np.where(chosen == position, balanced(size.cost, balance), 0)
                for storage, bytes_ in (
                    size.hidden.items() if balance is Balance.ACTIVATIONS else ()
                ):
                    # a part that begins after the last node that saves this storage does not
                    start = next((i for i in range(j, 0, -1) if storage in items[i - 1]), 0)
                    cost[start:j, j] += np.where(chosen[start:] == position, bytes_, 0)
        return cost

    def fees(self) -> Matrix:
        """What a head at the end of each part holds all along, in bytes."""
        assert self._memory is not None, "Partition needs what training holds"
        points = points_of(self._memory, self.boundaries)
        fees = np.zeros((len(points), len(points)), dtype=np.int64)
        for (a, i), (b, j) in combinations(enumerate(points), 2):
            fees[a, b] = head_fees(self._memory, [(i, j)])
        return fees

    def sizes(self, j: int) -> NDArray[np.int64]:
        """The positions of the sizes that the head at point j has, for a part from each point."""
        head = self.heads[j - 1]
        if not head.larger:
            return np.zeros(j, dtype=np.int64)
        flops, saved = self._without_heads
        return choose_sizes(head, flops[:j, j], saved[:j, j])

    @cached_property
    def _without_heads(self) -> tuple[Matrix, Matrix]:
        """The FLOPs of every part, and the bytes that it saves for backward."""
        flops, saved = (
            range_costs([cost_items(nodes, self._costs, by) for nodes in self._stretches])
            for by in (Balance.FLOPS, Balance.ACTIVATIONS)
        )
        return flops, saved

    def stretch_costs(self, balance: Balance) -> list[int]:
        """What lies between each two neighboring points costs, without heads."""
        if balance is Balance.DEPTH:
            return [int(units) for units in np.diff(self._units)]
        return [cost_of(nodes, self._costs, balance) for nodes in self._stretches]

    def cut_penalty(self, unit: Unit, parts: int) -> Matrix:
        """How unnatural it is to end a part at each point.

        What counts is how many levels deep in the user's modules the cut lies, then whether
        several tensors cross there. A cut at which no module ends lies deepest.
        """
        paths = {path for path, _ in unit.model.named_modules()}
        deepest = 1 + max(path.count(".") for path in paths)
        levels = [b.path.count(".") if b.path in paths else deepest for b in self.boundaries]
        penalties = [
            level * parts + (not b.single) for level, b in zip(levels, self.boundaries, strict=True)
        ]
        size = len(penalties) + 2
        return np.broadcast_to(np.array([0, *penalties, 0], dtype=np.int64), (size, size))


def legal_line(unit: Unit) -> Line:
    """The line of all legal boundaries at which there can be a head."""
    return Line(unit, with_heads(unit, unit.fact(Boundaries).legal))


def with_heads(unit: Unit, boundaries: Iterable[Boundary]) -> tuple[Boundary, ...]:
    """Those boundaries at which there can be a head of the kind asked for."""
    planned = unit.fact(Heads).planned
    return tuple(b for b in boundaries if b.after in planned)


def cost_items(nodes: Iterable[fx.Node], costs: Costs, balance: Balance) -> dict[Hashable, int]:
    """What nodes cost together: the items that count once, with what each costs."""
    items: dict[Hashable, int] = {}
    for node in nodes:
        cost = costs.nodes.get(node.name, FREE)
        match balance:
            case Balance.ACTIVATIONS:
                items.update(cost.saved.items())
            case Balance.PARAMETERS:
                items.update(cost.parameters.items())
            case Balance.FLOPS:
                items[node.name] = cost.flops
    return items


def cost_of(nodes: Iterable[fx.Node], costs: Costs, balance: Balance) -> int:
    """What nodes cost together."""
    return sum(cost_items(nodes, costs, balance).values())


def added_by_head(head: PlannedHead, nodes: Iterable[fx.Node], costs: Costs) -> HeadCost:
    """What a head adds to the part of these nodes."""
    saved = cost_items(nodes, costs, Balance.ACTIVATIONS)
    hidden = sum(size for storage, size in head.hidden.items() if storage not in saved)
    own = head.cost
    return HeadCost(own.parameters, own.flops, own.activation_bytes + hidden)


def balanced(cost: HeadCost | Segment, balance: Balance) -> int:
    """What a head, or a part without its head, costs of what is summed up over nodes."""
    match balance:
        case Balance.ACTIVATIONS:
            return cost.activation_bytes
        case Balance.PARAMETERS:
            return cost.parameters
        case Balance.FLOPS:
            return cost.flops
        case Balance.DEPTH | Balance.MEMORY:
            return 0
