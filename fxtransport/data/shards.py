"""Sets in tar shards, read in sequence by timm's reader for webdataset.

timm decides the order: shards and samples are shuffled with a seed of their own in every epoch.
The order depends on the number of worker processes, which a resumed run has to keep.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from fxtransport.data.decode import extensions
from fxtransport.data.fingerprints import named
from fxtransport.data.images import BadImages
from fxtransport.data.reader_images import SHOWN, left_out
from fxtransport.data.sets import Location, create_split
from fxtransport.data.shard_samples import decoded_samples, is_local, raw_samples, shard_files
from fxtransport.data.streams import Batch, Mix, generator, leave_signals_to_parent
from fxtransport.errors import UsageError
from fxtransport.randomness import derived_seed, fork_rng

Transform = Callable[[Image.Image], Tensor]
Sample = tuple[int, Image.Image, int]
"""Its number among those of its worker, its image and its class."""


READ_WHOLE = 2**30
"""The most bytes of the shards of a split that are read to see whether they are the same."""
IMAGE_KEYS = ";".join(ending[1:] for ending in extensions())
"""What the images of samples are called, unless ``input_key`` says so."""


@dataclass(frozen=True)
class Shards:
    """One split in shards.

    Args:
        name: ``wds/…``, as timm names it.
        location: Where it is.
        split: The name of the split in ``_info.json``, or ``train-{000..007}.tar|1000``.
        transform: Makes a tensor of C×H×W of an image.
        mode: The mode to which an image is converted, ``L`` or ``RGB``.
        num_classes: How many classes there are.
        scanned: How many of its images can be read, and the others are left out; None: all can, or
            one that cannot is an error.
    """

    name: str
    location: Location
    split: str
    transform: Transform
    mode: str
    num_classes: int
    scanned: int | None = None

    def description(self) -> dict[str, Any]:
        """Which split it is, as JSON, with what tells whether its shards are the same."""
        return {
            "set": self.name,
            "split": self.split,
            "transform": named(self.transform),
            "shards": self._fingerprint(),
        }

    @property
    def count(self) -> int:
        """How many shards there are."""
        return len(shard_files(self.open(1, None).reader))

    def _fingerprint(self) -> str:
        """A hash of the names and sizes of shards that are files, and of small ones' contents."""
        reader = self.open(1, None).reader
        names, paths = reader.split_info.filenames, shard_files(reader)
        sizes = [Path(path).stat().st_size if is_local(path) else 0 for path in paths]
        small = sum(sizes) <= READ_WHOLE
        digest = hashlib.sha256()
        for name, path, size in zip(names, paths, sizes, strict=True):
            digest.update(f"{name} {size}\0".encode())
            if small and is_local(path):
                with Path(path).open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def scan(self, bad: BadImages) -> tuple["Shards", str | None]:
        """Decode all images, and count those that can be read.

        Args:
            bad: What becomes of those that cannot be.

        Returns:
            The split as it is read from now on, and what is left out, in words.

        Raises:
            UsageError: an image cannot be read and is not left out, a shard cannot be read, or
                there are more or fewer samples than the set says.
        """
        reader = self.open(1, None).reader
        count, defects = 0, []
        for sample in raw_samples(reader):
            count += 1
            defect = bad.checked.check(sample.data).defect
            defects += [] if defect is None else [(sample.name, defect)]
        self.check_count(count, reader.num_samples or count)
        if defects and bad.on_bad == "stop":
            (name, defect), more = defects[0], len(defects) - 1
            said = f"; {more} more cannot be read" if more else ""
            raise UsageError(
                f"{name}: {defect}{said}: write the shard without what cannot be read, or leave it "
                "out with on_bad_image='skip'"
            )
        note = left_out(len(defects), [name for name, _ in defects[:SHOWN]]) if defects else None
        return replace(self, scanned=count - len(defects)), note

    def check_count(self, count: int, said: int) -> None:
        """Raise a UsageError if shards have more or fewer samples than is said."""
        if count != said:
            raise UsageError(
                f"{self.name}: the split {self.split} is said to have {said} samples, and its "
                f"shards have {count}: correct _info.json, or copy the shards once more"
            )

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
            batch_size=batch_size,
            num_samples=self.scanned,
            input_key=self.location.options.get("input_key") or IMAGE_KEYS,
            **shuffled,
        )

    def samples(self, batch_size: int, seed: int | None, num_workers: int) -> Iterator[Sample]:
        """What one worker reads: its number, the image in its mode, and its class.

        Raises:
            UsageError: a shard or an image cannot be read, or a class is out of range.
        """
        dataset = self.open(batch_size, seed)
        dataset.set_loader_cfg(num_workers=num_workers)
        found = decoded_samples(dataset.reader, skip=self.scanned is not None)
        for i, (named_image, target) in enumerate(found):
            if not 0 <= target < self.num_classes:
                raise UsageError(
                    f"{named_image.name}: its class is {target}, and num_classes is "
                    f"{self.num_classes}: classes are numbered from 0; give another num_classes"
                )
            yield i, named_image.image.convert(self.mode), target


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
        batches = _batches(samples, self.num_workers, self.pin_memory)
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
        """How many samples there are.

        Raises:
            UsageError: the set does not say it.
        """
        count = len(self.shards.open(self.batch_size, None))
        if not count:
            raise UsageError(
                f"{self.shards.name}: nothing says how many samples the split {self.shards.split} "
                "has: write it into _info.json, or after the names, as in test-{0..3}.tar|1000"
            )
        return count

    def __len__(self) -> int:
        return math.ceil(self.num_samples / self.batch_size)

    def description(self) -> dict[str, Any]:
        """What is evaluated on, as JSON; the shards are not read for it."""
        return {**self.shards.description(), "samples": self.num_samples}

    def __iter__(self) -> Iterator[Batch]:
        samples = _ShardReader(self.shards, self.batch_size, None)
        count = 0
        for batch in _batches(samples, min(self.num_workers, 1), self.pin_memory):
            count += len(batch[1])
            yield batch
        self.shards.check_count(count, self.num_samples)


@dataclass(frozen=True)
class _ShardReader(IterableDataset[Batch | UsageError]):
    """The batches of one worker; each image is transformed with a seed of its own.

    A UsageError is one of them, for a worker that raises it would change its message.
    """

    shards: Shards
    batch_size: int
    seed: int | None

    def __iter__(self) -> Iterator[Batch | UsageError]:
        worker = get_worker_info()
        images: list[Tensor] = []
        targets: list[int] = []
        count = worker.num_workers if worker else 0
        try:
            for i, image, target in self.shards.samples(self.batch_size, self.seed, count):
                with fork_rng(derived_seed(self.seed or 0, worker.id if worker else 0, i)):
                    images.append(self.shards.transform(image))
                targets.append(target)
                if len(images) == self.batch_size:
                    yield torch.stack(images), torch.tensor(targets)
                    images, targets = [], []
        except UsageError as error:
            yield error
            return
        if images:
            yield torch.stack(images), torch.tensor(targets)


def _batches(samples: _ShardReader, num_workers: int, pin_memory: bool) -> Iterator[Batch]:
    loader = DataLoader(
        samples,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=leave_signals_to_parent if num_workers else None,
        # timm shuffles samples with the workers' seeds, which are drawn from this
        generator=generator(samples.seed or 0),
    )
    for batch in loader:
        if isinstance(batch, UsageError):
            raise batch
        yield batch[0], batch[1]
