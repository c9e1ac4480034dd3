"""timm's transforms and mixup, from their options."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from fxtransport.data.streams import Mix
from fxtransport.errors import UsageError

MODES = {1: "L", 3: "RGB"}

EVERYWHERE = ("mean", "std", "interpolation", "crop_pct", "crop_mode", "crop_border_pixels")
"""Options of ``timm.data.create_transform`` that are for all images."""

AT_RANDOM = (
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
    """

    size: tuple[int, int, int]
    plain: Callable[[Image.Image], Tensor]
    random: Callable[[Image.Image], Tensor]

    @property
    def mode(self) -> str:
        """To which PIL converts an image first."""
        return MODES[self.size[0]]


def make_transforms(
    size: tuple[int, ...] | None,
    transform: Mapping[str, Any],
    augmentation: Mapping[str, Any] | None,
) -> Transforms:
    """Transforms to a size.

    Args:
        size: (C, H, W), of 1 or 3 channels.
        transform: Options for all images. Without ``mean`` and ``std`` they are ImageNet's;
            without ``crop_pct`` the whole image is seen.
        augmentation: What is done at random, and nothing else is. None: nothing.

    Raises:
        UsageError: the size is not known or not an image's; an option does not exist, or timm
            refuses its value.
    """
    size = _image_size(size)
    everywhere = _everywhere(transform, size[0])
    plain = _transform(size, {"crop_pct": 1.0}, everywhere)
    random = plain if augmentation is None else _augmenting(size, everywhere, augmentation)
    return Transforms(size, plain, random)


def mixing(mixup: Mapping[str, Any], num_classes: int, input_size: tuple[int, ...]) -> Mix:
    """``timm.data.Mixup`` with these options; it smoothes no labels unless told to.

    Raises:
        UsageError: an option does not exist, or the inputs are no images.
    """
    from timm.data.mixup import Mixup

    if len(input_size) != 3:
        raise UsageError(f"mixup is for images, not for inputs of {input_size}")
    ours = ("num_classes", "multi_label")
    known = [name for name in inspect.signature(Mixup).parameters if name not in ours]
    refuse_unknown("mixup", mixup, known)
    mix: Mix = Mixup(**{"label_smoothing": 0.0, **mixup}, num_classes=num_classes)
    return mix


def _augmenting(
    size: tuple[int, int, int], everywhere: dict[str, Any], augmentation: Mapping[str, Any]
) -> Any:
    """A transform that does at random what is named, and nothing else."""
    from torchvision.transforms import RandomCrop

    refuse_unknown("augmentation", augmentation, AT_RANDOM)
    given = dict(augmentation)
    padding = given.pop("padding", 0)
    _, height, width = size
    off: dict[str, Any] = {"hflip": 0.0, "vflip": 0.0, "color_jitter": None}
    if not {"scale", "train_crop_mode"} & set(given):
        # the whole image, or as much of it as has the right shape
        off |= {"scale": (1.0, 1.0), "ratio": (width / height, width / height)}
    # how much is cropped for evaluation is not for training
    shown = {k: v for k, v in everywhere.items() if not k.startswith("crop")}
    random: Any = _transform(size, shown, off | given | {"is_training": True})
    if padding:
        # behind the first step, which makes the image of the right size
        random.transforms.insert(1, RandomCrop((height, width), padding=padding))
    return random


def _transform(size: tuple[int, int, int], *options: Mapping[str, Any]) -> Any:
    from timm.data.transforms_factory import create_transform

    given: dict[str, Any] = {}
    for more in options:
        given |= more
    try:
        return create_transform(size, **given)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        said = ", ".join(f"{name}={value}" for name, value in given.items())
        raise UsageError(f"timm makes no transform of {said}: {error}") from error


def _everywhere(transform: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """The options for all images, with ImageNet's mean and deviation unless others are given."""
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    refuse_unknown("transform", transform, EVERYWHERE)
    given = dict(transform)
    for name, default in (("mean", IMAGENET_DEFAULT_MEAN), ("std", IMAGENET_DEFAULT_STD)):
        grey = (sum(default) / len(default),)
        values = tuple(given.get(name, grey if channels == 1 else default))
        if len(values) == 1:
            values *= channels
        if len(values) != channels:
            raise UsageError(f"transform: {name} has {len(values)} values for {channels} channels")
        given[name] = values
    return given


def _image_size(size: tuple[int, ...] | None) -> tuple[int, int, int]:
    if size is None:
        raise UsageError("these images have several sizes: say with input_size what is wanted")
    if len(size) != 3 or size[0] not in MODES:
        raise UsageError(f"images are (1, H, W) or (3, H, W), not {size}")
    return size[0], size[1], size[2]


def refuse_unknown(what: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise a UsageError that lists what is known, if an option is not."""
    for name in given:
        if name not in known:
            raise UsageError(f"{what} has no option '{name}': it has {', '.join(known) or 'none'}")
