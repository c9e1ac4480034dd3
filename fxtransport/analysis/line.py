"""The graph as a line of points, and what lies between two of them."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from torch import fx

from fxtransport.analysis.bottleneck import Matrix, Steps, range_costs
from fxtransport.ir import Balance, Boundaries, Boundary, Costs, NodeCost
from fxtransport.unit import Unit

FREE = NodeCost({}, 0, {})
"""What a node costs that a pass added."""


class Line:
    """The graph as a line, with the boundaries, the start and the end as its points."""

    def __init__(self, unit: Unit, boundaries: Sequence[Boundary]) -> None:
        nodes = list(unit.traced().nodes)
        position = {node.name: i for i, node in enumerate(nodes)}
        self.boundaries = sorted(boundaries, key=lambda b: position[b.after])
        ends = [position[b.after] + 1 for b in self.boundaries]
        self._stretches = [
            nodes[start:end] for start, end in zip([0, *ends], [*ends, len(nodes)], strict=True)
        ]
        self._costs = unit.fact(Costs)
        units = [0, *(b.units for b in self.boundaries), unit.fact(Boundaries).units]
        self._units = np.array(units, dtype=np.int64)
        self._costs_by: dict[Balance, Matrix] = {}

    @property
    def steps(self) -> Steps:
        """Which modules may be: those of at least one depth unit, and the whole."""
        allowed: Steps = self._units[None, :] > self._units[:, None]
        allowed[0, -1] = True
        return np.triu(allowed, 1)

    def cost(self, balance: Balance) -> Matrix:
        """The cost of every range between two points."""
        if balance is Balance.DEPTH:
            return np.triu(self._units[None, :] - self._units[:, None], 1)
        if balance not in self._costs_by:
            items = [cost_items(nodes, self._costs, balance) for nodes in self._stretches]
            self._costs_by[balance] = range_costs(items)
        return self._costs_by[balance]

    def oddness(self, unit: Unit, parts: int) -> Matrix:
        """How unnatural it is to end a part at each point.

        What counts is how many levels deep in the user's modules the cut lies, then whether
        several tensors cross there. A cut at which no module ends lies deepest.
        """
        paths = {path for path, _ in unit.model.named_modules()}
        deepest = 1 + max(path.count(".") for path in paths)
        levels = [b.path.count(".") if b.path in paths else deepest for b in self.boundaries]
        odd = [
            level * parts + (not b.single) for level, b in zip(levels, self.boundaries, strict=True)
        ]
        return np.broadcast_to(np.array([0, *odd, 0], dtype=np.int64), (len(odd) + 2, len(odd) + 2))


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
