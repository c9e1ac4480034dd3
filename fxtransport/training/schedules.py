"""Which parts train together, for how many epochs, in what order (THESIS 4.3).

A schedule trains a tuple of parts in phases. In each phase, some of the parts train together;
those before them are frozen, and those after them do not run.
"""

from dataclasses import dataclass

from fxtransport.errors import UsageError
from fxtransport.program import Part, Program


@dataclass(frozen=True)
class Phase:
    """A number of epochs in which the same parts train."""

    parts: tuple[int, ...]
    """The indices of the parts that train, in ``schedule.parts_of(program)``."""
    epochs: int
    lap: int = 0

    @property
    def first(self) -> int:
        """The first part that trains; those before it are frozen."""
        return self.parts[0]


@dataclass(frozen=True)
class Schedule:
    """The base of all schedules.

    Raises:
        UsageError: a number is too small.
    """

    epochs: int

    def __post_init__(self) -> None:
        _require_at_least("epochs", self.epochs, 1)

    def parts_of(self, program: Program) -> tuple[Part, ...]:
        """What trains, in order: the parts of a program, unless a schedule says otherwise."""
        return program.parts

    def phases(self, parts: int) -> tuple[Phase, ...]:
        """The phases, in order.

        Args:
            parts: The number of parts: the length of :meth:`parts_of`.
        """
        raise NotImplementedError

    def epochs_of(self, part: int, parts: int) -> int:
        """The epochs for which a part trains, over all phases.

        Args:
            part: The index of the part.
            parts: The number of parts.
        """
        return sum(phase.epochs for phase in self.phases(parts) if part in phase.parts)


@dataclass(frozen=True)
class EndToEnd(Schedule):
    """The whole program trains as one part, by backpropagation through all of it.

    >>> EndToEnd(epochs=10).phases(parts=1)
    (Phase(parts=(0,), epochs=10, lap=0),)
    """

    def parts_of(self, program: Program) -> tuple[Part, ...]:
        """The whole program; its cuts and auxiliary heads are not used."""
        return (program.whole,)

    def phases(self, parts: int) -> tuple[Phase, ...]:
        """One phase, of the one part that there is."""
        return (Phase((0,), self.epochs),)


@dataclass(frozen=True)
class Parallel(Schedule):
    """All parts train on each batch, one after the other (DGL; THESIS 4.3, parallel).

    Each reads the detached output that the one before computed ahead of its own step.

    >>> Parallel(epochs=10).phases(parts=3)
    (Phase(parts=(0, 1, 2), epochs=10, lap=0),)
    """

    def phases(self, parts: int) -> tuple[Phase, ...]:
        """One phase."""
        return (Phase(tuple(range(parts)), self.epochs),)


@dataclass(frozen=True)
class MultiLap(Schedule):
    """The parts train in turn, first to last, several times (THESIS 4.3, multi-lap sequential).

    The optimizer and the learning rate schedule of a part go on in the next lap where they
    were in the last.

    Args:
        epochs: Epochs of the first part in each lap. For N epochs in R laps, give N/R.
        growth: How many epochs more each next part trains: part k, counted from 0, trains
            ``epochs + k·growth`` epochs in each lap.
        laps: The number of laps, R.

    >>> [(p.parts, p.epochs, p.lap) for p in MultiLap(10, growth=2, laps=2).phases(parts=2)]
    [((0,), 10, 0), ((1,), 12, 0), ((0,), 10, 1), ((1,), 12, 1)]
    """

    growth: int = 0
    laps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_at_least("growth", self.growth, 0)
        _require_at_least("laps", self.laps, 1)

    def phases(self, parts: int) -> tuple[Phase, ...]:
        """A phase for each lap and part."""
        return tuple(
            Phase((k,), self.epochs + k * self.growth, lap)
            for lap in range(self.laps)
            for k in range(parts)
        )


@dataclass(frozen=True)
class Sequential(Schedule):
    """Each part trains to its end before the next begins (THESIS 4.3, sequential).

    Args:
        epochs: Epochs of the first part.
        growth: How many epochs more each next part trains: part k, counted from 0, trains
            ``epochs + k·growth`` epochs.

    >>> [phase.epochs for phase in Sequential(epochs=50, growth=10).phases(parts=3)]
    [50, 60, 70]
    """

    growth: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_at_least("growth", self.growth, 0)

    def phases(self, parts: int) -> tuple[Phase, ...]:
        """A phase for each part."""
        return MultiLap(self.epochs, self.growth).phases(parts)


def _require_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise UsageError(f"{name} is {value}; it must be at least {least}")
