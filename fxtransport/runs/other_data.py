"""Other data than that of a run, as its model takes it, to measure its exits on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from fxtransport.data.embedded import EMBEDDED, EMBEDDED_OPTIONS, embedded_images
from fxtransport.data.holdout import HoldOut, SplitSamples
from fxtransport.data.images import ImageSamples
from fxtransport.data.sets import ImageSet, Location, open_set
from fxtransport.data.splits import POINT_OPTIONS, POINTS
from fxtransport.data.streams import Batch, OrderedStream, Samples
from fxtransport.data.transforms import make_transforms, refuse_unknown
from fxtransport.errors import UsageError
from fxtransport.runs.inputs import Inputs

ALL = "all"
"""In the place of a split: the whole set, split or not."""
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class OtherSet:
    """A set, and where it is.

    Attributes:
        name: As :func:`fxtransport.data.load` takes it; shards are not read.
        root: The folder that holds it.
        download: Whether it may be fetched.
        options: Options of the set.
    """

    name: str
    root: str | None = None
    download: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OtherData:
    """Batches of other data: inputs as a run's model takes them, and its class numbers.

    Attributes:
        streams: One for each split.
    """

    streams: tuple[OrderedStream, ...]

    @property
    def num_samples(self) -> int:
        """How many samples there are."""
        return sum(stream.num_samples for stream in self.streams)

    def __len__(self) -> int:
        return sum(map(len, self.streams))

    def __iter__(self) -> Iterator[Batch]:
        return chain.from_iterable(self.streams)


def load_other(
    inputs: Inputs, other: OtherSet, split: str = ALL, *, batch_size: int, num_workers: int = 0
) -> OtherData:
    """Load other data for the model of a run. Nothing of it is held out and nothing is random.

    Images are prepared as the run's are, by its mean and deviation, and classes are found by
    their names.

    Args:
        inputs: What the run's model takes, and its classes.
        other: Which set.
        split: ``train``, ``validation`` or ``test``, where the set has it; ``all`` for the whole.
        batch_size: How many samples a batch has; the last of a split may be smaller.
        num_workers: How many processes read images; with 0 this process does.

    Raises:
        UsageError: there is no such set or split, the set has a class that the run does not have,
            or is of another kind.
    """
    samples, names = _open(inputs, other)
    chosen = [found for at, found in samples.items() if split in (ALL, at)]
    if not chosen:
        there = ", ".join(samples)
        raise UsageError(f"{other.name} has no split {split}: it has {there}, and {ALL}")
    numbers = _numbers(inputs, other.name, names)
    streams = (
        OrderedStream(_Renumbered(found, numbers), batch_size, num_workers) for found in chosen
    )
    return OtherData(tuple(streams))


def _open(inputs: Inputs, other: OtherSet) -> tuple[dict[str, Samples], tuple[str, ...]]:
    """The samples of each split that a set has, and the names of its classes."""
    name, options = other.name, dict(other.options)
    if name in POINTS:
        if inputs.transform is not None:
            raise UsageError(f"{name} are points of the plane, and the run's model takes images")
        refuse_unknown(name, options, POINT_OPTIONS[name])
        held = POINTS[name](HoldOut(seed=0, validation=0.1, test=0.2), **options)
        return _present(held), held.class_names
    if inputs.transform is None:
        raise UsageError(f"the run's model takes points of the plane; {name} is of images")
    if name.startswith("wds/"):
        raise UsageError(f"{name}: shards do not tell the names of classes; take a folder of them")
    if name in EMBEDDED:
        refuse_unknown(name, options, EMBEDDED_OPTIONS[name])
        # the split decides only about a mean and a deviation that are not used here
        whole = HoldOut(seed=0, validation=0.1, test=0.2)
        images, _ = embedded_images(name, whole, inputs.input_size[0], **options)
    else:
        root = None if other.root is None else Path(other.root)
        images = open_set(name, Location(root, other.download, options=options))
    transforms = make_transforms(inputs.input_size, inputs.transform, None)
    found = {
        at: ImageSamples(own, transforms.plain, transforms.mode)
        for at, own in _present(images).items()
    }
    return {**found}, images.class_names


def _present(held: SplitSamples | ImageSet) -> dict[str, Any]:
    """The splits that there are, by name."""
    return {at: own for at in SPLITS if (own := getattr(held, at)) is not None}


def _numbers(inputs: Inputs, name: str, classes: Sequence[str]) -> tuple[int, ...]:
    """The number that each class of a set has in the run."""
    known = {each: number for number, each in enumerate(inputs.class_names)}
    unknown = [each for each in classes if each not in known]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise UsageError(
            f"{name} has classes that the run does not have: {', '.join(unknown[:3])}{more}; the "
            f"run's are {', '.join(inputs.class_names[:8])}{', …' if len(known) > 8 else ''}"
        )
    return tuple(known[each] for each in classes)


@dataclass(frozen=True)
class _Renumbered:
    """Samples whose classes have other numbers."""

    samples: Samples
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, indices: Sequence[int]) -> Batch:
        inputs, targets = self.samples.batch(indices)
        return inputs, torch.tensor(self.numbers)[targets]
