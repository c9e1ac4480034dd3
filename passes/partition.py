"""Cut the graph into parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    Segment,
    TrainingMemory,
)
from fxtransport.passes.base import Pass, setting

if TYPE_CHECKING:
    from fxtransport.analysis.choosing import Choice
    from fxtransport.unit import Unit


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
        "What is even among the parts; activations are bytes saved for backward, memory is the "
        "peak of training.",
    )

    @property
    def needed(self) -> tuple[type, ...]:
        """Also what training holds, where that is balanced."""
        return (*self.requires, TrainingMemory) if self.balance is Balance.MEMORY else self.requires

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
        from fxtransport.analysis.cut_points import SUBMODULE
        from fxtransport.analysis.segments import part_costs, plan_heads, segments_between

        choice = self._choose(unit)
        cuts, submodules = choice
        segments = segments_between(unit, cuts)
        heads = plan_heads(unit, cuts)
        costs = part_costs(unit, self.balance, cuts, segments, heads, submodules)
        plan = PartitionPlan(
            balance=self.balance,
            unit=SUBMODULE if submodules else unit.fact(Boundaries).unit,
            segments=_with_peaks(unit, cuts, segments),
            cuts=cuts,
            bottleneck=max(costs),
            lower_bound=self._lower_bound(unit, choice, max(costs)),
            imbalance=max(costs) * len(costs) / sum(costs) - 1 if sum(costs) else 0.0,
        )
        return unit.with_facts(plan, heads)

    def _choose(self, unit: Unit) -> Choice:
        from fxtransport.analysis.choosing import Choice, Chooser

        by_hand = unit.fact(Boundaries).cuts
        if by_hand:
            self._check_by_hand(unit, by_hand)
            return Choice(by_hand)
        return Chooser(unit).choose(self.modules, self.balance)

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

    def _lower_bound(self, unit: Unit, choice: Choice, found: int) -> int:
        """The mean, if the parts shared nothing, or what no cut can separate.

        Cuts by hand may separate any two nodes; others only what lies on both sides of a
        legal boundary. Each of these needs a head, and so as many heads as there are cuts. Of
        memory, it is the peak of the best cuts that are legal.
        """
        from fxtransport.analysis.choosing import Chooser
        from fxtransport.analysis.head_sizes import sizes_of
        from fxtransport.analysis.line import balanced, cost_of
        from fxtransport.analysis.ranges import partition_peaks

        parts, boundaries = len(choice.cuts) + 1, unit.fact(Boundaries)
        chooser = Chooser(unit)
        if self.balance is Balance.MEMORY:
            if not boundaries.cuts or chooser.most(self.balance) < parts:
                return found
            best = chooser.choose(parts, self.balance).cuts
            return min(found, max(partition_peaks(unit.fact(TrainingMemory), best)))
        every = chooser.every
        if choice.submodules:
            return -(-len(choice.submodules) // parts)
        total = int(every.cost(self.balance)[0, -1])
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


def _with_peaks(
    unit: Unit, cuts: Sequence[Boundary], segments: tuple[Segment, ...]
) -> tuple[Segment, ...]:
    """The parts with what training holds, if that was counted."""
    if not unit.has(TrainingMemory):
        return segments
    from fxtransport.analysis.ranges import partition_peaks

    peaks = partition_peaks(unit.fact(TrainingMemory), cuts)
    return tuple(replace(s, peak_bytes=p) for s, p in zip(segments, peaks, strict=True))
