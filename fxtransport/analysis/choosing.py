"""The best cuts of a graph into K parts, by whatever is balanced."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from fxtransport.analysis.bottleneck import (
    Goal,
    Heaviest,
    Steps,
    Total,
    best_cuts,
    lightest_bottleneck,
    limit_with_fees,
    most_parts,
    squares,
)
from fxtransport.analysis.cut_points import SUBMODULE, submodule_ends
from fxtransport.analysis.line import Line, legal_line, with_heads
from fxtransport.errors import PartitionError, UsageError
from fxtransport.ir import Balance, Boundaries, Boundary, Heads
from fxtransport.unit import Unit

_WORTH_IT = 0.6
"""How heavy the heaviest part may be, relative to what cuts through one tensor allow, for cuts
through several to be worth it."""


class Choice(NamedTuple):
    """Cuts, and what depth was counted in."""

    cuts: tuple[Boundary, ...]
    submodules: tuple[int, ...] = ()
    """The positions of submodules, where these are counted as depth because residuals are too
    few."""


class Chooser:
    """Chooses cuts of one graph, for any number of parts.

    Args:
        unit: The model and its facts.
    """

    def __init__(self, unit: Unit) -> None:
        self._unit = unit

    def choose(self, modules: int, balance: Balance) -> Choice:
        """The best cuts into a number of parts.

        Raises:
            PartitionError: there are too few places to cut.
            UsageError: there can be no head of the kind asked for at too many of them.
        """
        line, submodules = self._line(modules, balance)
        points = best_cuts(*self._problem(line, modules, balance))
        return Choice(tuple(line.boundaries[p - 1] for p in points), submodules)

    def most(self, balance: Balance) -> int:
        """The largest number of parts."""
        most = most_parts(self.every.steps(balance))
        if balance is Balance.DEPTH and self._by_submodules is not None:
            most = max(most, most_parts(self._by_submodules.steps(balance)))
        return most

    @cached_property
    def every(self) -> Line:
        """The line of all legal boundaries."""
        return legal_line(self._unit)

    @cached_property
    def _single(self) -> Line | None:
        """The line of those where one tensor crosses; None if they are all."""
        boundaries = self._unit.fact(Boundaries)
        if not boundaries.multiple:
            return None
        return Line(self._unit, with_heads(self._unit, boundaries.single))

    @cached_property
    def _by_submodules(self) -> Line | None:
        """The line of all legal boundaries, where depth is counted in submodules."""
        submodules = self._submodules
        return Line(self._unit, self.every.boundaries, submodules) if submodules else None

    @cached_property
    def _submodules(self) -> tuple[int, ...]:
        if self._unit.fact(Boundaries).unit == SUBMODULE:
            return ()
        return tuple(submodule_ends(self._unit))

    def _line(self, modules: int, balance: Balance) -> tuple[Line, tuple[int, ...]]:
        """The boundaries to choose from: those where several tensors cross, where needed."""
        most = most_parts(self.every.steps(balance))
        if most >= modules:
            return self._worthwhile(modules, balance), ()
        by_submodules = self._by_submodules if balance is Balance.DEPTH else None
        if by_submodules is not None:
            enough = most_parts(by_submodules.steps(balance))
            if enough >= modules:
                return by_submodules, self._submodules
            most = max(most, enough)
        raise self._too_few(modules, most)

    def _worthwhile(self, modules: int, balance: Balance) -> Line:
        single = None if balance is Balance.MEMORY else self._single
        if single is None or most_parts(single.steps(balance)) < modules:
            return self.every
        found, best = (_bottleneck(line, modules, balance) for line in (single, self.every))
        return self.every if best <= _WORTH_IT * found else single

    def _problem(
        self, line: Line, modules: int, balance: Balance
    ) -> tuple[Steps, int, Sequence[Goal]]:
        """Which steps parts may make, how many there are, and what counts."""
        cost, steps = line.cost(balance), line.steps(balance)
        goals: list[Goal] = [Heaviest(cost), Total(squares(cost, modules))]
        if balance is Balance.MEMORY:
            fees = line.fees()
            steps = steps & (cost <= limit_with_fees(cost, fees, steps, modules))
            goals = [Total(fees), *goals]
        if balance is Balance.DEPTH:
            goals.append(Heaviest(line.cost(Balance.ACTIVATIONS)))
        return steps, modules, [*goals, Total(line.cut_penalty(self._unit, modules))]

    def _too_few(self, modules: int, most: int) -> UsageError:
        """Why the model cannot be cut into as many parts: few places to cut, or few heads."""
        unit = self._unit
        boundaries, refused = unit.fact(Boundaries), unit.fact(Heads).refused
        reasons = [refused[b.after] for b in boundaries.legal if b.after in refused]
        if reasons and modules <= 1 + len({b.units for b in boundaries.legal}):
            return UsageError(reasons[0])
        plural = "" if boundaries.units == 1 else "s"
        return PartitionError(
            f"cannot cut {type(unit.model).__name__} into {modules} parts: it has "
            f"{boundaries.units} {boundaries.unit}{plural}, and the places where it can be cut "
            f"make at most {most} part{'' if most == 1 else 's'}, each with something to train; "
            "ask for no more, or place the cuts by hand"
        )


def _bottleneck(line: Line, modules: int, balance: Balance) -> int:
    """What the heaviest part costs at best."""
    return lightest_bottleneck(line.cost(balance), line.steps(balance), modules)
