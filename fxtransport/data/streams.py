"""Batches in an order that depends on the seed, the epoch and the position, and nothing else.

A run that stopped in the middle of an epoch continues there bit for bit, with any number of
worker processes: what is random about a batch (augmentation, mixup) is drawn with a seed of its
own, and the global generators of Python, NumPy and torch, which dropout uses, are left as they
were.
"""

import math
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fxtransport.data.fingerprints import combined, fingerprint, named, tensors_hash
from fxtransport.data.labels import balanced_weights, labels_of
from fxtransport.errors import UsageError
from fxtransport.randomness import derived_seed, fork_rng

Batch: TypeAlias = tuple[Tensor, Tensor]
"""Inputs, B×…, and targets: classes, B of int64, or with mixup probabilities, B×num_classes."""

Mix: TypeAlias = Callable[[Tensor, Tensor], Batch]
"""Changes a batch at random, as ``timm.data.Mixup`` does."""


class Samples(Protocol):
    """Labeled inputs that are fetched by index."""

    def __len__(self) -> int:
        """How many there are."""

    def batch(self, indices: Sequence[int]) -> Batch:
        """Fetch the samples at these indices, in order; may draw from the global generators."""


class TrainStream(Protocol):
    """Training batches, in another order in every epoch."""

    @property
    def num_samples(self) -> int:
        """How many samples one epoch has."""

    def __len__(self) -> int:
        """How many batches one epoch has."""

    def epoch(self, n: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``n``, counted from 0, without the first ``start``."""


class EvalStream(Protocol):
    """Batches for evaluation: every sample once, always in the same order, nothing random."""

    @property
    def num_samples(self) -> int:
        """How many samples there are."""

    def __len__(self) -> int:
        """How many batches there are."""

    def __iter__(self) -> Iterator[Batch]:
        """The batches, from the first one."""


@dataclass(frozen=True, eq=False)
class TensorSamples:
    """Samples that lie in memory, ready for use.

    Args:
        inputs: N×….
        targets: N classes of int64.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Copies of the inputs and targets at these indices."""
        chosen = torch.tensor(indices, dtype=torch.int64)
        return self.inputs[chosen], self.targets[chosen]

    def fingerprint(self) -> str:
        """A hash of all inputs and targets."""
        return tensors_hash((self.inputs, self.targets))

    def labels(self) -> Tensor:
        """The classes."""
        return self.targets


@dataclass(frozen=True)
class Subset:
    """Some of the samples, renumbered from 0."""

    samples: Samples
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Fetch the samples that these indices stand for."""
        return self.samples.batch([self.indices[i] for i in indices])

    def fingerprint(self) -> str | None:
        """A hash of the samples, and of which they are."""
        return combined(fingerprint(self.samples), self.indices)

    def labels(self) -> Tensor | None:
        """The classes, if the samples tell them."""
        found = labels_of(self.samples)
        return None if found is None else found[list(self.indices)]


@dataclass(frozen=True)
class ShuffledStream:
    """Training batches of samples, in random order.

    Args:
        samples: What is trained on.
        batch_size: How many samples a batch has; the last may be smaller.
        seed: Determines the order, and everything that is random in a batch.
        num_workers: How many processes prepare batches; with 0 this process does.
        drop_last: Leave out a last batch that is smaller.
        mix: Applied to every batch.
        pin_memory: Put batches into page-locked memory.
        balanced: Draw with replacement, so that each class is drawn equally often on average.

    Raises:
        UsageError: ``balanced`` is set, and the samples do not tell their classes.

    >>> samples = TensorSamples(torch.arange(5.0).unsqueeze(1), torch.arange(5))
    >>> stream = ShuffledStream(samples, batch_size=2, seed=0)
    >>> order = [targets.tolist() for _, targets in stream.epoch(0)]
    >>> [len(batch) for batch in order], sorted(sum(order, []))
    ([2, 2, 1], [0, 1, 2, 3, 4])
    >>> [targets.tolist() for _, targets in stream.epoch(0, start=1)] == order[1:]
    True
    """

    samples: Samples
    batch_size: int
    seed: int
    num_workers: int = 0
    drop_last: bool = False
    mix: Mix | None = None
    pin_memory: bool = False
    balanced: bool = False

    def __post_init__(self) -> None:
        if self.balanced and labels_of(self.samples) is None:
            raise UsageError("balanced batches need samples that tell their classes")

    @property
    def num_samples(self) -> int:
        """How many samples one epoch has."""
        count = len(self.samples)
        return count - count % self.batch_size if self.drop_last else count

    def __len__(self) -> int:
        return math.ceil(self.num_samples / self.batch_size)

    def description(self) -> dict[str, Any]:
        """What the batches depend on, as JSON: by it a run that is resumed knows its data."""
        return {
            "samples": len(self.samples),
            "content": fingerprint(self.samples),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "drop_last": self.drop_last,
            "mix": None if self.mix is None else named(self.mix),
            # earlier versions did not have it
            **({"balanced": True} if self.balanced else {}),
        }

    def epoch(self, n: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``n``, counted from 0, without the first ``start``.

        Raises:
            ValueError: the epoch has fewer batches than ``start``.
        """
        if not 0 <= start <= len(self):
            raise ValueError(f"an epoch has {len(self)} batches: it cannot start at {start}")
        order = self._order(generator(self.seed, n))
        draws = [
            Draw(tuple(chosen), derived_seed(self.seed, n, start + i))
            for i, chosen in enumerate(_slices(order, self.batch_size, start, len(self)))
        ]
        return _batches(self.samples, draws, self.num_workers, self.mix, self.pin_memory)

    def _order(self, random: torch.Generator) -> list[int]:
        """The samples of an epoch."""
        count = len(self.samples)
        labels = labels_of(self.samples) if self.balanced else None
        if labels is None:
            found = torch.randperm(count, generator=random)
        else:
            weights = balanced_weights(labels, int(labels.max()) + 1)[labels]
            found = torch.multinomial(weights, count, replacement=True, generator=random)
        order: list[int] = found.tolist()
        return order


@dataclass(frozen=True)
class OrderedStream:
    """Batches of samples for evaluation, in the order of the samples.

    Args:
        samples: What is evaluated on.
        batch_size: How many samples a batch has; the last may be smaller.
        num_workers: How many processes prepare batches; with 0 this process does.
        pin_memory: Put batches into page-locked memory.
    """

    samples: Samples
    batch_size: int
    num_workers: int = 0
    pin_memory: bool = False

    @property
    def num_samples(self) -> int:
        """How many samples there are."""
        return len(self.samples)

    def __len__(self) -> int:
        return math.ceil(self.num_samples / self.batch_size)

    def description(self) -> dict[str, Any]:
        """What is evaluated on, as JSON."""
        return {"samples": len(self.samples), "content": fingerprint(self.samples)}

    def __iter__(self) -> Iterator[Batch]:
        order = list(range(len(self.samples)))
        # nothing is random here, so any seed will do
        draws = [Draw(tuple(c), 0) for c in _slices(order, self.batch_size, 0, len(self))]
        return _batches(self.samples, draws, self.num_workers, None, self.pin_memory)


class Draw(NamedTuple):
    """One batch before it is fetched."""

    indices: tuple[int, ...]
    seed: int


def generator(*numbers: int) -> torch.Generator:
    """A separate generator, seeded with these numbers."""
    # torch takes a seed as a signed number of 64 bits
    return torch.Generator().manual_seed(derived_seed(*numbers) >> 1)


def _slices(order: list[int], size: int, start: int, stop: int) -> Iterator[list[int]]:
    return (order[i * size : (i + 1) * size] for i in range(start, stop))


def _batches(
    samples: Samples, draws: list[Draw], num_workers: int, mix: Mix | None, pin_memory: bool
) -> Iterator[Batch]:
    loader = DataLoader(
        _DrawnBatches(samples, mix),
        batch_size=None,
        sampler=_Draws(draws),
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=leave_signals_to_parent if num_workers else None,
        # otherwise the loader draws from the global one
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, UsageError):
            raise batch
        yield batch


@dataclass(frozen=True)
class _DrawnBatches(Dataset[Batch | UsageError]):
    """The batches that were drawn.

    A UsageError is returned, for a worker that raises it would change its message.
    """

    samples: Samples
    mix: Mix | None

    def __getitem__(self, draw: Draw) -> Batch | UsageError:
        with fork_rng(draw.seed):
            try:
                batch = self.samples.batch(draw.indices)
            except UsageError as error:
                return error
            return self.mix(*batch) if self.mix else batch


@dataclass(frozen=True)
class _Draws(Sampler[Draw]):
    draws: list[Draw]

    def __len__(self) -> int:
        return len(self.draws)

    def __iter__(self) -> Iterator[Draw]:
        return iter(self.draws)


def leave_signals_to_parent(_: int) -> None:
    """Ignore Ctrl-C in a worker and end on SIGTERM, by which the parent ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
