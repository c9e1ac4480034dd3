"""Images that are split, and transformed when they are fetched."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from fxtransport.data.contents import images_hash
from fxtransport.data.fingerprints import combined, named
from fxtransport.data.holdout import HoldOut, SplitSamples
from fxtransport.data.sets import Images, ImageSet, classes_of
from fxtransport.data.streams import Batch, Samples, Subset
from fxtransport.data.transforms import Transforms


@dataclass(frozen=True)
class ImageSamples:
    """Images that are opened and transformed when they are fetched.

    Args:
        images: The images, and their classes.
        transform: Makes a tensor of C×H×W of an image.
        mode: The mode to which an image is converted first, ``L`` or ``RGB``.
    """

    images: Images
    transform: Callable[[Image.Image], Tensor]
    mode: str

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Sequence[int]) -> Batch:
        """B×C×H×W, and the classes."""
        fetched = [self.images[i] for i in indices]
        inputs = [self.transform(image.convert(self.mode)) for image, _ in fetched]
        return torch.stack(inputs), torch.tensor([target for _, target in fetched])

    def fingerprint(self) -> str | None:
        """A hash of the images and their classes, and of how they are transformed."""
        return combined(images_hash(self.images), self.mode, named(self.transform))


def split_images(images: ImageSet, hold_out: HoldOut, transforms: Transforms) -> SplitSamples:
    """Hold out of the training images the splits that are missing, and transform all.

    Raises:
        UsageError: there are too few images.
    """
    classes = classes_of(images.train)
    augmented = ImageSamples(images.train, transforms.random, transforms.mode)
    plain = ImageSamples(images.train, transforms.plain, transforms.mode)

    def own_split(split: Images | None) -> Samples | None:
        if split is None:
            return None
        return ImageSamples(split, transforms.plain, transforms.mode)

    train: Sequence[int] = range(len(classes))
    validation, test = own_split(images.validation), own_split(images.test)
    if test is None:
        train, held_out = hold_out.hold_out_test(classes)
        test = Subset(plain, tuple(held_out))
    if validation is None:
        train, held_out = hold_out.hold_out_validation(classes, train)
        validation = Subset(plain, tuple(held_out)) if held_out else None
    kept = Subset(augmented, tuple(hold_out.keep(classes, train)))
    return SplitSamples(
        kept,
        validation,
        test,
        images.class_names,
        transforms.size,
        transform=transforms.options,
    )
