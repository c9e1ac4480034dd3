"""Load a set by its name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from fxtransport.data.checked import Checked
from fxtransport.data.duplicates import refuse_one_split
from fxtransport.data.embedded import (
    EMBEDDED,
    EMBEDDED_OPTIONS,
    embedded_images,
    load_embedded,
)
from fxtransport.data.holdout import HoldOut, SplitSamples
from fxtransport.data.images import BadImages, split_images
from fxtransport.data.points import load_circles, load_moons
from fxtransport.data.reader_images import ON_BAD_IMAGE
from fxtransport.data.sets import (
    Location,
    SplitNames,
    open_set,
    refuse_split_names,
)
from fxtransport.data.shards import ShardEvalStream, Shards, ShardStream
from fxtransport.data.sources import SPLITS, SplitSource
from fxtransport.data.streams import (
    EvalStream,
    Mix,
    OrderedStream,
    Samples,
    ShuffledStream,
    TrainStream,
)
from fxtransport.data.transforms import make_mixup, make_transforms, refuse_unknown
from fxtransport.errors import UsageError

POINTS: dict[str, Callable[..., SplitSamples]] = {"circles": load_circles, "moons": load_moons}
POINT_OPTIONS = {"circles": ("points", "noise", "factor"), "moons": ("points", "noise")}


@dataclass(frozen=True)
class Splits:
    """A set that is split: for training, for choosing by, and for the final test.

    Attributes:
        train: Training batches, B×C×H×W (or B×2) and targets.
        validation: Batches to choose by; None if the set has no such split and none is held
            out.
        test: Batches for the final test; None if the set has a validation split of its own and
            no test split. Nothing else of this object shows its samples.
        num_classes: How many classes there are.
        input_size: The shape of one input, (C, H, W) or (2,).
        class_names: The names of the classes, in order.
        description: The set in one line.
        transform: The options of ``timm.data.create_transform`` by which an image that is read
            from a file becomes an input: ``mean`` and ``std`` of pixels from 0 to 1, for each
            channel, ``interpolation``, ``crop_pct``, … None of points.
        sources: Where each split comes from, and how many samples of how many classes it has.
        notes: What of a folder was left out, in words.
    """

    train: TrainStream
    validation: EvalStream | None
    test: EvalStream | None
    num_classes: int
    input_size: tuple[int, ...]
    class_names: tuple[str, ...]
    description: str
    transform: Mapping[str, Any] | None = None
    sources: Mapping[str, SplitSource] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def require_test(self) -> EvalStream:
        """The test split.

        Raises:
            UsageError: there is none.
        """
        if self.test is None:
            raise UsageError(
                f"there is no test split ({self.description}): name its folder with test_split"
            )
        return self.test


def load(
    name: str,
    *,
    seed: int,
    batch_size: int,
    input_size: tuple[int, ...] | None = None,
    eval_batch_size: int | None = None,
    num_workers: int = 0,
    root: str | Path | None = None,
    download: bool = False,
    validation: float = 0.1,
    test: float = 0.2,
    train_samples: int | None = None,
    allow_duplicates: bool = False,
    on_bad_image: str = "stop",
    check_data: bool = False,
    checked: Checked | None = None,
    drop_last: bool = False,
    transform: Mapping[str, Any] | None = None,
    augmentation: Mapping[str, Any] | None = None,
    mixup: Mapping[str, Any] | None = None,
    sampler: str | None = None,
    pin_memory: bool = False,
    **options: Any,
) -> Splits:
    """Load a set by its name, split it, and make batches.

    Args:
        name: ``digits``, ``mnist5k``, ``patches``, ``circles`` or ``moons``, which need no
            download; a folder of images (``train/CLASS/…`` and ``val`` or ``test``, or just
            ``CLASS/…``); ``imagefolder`` with ``root``; or a set as timm
            names it: ``torch/cifar10``, ``torch/stl10``, ``wds/…``, ``hfds/…``.
        seed: Determines the splits, the order, augmentation and mixup.
        batch_size: How many samples a training batch has.
        input_size: What the model takes, (C, H, W); the set's own if None, where it has one.
        eval_batch_size: How many samples other batches have; ``batch_size`` if None.
        num_workers: How many processes prepare batches; with 0 this process does. It does not
            change the batches, except for training on ``wds/…``, where each process shuffles
            the shards that it reads.
        root: The folder that holds the set.
        download: Whether the set may be downloaded.
        validation: The share of training samples that becomes the validation split, if the
            set has none; 0 for none.
        test: The share of all samples that becomes the test split, if the set has neither this
            one nor one for validation.
        train_samples: How many training samples to keep; all if None.
        allow_duplicates: Whether the file of an image may be in two splits. How many are is in
            the description.
        on_bad_image: What to do with a file that cannot be read as an image: ``stop``, an error
            that names it, or ``skip``, leave it out. Files that do not begin or end as their
            formats do are found when the set is loaded.
        check_data: Decode all images when the set is loaded, so that every one that cannot be
            read is found then.
        checked: Which images were decoded before, and need not be once more; what is decoded now
            is noted in it.
        drop_last: Leave out a last training batch that is smaller.
        transform: Options of ``timm.data.create_transform`` for all splits: ``mean``, ``std``,
            ``interpolation``, ``crop_pct``, ``crop_mode``.
        augmentation: Options of ``timm.data.create_transform`` for training images (``hflip``,
            ``scale``, ``auto_augment``, ``re_prob``, …), and ``padding``, the pixels around
            the image before a random crop. If None, nothing is random.
        mixup: Options of ``timm.data.Mixup`` (``mixup_alpha``, ``cutmix_alpha``, …). Targets
            become probabilities. Its label smoothing is 0 unless given.
        sampler: ``balanced``: training samples are drawn with replacement, so that each class is
            drawn equally often on average; None: each once in an epoch.
        pin_memory: Put batches into page-locked memory.
        options: Options of the set: ``points``, ``noise`` and ``factor`` (``circles``, ``moons``);
            ``tile``, 32 or 64 pixels (``patches``); ``train_split``, ``validation_split``,
            ``test_split`` and what ``timm.data.create_dataset`` takes.

    Raises:
        UsageError: there is no such set, it cannot be opened or split as asked, or an option
            does not exist. The message says what to do.
    """
    names = [options.pop(f"{split}_split", None) for split in ("train", "validation", "test")]
    folder = None if root is None else Path(root)
    location = Location(folder, download, SplitNames(*names), options)
    hold_out = HoldOut(seed, validation, test, train_samples)
    if eval_batch_size is None:
        eval_batch_size = batch_size
    batching = Batching(
        seed, batch_size, eval_batch_size, num_workers, drop_last, mixup, pin_memory, sampler
    )
    if on_bad_image not in ON_BAD_IMAGE:
        raise UsageError(f"on_bad_image is {' or '.join(ON_BAD_IMAGE)}, not {on_bad_image!r}")
    # what is skipped has to be known before batches are made
    bad = BadImages(on_bad_image, check_data or on_bad_image == "skip", checked or Checked())
    images = ImageOptions(input_size, transform or {}, augmentation, allow_duplicates, bad)
    if name.startswith("wds/"):
        return _load_shards(name, location, hold_out, images, batching)
    samples = _load_samples(name, location, hold_out, images)
    return _make_streams(name, samples, batching)


@dataclass(frozen=True)
class Batching:
    """How samples are made into batches, see :func:`load`."""

    seed: int
    batch_size: int
    eval_batch_size: int
    num_workers: int = 0
    drop_last: bool = False
    mixup: Mapping[str, Any] | None = None
    pin_memory: bool = False
    sampler: str | None = None

    def __post_init__(self) -> None:
        if self.sampler not in (None, "balanced"):
            raise UsageError(f"sampler is 'balanced' or None, not {self.sampler!r}")
        for name, least in (("batch_size", 1), ("eval_batch_size", 1), ("num_workers", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be {least} or more, not {getattr(self, name)}")

    def mix(self, num_classes: int, input_size: tuple[int, ...], last_batch: int) -> Mix | None:
        """The mixup of batches, of which the last has ``last_batch`` samples."""
        if self.mixup is None:
            return None
        if self.batch_size % 2 or last_batch % 2:
            raise UsageError(
                "mixup mixes pairs, but a training batch has "
                f"{self.batch_size if self.batch_size % 2 else last_batch} samples: "
                "choose an even batch_size, and drop_last"
            )
        return make_mixup(self.mixup, num_classes, input_size)


@dataclass(frozen=True)
class ImageOptions:
    """How images are transformed, see :func:`load`."""

    input_size: tuple[int, ...] | None
    transform: Mapping[str, Any]
    augmentation: Mapping[str, Any] | None
    allow_duplicates: bool = False
    bad: BadImages = field(default_factory=BadImages)

    @property
    def transforms_images(self) -> bool:
        """Whether more is asked for than a size."""
        return self.augmentation is not None or bool(self.transform)


def _load_samples(
    name: str, location: Location, hold_out: HoldOut, options: ImageOptions
) -> SplitSamples:
    if name in POINTS or name in EMBEDDED:
        refuse_split_names(name, location)
    if name in POINTS:
        if options.transforms_images or options.input_size not in (None, (2,)):
            raise UsageError(
                f"{name} are points of the plane: input_size is (2,), and options of images do "
                "not apply"
            )
        refuse_unknown(name, location.options, POINT_OPTIONS[name])
        return POINTS[name](hold_out, **location.options)
    if name in EMBEDDED:
        refuse_unknown(name, location.options, EMBEDDED_OPTIONS[name])
        if not options.transforms_images:
            return load_embedded(name, hold_out, options.input_size, **location.options)
        channels = options.input_size[0] if options.input_size else None
        images, transform = embedded_images(name, hold_out, channels, **location.options)
    else:
        images, transform = options.bad.left_out(open_set(name, location)), {}
    transform |= options.transform
    size = options.input_size or images.size
    transforms = make_transforms(size, transform, options.augmentation)
    return split_images(images, hold_out, transforms, allow_duplicates=options.allow_duplicates)


def _make_streams(name: str, samples: SplitSamples, batching: Batching) -> Splits:
    # fetching from memory is faster than receiving from another process
    num_workers = 0 if samples.in_memory else batching.num_workers
    count = len(samples.train)
    if batching.drop_last and count < batching.batch_size:
        raise UsageError(
            f"{name} has {count} training samples: with drop_last, a batch_size of "
            f"{batching.batch_size} leaves none"
        )
    last_batch = batching.batch_size if batching.drop_last else count % batching.batch_size
    train = ShuffledStream(
        samples.train,
        batching.batch_size,
        batching.seed,
        num_workers=num_workers,
        drop_last=batching.drop_last,
        mix=batching.mix(len(samples.class_names), samples.input_size, last_batch),
        pin_memory=batching.pin_memory,
        balanced=batching.sampler == "balanced",
    )

    def eval_stream(split: Samples) -> OrderedStream:
        return OrderedStream(split, batching.eval_batch_size, num_workers, batching.pin_memory)

    validation = None if samples.validation is None else eval_stream(samples.validation)
    test = None if samples.test is None else eval_stream(samples.test)
    splits = _make_splits(name, train, validation, test, samples.class_names, samples.input_size)
    return replace(
        splits,
        transform=samples.transform,
        description=splits.description + _said_of(samples.duplicates),
        sources=samples.sources,
        notes=samples.notes,
    )


def _said_of(duplicates: int | None) -> str:
    if duplicates is None:
        return "; splits not compared"
    return f"; {duplicates} of them in two splits" if duplicates else ""


def _load_shards(
    name: str, location: Location, hold_out: HoldOut, images: ImageOptions, batching: Batching
) -> Splits:
    options = dict(location.options)
    num_classes = options.pop("num_classes", None)
    if not isinstance(num_classes, int):
        raise UsageError(f"{name}: set num_classes, which shards do not tell")
    if hold_out.train_samples is not None:
        raise UsageError(f"{name}: train_samples does not apply to shards")
    if batching.sampler is not None:
        raise UsageError(f"{name}: sampler does not apply to shards, which are read in order")
    location = replace(location, options=options)
    transforms = make_transforms(images.input_size, images.transform, images.augmentation)
    own = location.splits
    named = (own.train or "train", own.validation or "validation", own.test or "test")
    refuse_one_split(dict(zip(("train", "validation", "test"), named, strict=True)))
    notes: list[str] = []

    def shards(split: str, transform: Callable[[Image.Image], Tensor]) -> Shards:
        found = Shards(name, location, split, transform, transforms.mode, num_classes)
        if images.bad.check:
            found, note = found.scan(images.bad)
            notes.extend([] if note is None else [f"{split}: {note}"])
        return found

    def eval_stream(split: str) -> ShardEvalStream:
        plain = shards(split, transforms.plain)
        return ShardEvalStream(
            plain, batching.eval_batch_size, batching.num_workers, batching.pin_memory
        )

    train_shards = shards(named[0], transforms.random)
    train = ShardStream(
        train_shards,
        batching.batch_size,
        batching.seed,
        # another one would have nothing to read, and an epoch would be shorter
        num_workers=min(batching.num_workers, train_shards.count),
        mix=batching.mix(num_classes, transforms.size, batching.batch_size),
        pin_memory=batching.pin_memory,
    )
    validation = eval_stream(named[1]) if hold_out.validation else None
    test = eval_stream(named[2])
    names = tuple(map(str, range(num_classes)))
    made = _make_splits(name, train, validation, test, names, transforms.size)
    sources = {
        split: SplitSource("because validation is 0", 0, None)
        if stream is None
        else SplitSource(f"from the set's {name}", stream.num_samples, None)
        for split, name, stream in zip(SPLITS, named, (train, validation, test), strict=True)
    }
    # that would read the whole set, ahead of the first batch
    description = made.description + _said_of(None)
    return replace(
        made,
        transform=transforms.options,
        description=description,
        sources=sources,
        notes=tuple(notes),
    )


def _make_splits(
    name: str,
    train: TrainStream,
    validation: EvalStream | None,
    test: EvalStream | None,
    class_names: tuple[str, ...],
    input_size: tuple[int, ...],
) -> Splits:
    counts = [f"{train.num_samples} to train on"]
    if validation is not None:
        counts.append(f"{validation.num_samples} for validation")
    counts.append("no test" if test is None else f"{test.num_samples} for the test")
    shape = "×".join(map(str, input_size))
    description = f"{name}: {', '.join(counts)}; inputs of {shape}, {len(class_names)} classes"
    return Splits(train, validation, test, len(class_names), input_size, class_names, description)
