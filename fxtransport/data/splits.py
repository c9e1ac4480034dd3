"""From the name of a set to its splits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from fxtransport.data.cut import Cut, Parts
from fxtransport.data.embedded import digit_images, load_circles, load_digits, load_moons
from fxtransport.data.images import cut_images
from fxtransport.data.sets import Place, SplitNames, open_set, refuse_split_names
from fxtransport.data.shards import ShardEvalStream, Shards, ShardStream
from fxtransport.data.streams import (
    EvalStream,
    Mix,
    OrderedStream,
    Samples,
    ShuffledStream,
    TrainStream,
)
from fxtransport.data.transforms import make_transforms, mixing, refuse_unknown
from fxtransport.errors import UsageError

POINTS: dict[str, Callable[..., Parts]] = {"circles": load_circles, "moons": load_moons}
POINT_OPTIONS = {"circles": ("points", "noise", "factor"), "moons": ("points", "noise")}


@dataclass(frozen=True)
class Splits:
    """A set, cut: what is trained on, what is looked at meanwhile, what is looked at once.

    Attributes:
        train: Training batches, B×C×H×W (or B×2) and targets.
        validation: For choosing; None if the set has no such split and none is cut from train.
        test: For one figure at the end. Nothing else of this object shows its samples.
        num_classes: How many classes there are.
        input_size: One input's shape, (C, H, W) or (2,).
        class_names: Their names, in order.
        description: The set in one line.
    """

    train: TrainStream
    validation: EvalStream | None
    test: EvalStream
    num_classes: int
    input_size: tuple[int, ...]
    class_names: tuple[str, ...]
    description: str


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
    train_images: int | None = None,
    drop_last: bool = False,
    transform: Mapping[str, Any] | None = None,
    augmentation: Mapping[str, Any] | None = None,
    mixup: Mapping[str, Any] | None = None,
    pin_memory: bool = False,
    **options: Any,
) -> Splits:
    """Load a set by its name, cut it, and make streams of batches.

    Args:
        name: ``digits``, ``circles`` or ``moons``, which need no download; a folder of images
            (``train/CLASS/…`` and ``val`` or ``test``, as ImageNet, or just ``CLASS/…``);
            ``imagefolder`` with ``root``; or a set as timm names it: ``torch/cifar10``,
            ``torch/stl10``, ``wds/…``, ``hfds/…``.
        seed: Of the splits, the order, augmentation and mixup.
        batch_size: Inputs in a training batch.
        input_size: What the model takes, (C, H, W); the set's own if None, where it has one.
        eval_batch_size: Inputs in other batches; ``batch_size`` if None.
        num_workers: Processes that prepare batches; 0: this one. The batches are the same,
            but for training on ``wds/…``, where each process shuffles the shards it reads.
        root: The folder that holds the set.
        download: Whether the set may be fetched.
        validation: The share of training samples that becomes the validation split, if the
            set has none; 0: none.
        test: The share of all samples that becomes the test split, if the set has none.
        train_images: How many training samples to keep; None: all.
        drop_last: Leave out a last training batch that is smaller.
        transform: Options of ``timm.data.create_transform`` for all splits: ``mean``, ``std``,
            ``interpolation``, ``crop_pct``, ``crop_mode``.
        augmentation: Options of ``timm.data.create_transform`` for training images (``hflip``,
            ``scale``, ``auto_augment``, ``re_prob``, …), and ``padding``: a random crop of the
            image with so many pixels around it. None: nothing is random.
        mixup: Options of ``timm.data.Mixup`` (``mixup_alpha``, ``cutmix_alpha``, …). Targets
            become probabilities. Its label smoothing is 0 unless given.
        pin_memory: Put batches where a CUDA device copies them from without waiting.
        options: Of the set: ``points``, ``noise`` and ``factor`` (``circles``, ``moons``);
            ``train_split``, ``validation_split``, ``test_split`` and what
            ``timm.data.create_dataset`` takes.

    Raises:
        UsageError: the set is not known, not there, or cannot be cut so; or an option does not
            exist. The text says what to do.
    """
    names = [options.pop(f"{split}_split", None) for split in ("train", "validation", "test")]
    place = Place(None if root is None else Path(root), download, SplitNames(*names), options)
    cut = Cut(seed, validation, test, train_images)
    if eval_batch_size is None:
        eval_batch_size = batch_size
    how = Batching(seed, batch_size, eval_batch_size, num_workers, drop_last, mixup, pin_memory)
    images = ImageOptions(input_size, transform or {}, augmentation)
    if name.startswith("wds/"):
        return _from_shards(name, place, cut, images, how)
    return _from_parts(name, _parts(name, place, cut, images), how)


@dataclass(frozen=True)
class Batching:
    """How samples are made into batches; see :func:`load`."""

    seed: int
    batch_size: int
    eval_batch_size: int
    num_workers: int = 0
    drop_last: bool = False
    mixup: Mapping[str, Any] | None = None
    pin_memory: bool = False

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("eval_batch_size", 1), ("num_workers", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be {least} or more, not {getattr(self, name)}")

    def mix(self, num_classes: int, input_size: tuple[int, ...], last_batch: int) -> Mix | None:
        """What mixes batches, of which the last has as many inputs."""
        if self.mixup is None:
            return None
        if self.batch_size % 2 or last_batch % 2:
            raise UsageError(
                "mixup mixes pairs, but a batch of training images has "
                f"{self.batch_size if self.batch_size % 2 else last_batch}: "
                "choose an even batch_size, and drop_last"
            )
        return mixing(self.mixup, num_classes, input_size)


@dataclass(frozen=True)
class ImageOptions:
    """How images are transformed; see :func:`load`."""

    input_size: tuple[int, ...] | None
    transform: Mapping[str, Any]
    augmentation: Mapping[str, Any] | None

    @property
    def are_given(self) -> bool:
        """Whether anything is asked for but the size."""
        return self.augmentation is not None or bool(self.transform)


def _parts(name: str, place: Place, cut: Cut, given: ImageOptions) -> Parts:
    if name in POINTS or name == "digits":
        refuse_split_names(name, place)
    if name in POINTS:
        if given.are_given or given.input_size not in (None, (2,)):
            raise UsageError(
                f"{name} are points of the plane: a model for them takes (2,), not images"
            )
        refuse_unknown(name, place.options, POINT_OPTIONS[name])
        return POINTS[name](cut, **place.options)
    if name == "digits":
        refuse_unknown(name, place.options, ())
        if not given.are_given:
            return load_digits(cut, given.input_size)
        images, transform = digit_images(cut)
    else:
        images, transform = open_set(name, place), {}
    transform |= given.transform
    size = given.input_size or images.size
    return cut_images(images, cut, make_transforms(size, transform, given.augmentation))


def _from_parts(name: str, parts: Parts, how: Batching) -> Splits:
    # what lies in memory is fetched faster than handed over by another process
    num_workers = 0 if parts.in_memory else how.num_workers
    count = len(parts.train)
    if how.drop_last and count < how.batch_size:
        raise UsageError(
            f"{name} has {count} training samples: with drop_last, a batch_size of "
            f"{how.batch_size} leaves none"
        )
    last_batch = how.batch_size if how.drop_last else count % how.batch_size
    train = ShuffledStream(
        parts.train,
        how.batch_size,
        how.seed,
        num_workers=num_workers,
        drop_last=how.drop_last,
        mix=how.mix(len(parts.class_names), parts.input_size, last_batch),
        pin_memory=how.pin_memory,
    )

    def ordered(samples: Samples) -> OrderedStream:
        return OrderedStream(samples, how.eval_batch_size, num_workers, how.pin_memory)

    validation = None if parts.validation is None else ordered(parts.validation)
    return _described(
        name, train, validation, ordered(parts.test), parts.class_names, parts.input_size
    )


def _from_shards(name: str, place: Place, cut: Cut, given: ImageOptions, how: Batching) -> Splits:
    options = dict(place.options)
    num_classes = options.pop("num_classes", None)
    if not isinstance(num_classes, int):
        raise UsageError(f"{name}: shards do not say how many classes there are: give num_classes")
    if cut.train_images is not None:
        raise UsageError(f"{name}: train_images cannot be chosen from shards")
    place = replace(place, options=options)
    transforms = make_transforms(given.input_size, given.transform, given.augmentation)

    def shards(split: str, transform: Callable[[Image.Image], Tensor]) -> Shards:
        return Shards(name, place, split, transform, transforms.mode)

    def ordered(split: str) -> ShardEvalStream:
        some = shards(split, transforms.plain)
        return ShardEvalStream(some, how.eval_batch_size, how.num_workers, how.pin_memory)

    splits = place.splits
    train = ShardStream(
        shards(splits.train or "train", transforms.random),
        how.batch_size,
        how.seed,
        num_workers=how.num_workers,
        mix=how.mix(num_classes, transforms.size, how.batch_size),
        pin_memory=how.pin_memory,
    )
    validation = ordered(splits.validation or "validation") if cut.validation else None
    names = tuple(map(str, range(num_classes)))
    return _described(
        name, train, validation, ordered(splits.test or "test"), names, transforms.size
    )


def _described(
    name: str,
    train: TrainStream,
    validation: EvalStream | None,
    test: EvalStream,
    class_names: tuple[str, ...],
    input_size: tuple[int, ...],
) -> Splits:
    counts = [f"{train.images} to train on", f"{test.images} for the test"]
    if validation is not None:
        counts.insert(1, f"{validation.images} for validation")
    shape = "×".join(map(str, input_size))
    description = f"{name}: {', '.join(counts)}; inputs of {shape}, {len(class_names)} classes"
    return Splits(train, validation, test, len(class_names), input_size, class_names, description)
