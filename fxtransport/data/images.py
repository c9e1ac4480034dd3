"""Images that are split, and transformed when they are fetched."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from PIL import Image
from torch import Tensor

from fxtransport.data.checked import Checked
from fxtransport.data.contents import content_hashes, images_hash, row_hashes
from fxtransport.data.duplicates import Named, count_duplicates
from fxtransport.data.fingerprints import combined, named
from fxtransport.data.holdout import HoldOut, SplitSamples
from fxtransport.data.reader_images import ReaderImages, examine
from fxtransport.data.sets import Images, ImageSet, classes_of
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

    def labels(self) -> Tensor:
        """The classes."""
        return torch.tensor(classes_of(self.images), dtype=torch.int64)


@dataclass(frozen=True)
class BadImages:
    """What becomes of files that cannot be read as images, see :func:`examine`."""

    on_bad: str = "stop"
    check: bool = False
    """Decode every image when the set is loaded."""
    checked: Checked = field(default_factory=Checked)
    """What is known of images, and is noted."""

    def left_out(self, images: ImageSet) -> ImageSet:
        """The same set of images that can be read; it notes what is left out.

        Raises:
            UsageError: one cannot be read, and shall not be left out.
        """
        notes = list(images.notes)

        def good(held: Images | None) -> Images | None:
            if not isinstance(held, ReaderImages) or not (held.by_content or self.check):
                return held
            found, note = examine(held, on_bad=self.on_bad, whole=self.check, checked=self.checked)
            notes.extend([] if note is None else [note])
            return found

        train, validation, test = map(good, (images.train, images.validation, images.test))
        assert train is not None
        return replace(images, train=train, validation=validation, test=test, notes=tuple(notes))


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
    if len(images.class_names) < 2:
        raise UsageError(
            f"there is a single class, {', '.join(images.class_names)}, so nothing to tell apart: "
            "put the images of each class into a folder of its own, in one folder"
        )
    classes = classes_of(images.train)
    augmented = ImageSamples(images.train, transforms.random, transforms.mode)
    plain = ImageSamples(images.train, transforms.plain, transforms.mode)
    train, validation, test = _indices(images, hold_out, classes)
    kept = Subset(augmented, tuple(hold_out.keep(classes, train, images.class_names)))

    def samples(own: Images | None, held_out: Sequence[int]) -> Samples | None:
        if own is not None:
            return ImageSamples(own, transforms.plain, transforms.mode)
        return Subset(plain, tuple(held_out)) if held_out else None

    def classes_in(own: Images | None, held_out: Sequence[int]) -> Sequence[int] | None:
        if own is not None:
            return classes_of(own)
        return [classes[i] for i in held_out] or None

    return SplitSamples(
        kept,
        samples(images.validation, validation),
        samples(images.test, test),
        images.class_names,
        transforms.size,
        transform=transforms.options,
        duplicates=_duplicates(images, (kept.indices, validation, test), allow=allow_duplicates),
        sources=hold_out.sources(
            images.origins,
            {
                "train": classes_in(None, kept.indices),
                "validation": classes_in(images.validation, validation),
                "test": classes_in(images.test, test),
            },
            by_content=content_hashes(images.train) is not None,
            missing=images.untested,
        ),
        notes=images.notes,
    )


def _indices(
    images: ImageSet, hold_out: HoldOut, classes: Sequence[int]
) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """Which training images are for training, for validation and for the test."""
    hashes = content_hashes(images.train)
    train: Sequence[int] = range(len(classes))
    validation: Sequence[int] = ()
    test: Sequence[int] = ()
    tested = images.test is not None or bool(images.untested)
    if hashes is None:
        names = images.class_names
        if not tested:
            train, test = hold_out.hold_out_test(classes, names)
        if images.validation is None:
            train, validation = hold_out.hold_out_validation(classes, train, names)
        return train, validation, test
    if not tested:
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
