"""Images that are cut into splits and transformed when they are fetched."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from fxtransport.data.cut import Cut, Parts
from fxtransport.data.sets import Images, ImageSet, classes_of
from fxtransport.data.streams import Batch, Samples, Subset
from fxtransport.data.transforms import Transforms


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


def cut_images(images: ImageSet, cut: Cut, transforms: Transforms) -> Parts:
    """Cut from the training images what is missing, and transform them all.

    Raises:
        UsageError: there are too few to cut.
    """
    classes = classes_of(images.train)
    augmented = ImageSamples(images.train, transforms.random, transforms.mode)
    plain = ImageSamples(images.train, transforms.plain, transforms.mode)

    def own(split: Images | None) -> Samples | None:
        if split is None:
            return None
        return ImageSamples(split, transforms.plain, transforms.mode)

    train: Sequence[int] = range(len(classes))
    validation, test = own(images.validation), own(images.test)
    if test is None:
        train, held_out = cut.hold_out_test(classes)
        test = Subset(plain, tuple(held_out))
    if validation is None:
        train, held_out = cut.hold_out_validation(classes, train)
        validation = Subset(plain, tuple(held_out)) if held_out else None
    kept = Subset(augmented, tuple(cut.keep(classes, train)))
    return Parts(kept, validation, test, images.class_names, transforms.size)
