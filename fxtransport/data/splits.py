"""From the name of a set to its splits."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxtransport.data.cut import Cut
from fxtransport.data.embedded import Arrays, load_circles, load_digits, load_moons
from fxtransport.data.streams import EvalStream, OrderedStream, ShuffledStream, TrainStream
from fxtransport.errors import UsageError


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
    cut = Cut(seed, validation, test, train_images)
    if name == "digits":
        parts = load_digits(cut, input_size, **options)
    elif name == "circles":
        parts = load_circles(cut, **options)
    elif name == "moons":
        parts = load_moons(cut, **options)
    else:
        raise UsageError(f"no set is called '{name}'")
    return _arrays(name, parts, seed, batch_size, eval_batch_size or batch_size, drop_last)


def _arrays(
    name: str, parts: Arrays, seed: int, batch_size: int, eval_batch_size: int, drop_last: bool
) -> Splits:
    train = ShuffledStream(parts.train, batch_size, seed, drop_last=drop_last)
    validation = OrderedStream(parts.validation, eval_batch_size)
    return Splits(
        train,
        validation if validation.images else None,
        OrderedStream(parts.test, eval_batch_size),
        len(parts.class_names),
        tuple(parts.train.inputs.shape[1:]),
        parts.class_names,
        name,
    )
