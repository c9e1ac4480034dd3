"""From images to tensors, by timm's transforms."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fxtransport.data.cut import Cut, Parts
from fxtransport.data.sets import Images, ImageSet, classes_of
from fxtransport.data.streams import Batch, Mix, Samples, Subset
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
class ImageSamples:
    """Images that are opened and transformed when they are fetched.

    Args:
        images: What there is.
        transform: Makes a tensor of C×H×W of an image.
        mode: To which PIL converts an image first, ``L`` or ``RGB``.
    """

    images: Images
    transform: Callable[[Image.Image], Tensor]
    mode: str

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Sequence[int]) -> Batch:
        """B×C×H×W, and the classes."""
        found = [self.images[i] for i in indices]
        inputs = [self.transform(image.convert(self.mode)) for image, _ in found]
        return torch.stack(inputs), torch.tensor([target for _, target in found])


def cut_images(
    images: ImageSet,
    cut: Cut,
    input_size: tuple[int, ...] | None,
    transform: Mapping[str, Any],
    augmentation: Mapping[str, Any] | None,
) -> Parts:
    """Cut from the training images what is missing, and transform them all.

    Raises:
        UsageError: the size of the images is not known or not an image's; there are too few
            to cut; an option does not exist.
    """
    size = _image_size(input_size or images.size)
    everywhere = _everywhere(transform, size[0])
    plain = _transform(size, {"crop_pct": 1.0}, everywhere)
    random = plain if augmentation is None else _augmenting(size, everywhere, augmentation)

    def samples(of: Images, indices: Sequence[int] | None, to_tensor: Any) -> Samples:
        whole = ImageSamples(of, to_tensor, MODES[size[0]])
        return whole if indices is None else Subset(whole, tuple(indices))

    classes = classes_of(images.train)
    train: Sequence[int] = range(len(classes))
    held_out: Sequence[int] = ()
    test = None if images.test is None else samples(images.test, None, plain)
    if test is None:
        train, tested_on = cut.hold_out_test(classes)
        test = samples(images.train, tested_on, plain)
    if images.validation is None:
        train, held_out = cut.hold_out_validation(classes, train)
        validation = samples(images.train, held_out, plain) if held_out else None
    else:
        validation = samples(images.validation, None, plain)
    train = cut.keep(classes, train)
    return Parts(samples(images.train, train, random), validation, test, images.class_names, size)


def mixing(mixup: Mapping[str, Any], num_classes: int, input_size: tuple[int, ...]) -> Mix:
    """``timm.data.Mixup`` with these options; it smoothes no labels unless told to.

    Raises:
        UsageError: an option does not exist, or the inputs are no images.
    """
    from timm.data.mixup import Mixup

    if len(input_size) != 3:
        raise UsageError("mixup is for images")
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
