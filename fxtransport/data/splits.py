"""From the name of a set to its splits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxtransport.data.cut import Cut, Parts
from fxtransport.data.embedded import digit_images, load_circles, load_digits, load_moons
from fxtransport.data.images import cut_images, mixing, refuse_unknown
from fxtransport.data.sets import Place, SplitNames, open_set
from fxtransport.data.streams import (
    EvalStream,
    OrderedStream,
    Samples,
    ShuffledStream,
    TrainStream,
)
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
        num_workers: Processes that prepare batches; 0: this one. The batches are the same.
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
    parts = _parts(name, place, cut, input_size, transform or {}, augmentation)
    batching = Batching(
        seed, batch_size, eval_batch_size or batch_size, num_workers, drop_last, pin_memory
    )
    return _splits(name, parts, batching, mixup)


@dataclass(frozen=True)
class Batching:
    """How samples are made into batches; see :func:`load`."""

    seed: int
    batch_size: int
    eval_batch_size: int
    num_workers: int = 0
    drop_last: bool = False
    pin_memory: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "eval_batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.num_workers < 0:
            raise UsageError(f"num_workers must be 0 or more, not {self.num_workers}")


def _parts(
    name: str,
    place: Place,
    cut: Cut,
    input_size: tuple[int, ...] | None,
    transform: Mapping[str, Any],
    augmentation: Mapping[str, Any] | None,
) -> Parts:
    changed = augmentation is not None or bool(transform)
    if name in POINTS:
        if changed or input_size not in (None, (2,)):
            raise UsageError(
                f"{name} are points of the plane: a model for them takes (2,), not images"
            )
        refuse_unknown(name, place.options, POINT_OPTIONS[name])
        return POINTS[name](cut, **place.options)
    if name == "digits":
        refuse_unknown(name, place.options, ())
        if not changed:
            return load_digits(cut, input_size)
        images, defaults = digit_images(cut)
        return cut_images(images, cut, input_size, defaults | dict(transform), augmentation)
    return cut_images(open_set(name, place), cut, input_size, transform, augmentation)


def _splits(name: str, parts: Parts, how: Batching, mixup: Mapping[str, Any] | None) -> Splits:
    num_classes = len(parts.class_names)
    train = ShuffledStream(
        parts.train,
        how.batch_size,
        how.seed,
        num_workers=how.num_workers,
        drop_last=how.drop_last,
        mix=None if mixup is None else mixing(mixup, num_classes, parts.input_size),
        pin_memory=how.pin_memory,
    )
    if len(train) == 0:
        raise UsageError(
            f"{name} has {len(parts.train)} training samples, and drop_last leaves none of a "
            f"batch_size of {how.batch_size}"
        )
    if mixup is not None and _last_batch(train) % 2:
        raise UsageError(
            f"mixup mixes pairs, and {name} has a training batch of {_last_batch(train)}: "
            "choose an even batch_size, and drop_last"
        )

    def ordered(samples: Samples) -> OrderedStream:
        return OrderedStream(samples, how.eval_batch_size, how.num_workers, how.pin_memory)

    validation = None if parts.validation is None else ordered(parts.validation)
    test = ordered(parts.test)
    described = [f"{train.images} to train on", f"{test.images} for the test"]
    if validation is not None:
        described.insert(1, f"{validation.images} for validation")
    shape = "×".join(map(str, parts.input_size))
    return Splits(
        train,
        validation,
        test,
        num_classes,
        parts.input_size,
        parts.class_names,
        f"{name}: {', '.join(described)}; inputs of {shape}, {num_classes} classes",
    )


def _last_batch(train: ShuffledStream) -> int:
    return train.images % train.batch_size or train.batch_size
