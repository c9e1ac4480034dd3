"""Training batches from anything that can be iterated over repeatedly."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from fxtransport.errors import UsageError
from fxtransport.randomness import derived_seed, fork_rng


@runtime_checkable
class Epochs(Protocol):
    """What a trainer needs of training batches; the streams of fxtransport.data have it."""

    def __len__(self) -> int:
        """The number of batches in an epoch."""

    def epoch(self, n: int, start: int = 0) -> Iterator[Any]:
        """Inputs and targets of epoch ``n``, counted from 0, without the first ``start``."""


@runtime_checkable
class Batches(Protocol):
    """A list of batches, or a ``DataLoader``: inputs and targets, as often as needed."""

    def __len__(self) -> int:
        """The number of batches."""

    def __iter__(self) -> Iterator[Any]:
        """The batches, from the first on."""


@dataclass(frozen=True)
class RepeatedBatches:
    """Batches as epochs: each batch is fetched with the global generators seeded for it.

    What a ``DataLoader`` shuffles and augments then depends on the seed, the epoch and the
    position, so a run that is resumed within an epoch sees the batches that it would have
    seen. The state of the generators is restored afterwards.

    Args:
        batches: What to iterate over.
        seed: The seed of its randomness.
    """

    batches: Batches
    seed: int

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, n: int, start: int = 0) -> Iterator[Any]:
        """The batches of an epoch. Those before ``start`` are fetched too, and dropped."""
        with fork_rng(derived_seed(self.seed, n)):
            iterator = iter(self.batches)
        for i in range(len(self)):
            with fork_rng(derived_seed(self.seed, n, i)):
                batch = next(iterator)
            if i >= start:
                yield batch


def epochs_of(train: Epochs | Batches, seed: int | None) -> Epochs:
    """Training batches as epochs.

    Raises:
        UsageError: they are an iterator, or have no length.
    """
    if isinstance(train, Epochs):
        return train
    if isinstance(train, Batches):
        return RepeatedBatches(train, seed or 0)
    raise UsageError(
        "training batches are read again in every epoch, and need a length: give a list, a "
        "DataLoader of a data set with a length, or a stream of fxtransport.data"
    )
