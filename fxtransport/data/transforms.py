"""The transforms and the mixup of timm, made from their options."""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fxtransport.data.option_values import AUGMENTATION, MIXUP, TRANSFORM, check_values
from fxtransport.data.streams import Mix
from fxtransport.errors import MODEL_ERRORS, UsageError, first_line
from fxtransport.randomness import fork_rng

MODES = {1: "L", 3: "RGB"}

DRAWS = 12
"""How many images are transformed to see whether options can be used: some act now and then."""

SHARED_OPTIONS = ("mean", "std", "interpolation", "crop_pct", "crop_mode", "crop_border_pixels")
"""Options of ``timm.data.create_transform`` for all images."""

WHOLE = {"crop_pct": 1.0}
"""The option by which the whole image is used, unless another is given."""

AUGMENTATION_OPTIONS = (
    *("padding", "scale", "ratio", "train_crop_mode", "hflip", "vflip"),
    *("color_jitter", "color_jitter_prob", "grayscale_prob", "gaussian_blur_prob"),
    *("auto_augment", "re_prob", "re_mode", "re_count"),
)
"""Options of ``timm.data.create_transform`` for training images, and ``padding``."""


@dataclass(frozen=True)
class Transforms:
    """How images become tensors.

    Attributes:
        size: (C, H, W) of the tensors.
        plain: For evaluation; nothing is random.
        random: For training.
        options: The options for all images, which ``plain`` was made with.
    """

    size: tuple[int, int, int]
    plain: Callable[[Image.Image], Tensor]
    random: Callable[[Image.Image], Tensor]
    options: Mapping[str, Any]

    @property
    def mode(self) -> str:
        """The mode to which an image is converted first."""
        return MODES[self.size[0]]


def make_transforms(
    size: tuple[int, ...] | None,
    transform: Mapping[str, Any],
    augmentation: Mapping[str, Any] | None,
) -> Transforms:
    """Transforms that make images of a size.

    Args:
        size: (C, H, W), of 1 or 3 channels.
        transform: Options for all images. ``mean`` and ``std`` are ImageNet's by default, and
            the whole image is used unless ``crop_pct`` is given.
        augmentation: Options for training images. Only what they name is random; nothing is if
            None.

    Raises:
        UsageError: the size is missing or is not the size of an image, an option does not
            exist, or timm refuses its value.
    """
    size = _check_size(size)
    shared = _shared_options(transform, size[0])
    plain = _transform(size, WHOLE, shared)
    random = plain if augmentation is None else _augmentation(size, shared, augmentation)
    _try(plain, size, shared)
    _try(random, size, {**shared, **(augmentation or {})})
    return Transforms(size, plain, random, {**WHOLE, **shared})


def make_mixup(mixup: Mapping[str, Any], num_classes: int, input_size: tuple[int, ...]) -> Mix:
    """``timm.data.Mixup`` with these options; label smoothing is 0 unless given.

    Raises:
        UsageError: an option does not exist, or the inputs are not images.
    """
    from timm.data.mixup import Mixup

    if len(input_size) != 3:
        raise UsageError(f"mixup is for images, not for inputs of {input_size}")
    ours = ("num_classes", "multi_label")
    known = [name for name in inspect.signature(Mixup).parameters if name not in ours]
    refuse_unknown("mixup", mixup, known)
    check_values("mixup", mixup, MIXUP)
    try:
        mix: Mix = Mixup(**{"label_smoothing": 0.0, **mixup}, num_classes=num_classes)
        # values of a wrong kind are noticed here, not in the first epoch
        with fork_rng(0):
            mix(torch.zeros(2, *input_size), torch.zeros(2, dtype=torch.int64))
    except MODEL_ERRORS as error:
        raise UsageError(f"timm cannot mix with {_said(mixup)}: {first_line(error)}") from error
    return mix


def _augmentation(
    size: tuple[int, int, int], shared: dict[str, Any], augmentation: Mapping[str, Any]
) -> Any:
    """A transform that does what is named at random, and nothing else."""
    from torchvision.transforms import RandomCrop

    refuse_unknown("augmentation", augmentation, AUGMENTATION_OPTIONS)
    check_values("augmentation", augmentation, AUGMENTATION)
    given = dict(augmentation)
    padding = given.pop("padding", 0)
    _, height, width = size
    off: dict[str, Any] = {"hflip": 0.0, "vflip": 0.0, "color_jitter": None}
    if not {"scale", "train_crop_mode"} & set(given):
        # the whole image, or as much of it as has the right aspect ratio
        off |= {"scale": (1.0, 1.0), "ratio": (width / height, width / height)}
    # how evaluation crops is not for training
    uncropped = {k: v for k, v in shared.items() if not k.startswith("crop")}
    random: Any = _transform(size, uncropped, off | given | {"is_training": True})
    if padding:
        # after the first step, which resizes the image
        random.transforms.insert(1, RandomCrop((height, width), padding=padding))
    return random


def _transform(size: tuple[int, int, int], *options: Mapping[str, Any]) -> Any:
    from timm.data.transforms_factory import create_transform

    given: dict[str, Any] = {}
    for more in options:
        given |= more
    with _refusing("make a transform of", given):
        return create_transform(size, **given)


def _try(transform: Any, size: tuple[int, int, int], options: Mapping[str, Any]) -> None:
    """Transform a few images, so that options that cannot be used are noticed now."""
    _, height, width = size
    with _refusing("transform images with", options), fork_rng(0):
        for number in range(DRAWS):
            # wider and higher than asked for, and smaller
            shape = ((width, 2 * height), (2 * width, height), (width // 2 + 1, height // 2 + 1))
            made = transform(Image.new(MODES[size[0]], shape[number % len(shape)]))
            if not isinstance(made, Tensor) or made.shape != size:
                found = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
                raise ValueError(f"it makes {found} where {size} is asked for")


@contextmanager
def _refusing(what: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Turn what timm and torchvision raise for options into one error that names them."""
    try:
        with warnings.catch_warnings():
            # torchvision warns of what it refuses a moment later
            warnings.simplefilter("ignore")
            yield
    except MODEL_ERRORS as error:
        raise UsageError(f"timm cannot {what} {_said(options)}: {first_line(error)}") from error


def _said(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in given.items()) or "no options"


def _shared_options(transform: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """The options for all images; the mean and the deviation are ImageNet's by default."""
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    refuse_unknown("transform", transform, SHARED_OPTIONS)
    check_values("transform", transform, TRANSFORM)
    given = dict(transform)
    for name, default in (("mean", IMAGENET_DEFAULT_MEAN), ("std", IMAGENET_DEFAULT_STD)):
        gray = (sum(default) / len(default),)
        values = tuple(given.get(name, gray if channels == 1 else default))
        if len(values) == 1:
            values *= channels
        if len(values) != channels:
            raise UsageError(f"transform: {name} has {len(values)} values for {channels} channels")
        given[name] = values
    return given


def _check_size(size: tuple[int, ...] | None) -> tuple[int, int, int]:
    if size is None:
        raise UsageError("these images have several sizes: give input_size")
    if len(size) != 3 or size[0] not in MODES:
        raise UsageError(f"images are (1, H, W) or (3, H, W), not {size}")
    return size[0], size[1], size[2]


def refuse_unknown(what: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise a UsageError if an option is not among the known ones, which it lists."""
    for name in given:
        if name not in known:
            raise UsageError(f"{what} has no option '{name}': it has {', '.join(known) or 'none'}")
