"""Sets in tar shards, read in sequence by timm's reader for webdataset.

timm decides the order: shards and samples are shuffled with a seed of their own in every epoch.
The order depends on the number of worker processes, which a resumed run has to keep.
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

from fxtransport.data.fingerprints import named
from fxtransport.data.sets import Location, create_split
from fxtransport.data.streams import Batch, Mix, generator, leave_signals_to_parent
from fxtransport.randomness import derived_seed, fork_rng

Transform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class Shards:
    """One split in shards.

    Args:
        name: ``wds/…``, as timm names it.
        location: Where it is.
        split: The name of the split in ``_info.json``, or ``train-{000..007}.tar|1000``.
        transform: Makes a tensor of C×H×W of an image.
        mode: The mode to which an image is converted, ``L`` or ``RGB``.
    """

    name: str
    location: Location
    split: str
    transform: Transform
    mode: str

    def description(self) -> dict[str, Any]:
        """Which split it is, as JSON."""
        return {"set": self.name, "split": self.split, "transform": named(self.transform)}

    def open(self, batch_size: int, seed: int | None) -> Any:
        """Open timm's dataset from the beginning, shuffled if there is a seed.

        Raises:
            UsageError: it cannot be opened.
        """
        shuffled = {} if seed is None else {"is_training": True, "seed": seed % 2**31}
        return create_split(
            self.name,
            self.location.root,
            self.location,
            self.split,
            input_img_mode=self.mode,
            batch_size=batch_size,
            **shuffled,
        )


@dataclass(frozen=True)
class ShardStream:
    """Training batches of shards.

    All batches of an epoch are full, and every worker prepares as many. To start in the middle
    of an epoch, the batches before are read and dropped.

    Args:
        shards: The training split.
        batch_size: How many samples a batch has.
        seed: Determines the order, and everything that is random in a batch.
        num_workers: How many processes prepare batches, at most one for each shard; with 0
            this process does.
        mix: Applied to every batch.
        pin_memory: Put batches into page-locked memory.
    """

    shards: Shards
    batch_size: int
    seed: int
    num_workers: int = 0
    mix: Mix | None = None
    pin_memory: bool = False

    @cached_property
    def num_samples(self) -> int:
        """How many samples one epoch has."""
        dataset = self.shards.open(self.batch_size, self.seed)
        dataset.set_loader_cfg(num_workers=self.num_workers)
        return len(dataset)

    def __len__(self) -> int:
        return self.num_samples // self.batch_size

    def description(self) -> dict[str, Any]:
        """What the batches depend on, as JSON; the shards are not read for it."""
        return {
            **self.shards.description(),
            "samples": self.num_samples,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "num_workers": self.num_workers,
            "mix": None if self.mix is None else named(self.mix),
        }

    def epoch(self, n: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``n``, counted from 0, without the first ``start``."""
        samples = _ShardReader(self.shards, self.batch_size, derived_seed(self.seed, n))
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
    """Batches of shards for evaluation, in the order of the samples.

    Args:
        shards: The split.
        batch_size: How many samples a batch has; the last may be smaller.
        num_workers: Whether another process prepares batches. With more than one, several
            batches would be smaller.
        pin_memory: Put batches into page-locked memory.
    """

    shards: Shards
    batch_size: int
    num_workers: int = 0
    pin_memory: bool = False

    @cached_property
    def num_samples(self) -> int:
        """How many samples there are."""
        return len(self.shards.open(self.batch_size, None))

    def __len__(self) -> int:
        return math.ceil(self.num_samples / self.batch_size)

    def description(self) -> dict[str, Any]:
        """What is evaluated on, as JSON; the shards are not read for it."""
        return {**self.shards.description(), "samples": self.num_samples}

    def __iter__(self) -> Iterator[Batch]:
        samples = _ShardReader(self.shards, self.batch_size, None)
        return _batches(samples, self.batch_size, min(self.num_workers, 1), self.pin_memory)


@dataclass(frozen=True)
class _ShardReader(IterableDataset[tuple[Tensor, int]]):
    """What one worker reads of a split; each image is transformed with a seed of its own."""

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
    samples: _ShardReader, batch_size: int, num_workers: int, pin_memory: bool
) -> Iterator[Batch]:
    loader = DataLoader(
        samples,
        batch_size=batch_size,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=leave_signals_to_parent if num_workers else None,
        # timm shuffles samples with the workers' seeds, which are drawn from this
        generator=generator(samples.seed or 0),
    )
    for batch in loader:  # a list
        yield batch[0], batch[1]
