"""Sets in tar shards, read from the first sample on by timm's reader for webdataset.

Their order is timm's: shards and samples are shuffled by a seed of their own for every epoch. It
depends on the number of worker processes, which a resumed run has to keep.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from fxtransport.data.sets import Place, create
from fxtransport.data.streams import Batch, Mix, generator, leave_signals_to_the_parent
from fxtransport.randomness import derived_seed, fork_rng

Transform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class Shards:
    """One split in shards.

    Args:
        name: ``wds/…``, as timm names it.
        place: Where it is.
        split: What the split is called, in ``_info.json`` or as ``train-{000..007}.tar|1000``.
        transform: Makes a tensor of C×H×W of an image.
        mode: To which PIL converts an image, ``L`` or ``RGB``.
    """

    name: str
    place: Place
    split: str
    transform: Transform
    mode: str

    def open(self, batch_size: int, seed: int | None) -> Any:
        """Open timm's dataset, anew; shuffled by a seed if there is one.

        Raises:
            UsageError: it cannot be opened.
        """
        shuffled = {} if seed is None else {"is_training": True, "seed": seed % 2**31}
        return create(
            self.name,
            self.place.root,
            self.place,
            self.split,
            input_img_mode=self.mode,
            batch_size=batch_size,
            **shuffled,
        )


@dataclass(frozen=True)
class ShardStream:
    """Training batches of shards.

    Every epoch has as many batches as fill it, for each worker alike. To start in the middle of
    an epoch, what comes before is read and dropped.

    Args:
        shards: The training split.
        batch_size: Inputs in a batch.
        seed: Of the order and of all that is random in a batch.
        num_workers: Processes that prepare batches, at most one for each shard; 0: this one.
        mix: Applied to every batch.
        pin_memory: Put batches where a CUDA device copies them from without waiting.
    """

    shards: Shards
    batch_size: int
    seed: int
    num_workers: int = 0
    mix: Mix | None = None
    pin_memory: bool = False

    @cached_property
    def images(self) -> int:
        """How many inputs one epoch has."""
        dataset = self.shards.open(self.batch_size, self.seed)
        dataset.set_loader_cfg(num_workers=self.num_workers)
        return len(dataset)

    def __len__(self) -> int:
        return self.images // self.batch_size

    def epoch(self, n: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``n``, counted from 0, without the first ``start``."""
        samples = _Read(self.shards, self.batch_size, derived_seed(self.seed, n))
        batches = _batches(samples, self.batch_size, self.num_workers, self.pin_memory)
        for i, batch in enumerate(itertools.islice(batches, start, None), start):
            if self.mix is None:
                yield batch
                continue
            with fork_rng(derived_seed(self.seed, n, i)):
                mixed = self.mix(*batch)
            yield mixed


@dataclass(frozen=True)
class ShardEvalStream:
    """Batches of shards for evaluation, in their own order.

    Args:
        shards: The split.
        batch_size: Inputs in a batch; the last may be smaller.
        num_workers: Whether another process prepares batches. More than one would leave
            several batches smaller.
        pin_memory: Put batches where a CUDA device copies them from without waiting.
    """

    shards: Shards
    batch_size: int
    num_workers: int = 0
    pin_memory: bool = False

    @cached_property
    def images(self) -> int:
        """How many inputs there are."""
        return len(self.shards.open(self.batch_size, None))

    def __len__(self) -> int:
        return math.ceil(self.images / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        samples = _Read(self.shards, self.batch_size, None)
        return _batches(samples, self.batch_size, min(self.num_workers, 1), self.pin_memory)


@dataclass(frozen=True)
class _Read(IterableDataset[tuple[Tensor, int]]):
    """What one worker reads of a split; each image is transformed by a seed of its own."""

    shards: Shards
    batch_size: int
    seed: int | None

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        worker = get_worker_info()
        dataset = self.shards.open(self.batch_size, self.seed)
        dataset.set_loader_cfg(num_workers=worker.num_workers if worker else 0)
        for i, (image, target) in enumerate(dataset):
            with fork_rng(derived_seed(self.seed or 0, worker.id if worker else 0, i)):
                tensor = self.shards.transform(image)
            yield tensor, int(target)


def _batches(
    samples: _Read, batch_size: int, num_workers: int, pin_memory: bool
) -> Iterator[Batch]:
    loader = DataLoader(
        samples,
        batch_size=batch_size,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=leave_signals_to_the_parent if num_workers else None,
        # timm shuffles samples by the workers' seeds, which are drawn from this
        generator=generator(samples.seed or 0),
    )
    for batch in loader:  # a list
        yield batch[0], batch[1]
