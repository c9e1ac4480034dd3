"""Sets of images on disk, opened by timm and torchvision, and the splits that they have."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from PIL import Image, UnidentifiedImageError

from fxtransport.data.duplicates import refuse_one_split
from fxtransport.errors import UsageError

READERS = 8
"""How many threads read files to hash them; they wait for the disk."""
DIGEST = 16
"""The number of bytes of an image's hash."""
FOLDER_NAMES = ("folder", "imagefolder", "imagenet")
TEST_FOLDERS = ("test",)
TRAIN_FOLDERS = ("train", "training")
EVAL_FOLDERS = ("val", "valid", "validation", "eval", "evaluation")


class Images(Protocol):
    """Images and their classes, by index."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """One image and its class."""


@dataclass(frozen=True)
class ImageSet:
    """The splits of a set as they are on disk; None for those that it lacks.

    Attributes:
        train: The training images; missing splits are held out of them.
        validation: The validation images.
        test: The test images.
        class_names: The names of the classes, in order.
        size: (C, H, W), if all images have one size.
        published: Whether all figures of the set that others publish are of these splits, so that
            what is in two of them is counted, and not refused.
    """

    train: Images
    validation: Images | None
    test: Images | None
    class_names: tuple[str, ...]
    size: tuple[int, int, int] | None = None
    published: bool = False


@dataclass(frozen=True)
class SplitNames:
    """What the splits are called on disk; None for the usual names."""

    train: str | None = None
    validation: str | None = None
    test: str | None = None


@dataclass(frozen=True)
class Location:
    """Where a set is, and how it is opened.

    Attributes:
        root: The folder that holds it.
        download: Whether it may be downloaded.
        splits: What its splits are called.
        options: Further arguments of ``timm.data.create_dataset``.
    """

    root: Path | None = None
    download: bool = False
    splits: SplitNames = SplitNames()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _TorchSet:
    """What timm calls the test split of a torchvision set, and the size of its images."""

    test: str = "test"
    size: tuple[int, int, int] | None = None


TORCH_SETS = {
    "torch/cifar10": _TorchSet(size=(3, 32, 32)),
    "torch/cifar100": _TorchSet(size=(3, 32, 32)),
    "torch/fashion_mnist": _TorchSet(size=(1, 28, 28)),
    "torch/imagenet": _TorchSet(test="validation"),
    "torch/kmnist": _TorchSet(size=(1, 28, 28)),
    "torch/mnist": _TorchSet(size=(1, 28, 28)),
    "torch/places365": _TorchSet(test="validation"),
    "torch/stl10": _TorchSet(size=(3, 96, 96)),
}


@dataclass(frozen=True)
class ReaderImages:
    """The images that a reader of timm finds.

    timm's own dataset replaces an image that cannot be read by the next one, which may belong
    to another split. Here that is an error.
    """

    reader: Any

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        try:
            file, target, *_ = self.reader[index]
            with file:
                image = Image.open(file)
                image.load()
        except (UnidentifiedImageError, OSError) as error:
            raise UsageError(f"{self.name(index)}: cannot be read as an image: {error}") from error
        return image, int(target)

    def name(self, index: int) -> str:
        """The name of an image's file."""
        return str(self.reader.filename(index, absolute=True))

    @cached_property
    def hashes(self) -> tuple[bytes, ...]:
        """A hash of each image's file. All files are read, by several threads.

        Raises:
            UsageError: one cannot be read.
        """
        with ThreadPoolExecutor(READERS) as pool:
            return tuple(pool.map(self._hash, range(len(self))))

    def _hash(self, index: int) -> bytes:
        name = Path(self.name(index))
        try:
            if name.exists() and not name.is_file():
                # opening a pipe would wait for ever
                raise UsageError(f"{name} is not a file")
            file, *_ = self.reader[index]
            with file:
                return hashlib.blake2b(file.read(), digest_size=DIGEST).digest()
        except OSError as error:
            raise UsageError(f"{name}: cannot be read: {error.strerror}") from error


def open_set(name: str, location: Location) -> ImageSet:
    """Find the splits of a set by its name: a folder, ``torch/…`` or ``hfds/…``.

    Raises:
        UsageError: there is no such set, or it cannot be opened.
    """
    if name in TORCH_SETS:
        refuse_split_names(name, location)
        return _open_torch(name, location)
    if name.startswith("hfds/"):
        return _open_hfds(name, location)
    if name in FOLDER_NAMES:
        return _open_folder(_require_root(name, location), location)
    if Path(name).is_dir():
        return _open_folder(Path(name), location)
    raise UsageError(
        f"'{name}' is neither a set nor a folder: give digits, mnist5k, patches, circles, moons, "
        "a folder of images, "
        f"{', '.join(TORCH_SETS)}, wds/NAME or hfds/NAME"
    )


def refuse_split_names(name: str, location: Location) -> None:
    """Raise a UsageError if splits are named although those of the set are fixed."""
    if location.splits != SplitNames():
        raise UsageError(
            f"{name} has fixed splits: train_split, validation_split and test_split do not apply"
        )


def classes_of(images: Images) -> list[int]:
    """The class of every image; images are opened only where nothing else tells."""
    if isinstance(images, ReaderImages):
        # a reader of folders lists its samples, others can iterate over their classes
        samples = getattr(images.reader, "samples", None)
        known = images.reader.iter_targets() if samples is None else (c for _, c in samples)
        return [int(c) for c in known]
    known = getattr(images, "targets", None)
    if known is None:
        known = getattr(images, "labels", None)
    if known is None:
        known = (images[i][1] for i in range(len(images)))
    return [int(c) for c in known]


def _open_torch(name: str, location: Location) -> ImageSet:
    train = create_split(name, _require_root(name, location), location, "train")
    test = create_split(name, _require_root(name, location), location, TORCH_SETS[name].test)
    names = getattr(train, "classes", None) or range(max(classes_of(train)) + 1)
    # ImageNet has several names for each class
    one_each = (", ".join(n) if isinstance(n, tuple) else str(n) for n in names)
    return ImageSet(train, None, test, tuple(one_each), TORCH_SETS[name].size, published=True)


def _open_hfds(name: str, location: Location) -> ImageSet:
    if not location.download:
        raise UsageError(f"{name} is downloaded from its hub: allow it with download=True")
    splits = location.splits

    named = (splits.train or "train", splits.validation, splits.test or "test")
    refuse_one_split(dict(zip(("train", "validation", "test"), named, strict=True)))

    def open_split(split: str) -> ReaderImages:
        return ReaderImages(create_split(name, location.root, location, split).reader)

    train = open_split(splits.train or "train")
    validation = open_split(splits.validation) if splits.validation else None
    return ImageSet(train, validation, open_split(splits.test or "test"), _class_names(train))


def _open_folder(root: Path, location: Location) -> ImageSet:
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}")
    splits = location.splits
    train = _subfolder(root, splits.train, TRAIN_FOLDERS)
    validation = _subfolder(root, splits.validation, EVAL_FOLDERS)
    test = _subfolder(root, splits.test, TEST_FOLDERS)
    if train is None:
        if found := validation or test:
            raise UsageError(f"{root} has a folder {found.name}, but none called train")
        whole = _read_folder(root, location)
        return ImageSet(whole, None, None, _class_names(whole))
    if test is None:
        # as for ImageNet, whose test images have no public classes
        validation, test = None, validation
    refuse_one_split({"train": train, "validation": validation, "test": test})
    train_images = _read_folder(train, location)
    classes = train_images.reader.class_to_idx

    def read_split(folder: Path | None) -> ReaderImages | None:
        if folder is None:
            return None
        images = _read_folder(folder, location)
        unknown = sorted(set(images.reader.class_to_idx) - set(classes))
        if unknown:
            raise UsageError(
                f"{folder} has classes that {train} does not have: {', '.join(unknown[:5])}; "
                "name other folders with validation_split and test_split"
            )
        # timm numbers the classes of each folder separately
        same = images.reader.class_to_idx == classes
        return images if same else _read_folder(folder, location, class_map=classes)

    names = _class_names(train_images)
    return ImageSet(train_images, read_split(validation), read_split(test), names)


def _subfolder(root: Path, asked: str | None, usual: tuple[str, ...]) -> Path | None:
    if asked and not (root / asked).is_dir():
        raise UsageError(f"{root} has no folder called {asked}")
    names = (asked,) if asked else usual
    return next((root / name for name in names if (root / name).is_dir()), None)


def _read_folder(folder: Path, location: Location, **options: Any) -> ReaderImages:
    dataset = create_split("", folder, location, "train", search_split=False, **options)
    return ReaderImages(dataset.reader)


def _class_names(images: ReaderImages) -> tuple[str, ...]:
    found: dict[str, int] = images.reader.class_to_idx
    if not found:
        return tuple(map(str, range(max(classes_of(images)) + 1)))
    return tuple(sorted(found, key=lambda name: found[name]))


def _require_root(name: str, location: Location) -> Path:
    if location.root is None:
        raise UsageError(f"{name}: give root, the folder that holds the set")
    return location.root


def create_split(
    name: str, root: Path | None, location: Location, split: str, **options: Any
) -> Any:
    """Open one split, as timm or torchvision does.

    Raises:
        UsageError: they cannot; the message says what to do.
    """
    from timm.data.dataset_factory import create_dataset
    from torchvision.datasets import STL10

    arguments: dict[str, Any] = {**location.options, **options}
    arguments |= {"root": root and str(root), "split": split, "download": location.download}
    try:
        if name == "torch/stl10":
            return STL10(**arguments)
        return create_dataset(name, **arguments)
    except (AssertionError, ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        where = f" in {root}" if root else ""
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(
            f"{name or root}: cannot open the split {split}{where}: {reason} "
            "(root is the folder that holds the set; download=True downloads it)"
        ) from error
