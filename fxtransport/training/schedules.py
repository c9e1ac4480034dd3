"""Which modules train together, for how many epochs, in what order (THESIS 4.3).

A schedule is a list of phases. In each, some modules train together, those before them are
frozen, and those behind them do not run.
"""

from dataclasses import dataclass

from fxtransport.errors import UsageError


@dataclass(frozen=True)
class Phase:
    """A run of epochs in which the same modules train."""

    modules: tuple[int, ...] | None
    """Indices of the modules that train; None: the whole program as one."""
    epochs: int
    lap: int = 0

    @property
    def first(self) -> int:
        """The first module that trains; those before it are frozen."""
        return 0 if self.modules is None else self.modules[0]


@dataclass(frozen=True)
class Schedule:
    """The base of all schedules.

    Raises:
        UsageError: a number is below what makes sense.
    """

    epochs: int

    def __post_init__(self) -> None:
        _at_least("epochs", self.epochs, 1)

    def phases(self, modules: int) -> tuple[Phase, ...]:
        """The phases of a program of K modules, in order.

        Args:
            modules: K.
        """
        raise NotImplementedError

    def epochs_of(self, module: int | None, modules: int) -> int:
        """The epochs for which a module trains, over all phases.

        Args:
            module: Its index; None: the whole program as one.
            modules: K.
        """
        phases = self.phases(modules)
        return sum(p.epochs for p in phases if module in (p.modules or (None,)))


@dataclass(frozen=True)
class EndToEnd(Schedule):
    """The whole program trains as one, by backpropagation through all of it.

    >>> EndToEnd(epochs=10).phases(modules=4)
    (Phase(modules=None, epochs=10, lap=0),)
    """

    def phases(self, modules: int) -> tuple[Phase, ...]:
        """One phase; the cuts and auxiliary heads are not used."""
        return (Phase(None, self.epochs),)


@dataclass(frozen=True)
class Parallel(Schedule):
    """All modules train on each batch, one after the other (DGL; THESIS 4.3, parallel).

    Each reads the detached output that the one before computed ahead of its own step.

    >>> Parallel(epochs=10).phases(modules=3)
    (Phase(modules=(0, 1, 2), epochs=10, lap=0),)
    """

    def phases(self, modules: int) -> tuple[Phase, ...]:
        """One phase."""
        return (Phase(tuple(range(modules)), self.epochs),)


@dataclass(frozen=True)
class MultiLap(Schedule):
    """First module to last, again and again (THESIS 4.3, multi-lap sequential).

    A module's optimiser and its learning rate's schedule go on in the next lap where they
    were in the last.

    Args:
        epochs: Epochs of the first module in each lap; of R laps that take N epochs
            together, N/R.
        growth: How many more each next module trains: module k, counted from 0, trains
            ``epochs + k·growth`` epochs in each lap.
        laps: R.

    >>> [(p.modules, p.epochs, p.lap) for p in MultiLap(10, growth=2, laps=2).phases(2)]
    [((0,), 10, 0), ((1,), 12, 0), ((0,), 10, 1), ((1,), 12, 1)]
    """

    growth: int = 0
    laps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least("growth", self.growth, 0)
        _at_least("laps", self.laps, 1)

    def phases(self, modules: int) -> tuple[Phase, ...]:
        """A phase for each lap and module."""
        return tuple(
            Phase((k,), self.epochs + k * self.growth, lap)
            for lap in range(self.laps)
            for k in range(modules)
        )


@dataclass(frozen=True)
class Sequential(Schedule):
    """Each module trains to its end before the next begins (THESIS 4.3, sequential).

    Args:
        epochs: Epochs of the first module.
        growth: How many more each next module trains: module k, counted from 0, trains
            ``epochs + k·growth`` epochs.

    >>> [phase.epochs for phase in Sequential(epochs=50, growth=10).phases(modules=3)]
    [50, 60, 70]
    """

    growth: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least("growth", self.growth, 0)

    def phases(self, modules: int) -> tuple[Phase, ...]:
        """A phase for each module."""
        return MultiLap(self.epochs, self.growth).phases(modules)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise UsageError(f"{name} is {value}; it must be at least {least}")
