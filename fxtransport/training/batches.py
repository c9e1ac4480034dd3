"""Training batches from anything that can be iterated over again and again."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from fxtransport.errors import UsageError
from fxtransport.randomness import derived_seed, isolated


@runtime_checkable
class Epochs(Protocol):
    """What a trainer needs of training batches; a ``TrainStream`` of the data is one."""

    def __len__(self) -> int:
        """How many batches an epoch has."""

    def epoch(self, n: int, start: int = 0) -> Iterator[Any]:
        """Inputs and targets of epoch ``n``, counted from 0, without the first ``start``."""


@runtime_checkable
class Batches(Protocol):
    """A list of batches, or a ``DataLoader``: inputs and targets, as often as wanted."""

    def __len__(self) -> int:
        """How many there are."""

    def __iter__(self) -> Iterator[Any]:
        """The batches, from the first on."""


@dataclass(frozen=True)
class Reiterated:
    """Batches as epochs: each batch is fetched with the global generators seeded for it.

    So what a ``DataLoader`` shuffles and augments depends on the seed, the epoch and the
    position, and a run that was resumed within an epoch sees the batches that it would have
    seen. The generators are put back afterwards.

    Args:
        batches: What to iterate over.
        seed: Of what is random in it.
    """

    batches: Batches
    seed: int

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, n: int, start: int = 0) -> Iterator[Any]:
        """The batches of an epoch; those before ``start`` are fetched too, and dropped."""
        with isolated(derived_seed(self.seed, n)):
            iterator = iter(self.batches)
        for i in range(len(self)):
            with isolated(derived_seed(self.seed, n, i)):
                batch = next(iterator)
            if i >= start:
                yield batch


def epochs_of(train: Epochs | Batches, seed: int | None) -> Epochs:
    """Training batches as epochs.

    Raises:
        UsageError: it is an iterator, or has no length.
    """
    if isinstance(train, Epochs):
        return train
    if isinstance(train, Batches):
        return Reiterated(train, seed or 0)
    raise UsageError(
        "training batches are needed again in every epoch, and their number: give a list, a "
        "DataLoader of a data set with a length, or a stream of fxtransport.data"
    )
