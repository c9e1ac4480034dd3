"""Images that are split, and transformed when they are fetched."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from fxtransport.data.contents import content_hashes, images_hash, row_hashes
from fxtransport.data.duplicates import Named, count_duplicates
from fxtransport.data.fingerprints import combined, named
from fxtransport.data.holdout import HoldOut, SplitSamples
from fxtransport.data.sets import Images, ImageSet, ReaderImages, classes_of
from fxtransport.data.streams import Batch, Samples, Subset
from fxtransport.data.transforms import Transforms
from fxtransport.errors import UsageError


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


def split_images(
    images: ImageSet, hold_out: HoldOut, transforms: Transforms, *, allow_duplicates: bool = False
) -> SplitSamples:
    """Hold out of the training images the splits that are missing, and transform all.

    Args:
        images: The images.
        hold_out: How they are split; images in files by their content.
        transforms: How they become tensors.
        allow_duplicates: Whether an image may be in two splits.

    Raises:
        UsageError: there are too few images, or one is in two splits.
    """
    classes = classes_of(images.train)
    augmented = ImageSamples(images.train, transforms.random, transforms.mode)
    plain = ImageSamples(images.train, transforms.plain, transforms.mode)
    train, validation, test = _indices(images, hold_out, classes)
    kept = Subset(augmented, tuple(hold_out.keep(classes, train)))

    def samples(own: Images | None, held_out: Sequence[int]) -> Samples | None:
        if own is not None:
            return ImageSamples(own, transforms.plain, transforms.mode)
        return Subset(plain, tuple(held_out)) if held_out else None

    tested = samples(images.test, test)
    assert tested is not None
    return SplitSamples(
        kept,
        samples(images.validation, validation),
        tested,
        images.class_names,
        transforms.size,
        transform=transforms.options,
        duplicates=_duplicates(images, (kept.indices, validation, test), allow=allow_duplicates),
    )


def _indices(
    images: ImageSet, hold_out: HoldOut, classes: Sequence[int]
) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """Which training images are for training, for validation and for the test."""
    hashes = content_hashes(images.train)
    train: Sequence[int] = range(len(classes))
    validation: Sequence[int] = ()
    test: Sequence[int] = ()
    if hashes is None:
        if images.test is None:
            train, test = hold_out.hold_out_test(classes)
        if images.validation is None:
            train, validation = hold_out.hold_out_validation(classes, train)
        return train, validation, test
    if images.test is None:
        train, test = hold_out.by_content(hashes, train, "test")
    if images.validation is None:
        train, validation = hold_out.by_content(hashes, train, "validation")
    lost = sorted({*classes} - {classes[i] for i in train})
    if lost:
        raise UsageError(
            f"no image of the class {images.class_names[lost[0]]} is left to train on: give "
            "another share or seed, or more images"
        )
    return train, validation, test


def _duplicates(images: ImageSet, indices: Sequence[Sequence[int]], *, allow: bool) -> int | None:
    """How many images are in two splits; None where they would all have to be read to tell."""
    named: dict[str, Named] = {}
    own = (None, images.validation, images.test)
    hashes: dict[int, Sequence[bytes] | None] = {}
    for split, source, chosen in zip(("train", "validation", "test"), own, indices, strict=True):
        held = images.train if source is None else source
        if id(held) not in hashes:
            hashes[id(held)] = content_hashes(held) or row_hashes(held)
        found = hashes[id(held)]
        if found is None:
            return None
        places = chosen if source is None else range(len(found))
        named[split] = [(found[i], _name(held, i)) for i in places]
    return count_duplicates(named, allow=allow or images.published)


def _name(images: Images, index: int) -> str:
    return images.name(index) if isinstance(images, ReaderImages) else f"image {index}"
