"""Cut the graph into parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fxtransport.errors import PartitionError, UsageError
from fxtransport.ir import (
    Balance,
    Boundaries,
    Boundary,
    Costs,
    HeadPlan,
    Heads,
    Layers,
    PartitionPlan,
    Residuals,
)
from fxtransport.passes.base import Pass, setting

if TYPE_CHECKING:
    from fxtransport.analysis.bottleneck import Goal
    from fxtransport.analysis.line import Line
    from fxtransport.unit import Unit

_WORTH_IT = 0.6
"""How heavy the heaviest part may be, relative to what cuts through one tensor allow, for cuts
through several to be worth it."""


@dataclass(frozen=True)
class Partition(Pass):
    """Cut the graph into parts so that the heaviest is as light as possible.

    Exact: a dynamic program over the legal boundaries, O(modules · boundaries²). A part's
    cost is that of its nodes and of its auxiliary head. Equally good partitions are told
    apart by the sum of squares; with balance by depth then by the activations of the heaviest
    part; then by how few levels deep the cuts lie in the user's modules, how few tensors
    cross, and how late they are (THESIS 4.5.3). Cuts by hand are taken as they are.
    """

    name: ClassVar[str] = "partition"
    requires: ClassVar[tuple[type, ...]] = (Boundaries, Costs, Heads, Residuals, Layers)
    provides: ClassVar[tuple[type, ...]] = (PartitionPlan, HeadPlan)

    modules: int = setting(1, "K, the number of parts.", flag="--modules/-k", metavar="K", least=1)
    balance: Balance = setting(
        Balance.DEPTH,
        "What is even among the parts; activations are bytes saved for backward.",
    )

    def __post_init__(self) -> None:
        if self.modules < 1:
            raise PartitionError(
                f"cannot cut a model into {self.modules} parts; ask for at least 1"
            )

    def run(self, unit: Unit) -> Unit:
        """Add the plan, and the heads of the parts.

        Raises:
            PartitionError: the model has too few boundaries, or the number of cuts by hand
                is another than ``modules`` asks for.
            UsageError: there can be no head of the kind asked for at a cut by hand, or at too
                many boundaries.
        """
        from fxtransport.analysis.segments import part_costs, plan_heads, segments_between

        cuts = self._cuts(unit)
        segments = segments_between(unit, cuts)
        heads = plan_heads(unit, cuts)
        costs = part_costs(unit, self.balance, cuts, segments, heads)
        plan = PartitionPlan(
            balance=self.balance,
            unit=unit.fact(Boundaries).unit,
            segments=segments,
            cuts=cuts,
            bottleneck=max(costs),
            lower_bound=self._lower_bound(unit, len(segments)),
            imbalance=max(costs) * len(costs) / sum(costs) - 1 if sum(costs) else 0.0,
        )
        return unit.with_facts(plan, heads)

    def _cuts(self, unit: Unit) -> tuple[Boundary, ...]:
        from fxtransport.analysis.bottleneck import best_cuts

        by_hand = unit.fact(Boundaries).cuts
        if by_hand:
            self._check_by_hand(unit, by_hand)
            return by_hand
        line = self._line(unit)
        points = best_cuts(line.steps, self.modules, self._goals(unit, line))
        return tuple(line.boundaries[p - 1] for p in points)

    def _check_by_hand(self, unit: Unit, cuts: Sequence[Boundary]) -> None:
        if self.modules not in (1, len(cuts) + 1):
            raise PartitionError(
                f"{len(cuts)} in cuts makes {len(cuts) + 1} parts, not {self.modules}; leave "
                "out either the cuts or the number of modules"
            )
        refused = unit.fact(Heads).refused
        for cut in cuts:
            if cut.after in refused:
                raise UsageError(refused[cut.after])

    def _line(self, unit: Unit) -> Line:
        """The boundaries to choose from: those where several tensors cross, where needed."""
        from fxtransport.analysis.bottleneck import most_parts
        from fxtransport.analysis.line import Line, legal_line, with_heads

        boundaries = unit.fact(Boundaries)
        line = every = legal_line(unit)
        if boundaries.multiple:
            single = Line(unit, with_heads(unit, boundaries.single))
            enough = most_parts(single.steps) >= self.modules
            if enough and self._bottleneck(every) > _WORTH_IT * self._bottleneck(single):
                line = single
        most = most_parts(line.steps)
        if most < self.modules:
            raise self._too_few(unit, most)
        return line

    def _too_few(self, unit: Unit, most: int) -> UsageError:
        """Why the model cannot be cut into as many parts: few boundaries, or few heads."""
        boundaries, refused = unit.fact(Boundaries), unit.fact(Heads).refused
        reasons = [refused[b.after] for b in boundaries.legal if b.after in refused]
        if reasons and self.modules <= 1 + len({b.units for b in boundaries.legal}):
            return UsageError(reasons[0])
        plural = "" if boundaries.units == 1 else "s"
        return PartitionError(
            f"cannot cut {type(unit.model).__name__} into {self.modules} parts: it has "
            f"{boundaries.units} {boundaries.unit}{plural} and makes at most {most} "
            f"part{'' if most == 1 else 's'} of at least one each; ask for no more, or "
            f"place the cuts by hand"
        )

    def _bottleneck(self, line: Line) -> int:
        """What the heaviest part costs at best."""
        from fxtransport.analysis.bottleneck import lightest_bottleneck

        return lightest_bottleneck(line.cost(self.balance), line.steps, self.modules)

    def _goals(self, unit: Unit, line: Line) -> list[Goal]:
        from fxtransport.analysis.bottleneck import Heaviest, Total, squares

        cost = line.cost(self.balance)
        goals: list[Goal] = [Heaviest(cost), Total(squares(cost, self.modules))]
        if self.balance is Balance.DEPTH:
            goals.append(Heaviest(line.cost(Balance.ACTIVATIONS)))
        return [*goals, Total(line.cut_penalty(unit, self.modules))]

    def _lower_bound(self, unit: Unit, parts: int) -> int:
        """The mean, if the parts shared nothing, or what no cut can separate.

        Cuts by hand may separate any two nodes; others only what lies on both sides of a
        legal boundary. Each of these needs a head, and so as many heads as there are cuts.
        """
        from fxtransport.analysis.head_sizes import sizes_of
        from fxtransport.analysis.line import balanced, cost_of, legal_line

        every = legal_line(unit)
        total = int(every.cost(self.balance)[0, -1])
        boundaries = unit.fact(Boundaries)
        if not boundaries.cuts:
            heads = sorted(
                min(balanced(size.cost, self.balance) for size in sizes_of(head))
                for head in every.heads
            )
            mean = -(-(total + sum(heads[: parts - 1])) // parts)
            return max(mean, *every.stretch_costs(self.balance))
        mean = -(-total // parts)
        if self.balance is Balance.DEPTH:
            return max(mean, min(1, boundaries.units))
        costs = unit.fact(Costs)
        return max(mean, *(cost_of([n], costs, self.balance) for n in unit.traced().nodes))
