"""Batches in an order that is a function of the seed, the epoch and the position, nothing else.

A run that stopped in the middle of an epoch goes on there bit for bit, with whatever number of
worker processes: what is random about a batch (augmentation, mixup) is drawn from a seed of its
own, and the global generators of Python, NumPy and torch, which dropout uses, are left as they
were.
"""

import math
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fxtransport.errors import UsageError
from fxtransport.randomness import derived_seed, fork_rng

Batch: TypeAlias = tuple[Tensor, Tensor]
"""Inputs, B×…, and targets: classes, B int64, or with mixup probabilities, B×num_classes."""

Mix: TypeAlias = Callable[[Tensor, Tensor], Batch]
"""Changes a batch at random, as ``timm.data.Mixup`` does."""


class Samples(Protocol):
    """Labelled inputs that are fetched by their numbers."""

    def __len__(self) -> int:
        """How many there are."""

    def batch(self, indices: Sequence[int]) -> Batch:
        """Fetch some of them, in this order; may draw from the global generators."""


class TrainStream(Protocol):
    """Training batches, anew in every epoch."""

    @property
    def images(self) -> int:
        """How many inputs one epoch has."""

    def __len__(self) -> int:
        """How many batches one epoch has."""

    def epoch(self, n: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``n``, counted from 0, without the first ``start``."""


class EvalStream(Protocol):
    """Batches for evaluation: every input once, always in one order, nothing random."""

    @property
    def images(self) -> int:
        """How many inputs there are."""

    def __len__(self) -> int:
        """How many batches there are."""

    def __iter__(self) -> Iterator[Batch]:
        """The batches, from the first on."""


@dataclass(frozen=True, eq=False)
class TensorSamples:
    """Samples that lie in memory, ready to use.

    Args:
        inputs: N×….
        targets: N classes, int64.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Inputs and targets at these numbers, copied."""
        chosen = torch.tensor(indices, dtype=torch.int64)
        return self.inputs[chosen], self.targets[chosen]


@dataclass(frozen=True)
class Subset:
    """Some of the samples, renumbered from 0."""

    samples: Samples
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The batch of the samples that these numbers stand for."""
        return self.samples.batch([self.indices[i] for i in indices])


@dataclass(frozen=True)
class ShuffledStream:
    """Training batches of samples, in a random order.

    Args:
        samples: What is trained on.
        batch_size: Inputs in a batch; the last may be smaller.
        seed: Of the order and of all that is random in a batch.
        num_workers: Processes that prepare batches; 0: this one.
        drop_last: Leave out a last batch that is smaller.
        mix: Applied to every batch.
        pin_memory: Put batches where a CUDA device copies them from without waiting.

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

    @property
    def images(self) -> int:
        """How many inputs one epoch has."""
        count = len(self.samples)
        return count - count % self.batch_size if self.drop_last else count

    def __len__(self) -> int:
        return math.ceil(self.images / self.batch_size)

    def epoch(self, n: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``n``, counted from 0, without the first ``start``.

        Raises:
            ValueError: the epoch has fewer batches than ``start``.
        """
        if not 0 <= start <= len(self):
            raise ValueError(f"an epoch has {len(self)} batches: it cannot start at {start}")
        order = torch.randperm(len(self.samples), generator=generator(self.seed, n)).tolist()
        draws = [
            Draw(tuple(chosen), derived_seed(self.seed, n, start + i))
            for i, chosen in enumerate(_cut(order, self.batch_size, start, len(self)))
        ]
        return _batches(self.samples, draws, self.num_workers, self.mix, self.pin_memory)


@dataclass(frozen=True)
class OrderedStream:
    """Batches of samples for evaluation, in their own order.

    Args:
        samples: What is evaluated on.
        batch_size: Inputs in a batch; the last may be smaller.
        num_workers: Processes that prepare batches; 0: this one.
        pin_memory: Put batches where a CUDA device copies them from without waiting.
    """

    samples: Samples
    batch_size: int
    num_workers: int = 0
    pin_memory: bool = False

    @property
    def images(self) -> int:
        """How many inputs there are."""
        return len(self.samples)

    def __len__(self) -> int:
        return math.ceil(self.images / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = list(range(len(self.samples)))
        # nothing is random here; a draw has a seed all the same
        draws = [Draw(tuple(c), 0) for c in _cut(order, self.batch_size, 0, len(self))]
        return _batches(self.samples, draws, self.num_workers, None, self.pin_memory)


class Draw(NamedTuple):
    """One batch before it is fetched."""

    indices: tuple[int, ...]
    seed: int


def generator(*numbers: int) -> torch.Generator:
    """A generator of its own, seeded by these numbers."""
    # torch takes a seed as a signed number of 64 bits
    return torch.Generator().manual_seed(derived_seed(*numbers) >> 1)


def _cut(order: list[int], size: int, start: int, stop: int) -> Iterator[list[int]]:
    return (order[i * size : (i + 1) * size] for i in range(start, stop))


def _batches(
    samples: Samples, draws: list[Draw], num_workers: int, mix: Mix | None, pin_memory: bool
) -> Iterator[Batch]:
    loader = DataLoader(
        _Drawn(samples, mix),
        batch_size=None,
        sampler=_InTurn(draws),
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=leave_signals_to_the_parent if num_workers else None,
        # otherwise the loader draws from the global one
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, UsageError):
            raise batch
        yield batch


@dataclass(frozen=True)
class _Drawn(Dataset[Batch | UsageError]):
    """Fetches what was drawn. A user's error is handed on whole; a worker would mangle it."""

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
class _InTurn(Sampler[Draw]):
    draws: list[Draw]

    def __len__(self) -> int:
        return len(self.draws)

    def __iter__(self) -> Iterator[Draw]:
        return iter(self.draws)


def leave_signals_to_the_parent(_: int) -> None:
    """Ctrl-C reaches the whole group: the parent finishes and ends its workers by SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
