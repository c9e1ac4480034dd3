"""Sets of images on disk, opened by timm and torchvision: which splits there are, and where."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from PIL import Image, UnidentifiedImageError

from fxtransport.errors import UsageError

FOLDER_NAMES = ("folder", "imagefolder", "imagenet")
TEST_FOLDERS = ("test",)
TRAIN_FOLDERS = ("train", "training")
EVAL_FOLDERS = ("val", "valid", "validation", "eval", "evaluation")


class Images(Protocol):
    """Images and their classes, by number."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """One image and its class."""


@dataclass(frozen=True)
class ImageSet:
    """The splits of a set as they are on disk; None where there is none.

    Attributes:
        train: What may be trained on, and cut where another split is missing.
        validation: Of its own.
        test: Of its own.
        class_names: In order.
        size: (C, H, W), if all images have one size.
    """

    train: Images
    validation: Images | None
    test: Images | None
    class_names: tuple[str, ...]
    size: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class SplitNames:
    """What the splits are called on disk; None: what is usual."""

    train: str | None = None
    validation: str | None = None
    test: str | None = None


@dataclass(frozen=True)
class Place:
    """Where a set is, and how it is opened.

    Attributes:
        root: The folder that holds it.
        download: Whether it may be fetched.
        splits: What its splits are called.
        options: More for ``timm.data.create_dataset``.
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
class ReadImages:
    """The images that a reader of timm finds.

    timm's own dataset puts the next image in the place of one that cannot be read, which
    might be of another split; here that is an error.
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
            name = self.reader.filename(index, absolute=True)
            raise UsageError(f"{name}: cannot be read as an image: {error}") from error
        return image, int(target)


def open_set(name: str, place: Place) -> ImageSet:
    """Find the splits of a set by its name: a folder, ``torch/…`` or ``hfds/…``.

    Raises:
        UsageError: it is not known, not there, or not as it should be.
    """
    if name in TORCH_SETS:
        refuse_split_names(name, place)
        return _open_torch(name, place)
    if name.startswith("hfds/"):
        return _open_hfds(name, place)
    if name in FOLDER_NAMES:
        return _open_folder(_rooted(name, place), place)
    if Path(name).is_dir():
        return _open_folder(Path(name), place)
    raise UsageError(
        f"'{name}' is no set and no folder: give digits, circles, moons, a folder of images, "
        f"{', '.join(TORCH_SETS)}, wds/NAME or hfds/NAME"
    )


def refuse_split_names(name: str, place: Place) -> None:
    """Raise a UsageError if splits are named of a set whose splits are known."""
    if place.splits != SplitNames():
        raise UsageError(f"{name} has splits of its own: train_split and others are not for it")


def classes_of(images: Images) -> list[int]:
    """The class of every image, without opening it where that is known."""
    if isinstance(images, ReadImages):
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


def _open_torch(name: str, place: Place) -> ImageSet:
    train = create(name, _rooted(name, place), place, "train")
    test = create(name, _rooted(name, place), place, TORCH_SETS[name].test)
    names = getattr(train, "classes", None) or range(max(classes_of(train)) + 1)
    # ImageNet's classes have several names each
    one_each = (", ".join(n) if isinstance(n, tuple) else str(n) for n in names)
    return ImageSet(train, None, test, tuple(one_each), TORCH_SETS[name].size)


def _open_hfds(name: str, place: Place) -> ImageSet:
    if not place.download:
        raise UsageError(f"{name} is fetched from its hub: allow it, download=True (--download)")
    splits = place.splits

    def opened(split: str) -> ReadImages:
        return ReadImages(create(name, place.root, place, split).reader)

    train = opened(splits.train or "train")
    validation = opened(splits.validation) if splits.validation else None
    return ImageSet(train, validation, opened(splits.test or "test"), _class_names(train))


def _open_folder(root: Path, place: Place) -> ImageSet:
    if not root.is_dir():
        raise UsageError(f"{root}: there is no such folder")
    splits = place.splits
    train = _subfolder(root, splits.train, TRAIN_FOLDERS)
    validation = _subfolder(root, splits.validation, EVAL_FOLDERS)
    test = _subfolder(root, splits.test, TEST_FOLDERS)
    if train is None:
        if found := validation or test:
            raise UsageError(f"{root} has a folder {found.name}, but none called train")
        whole = _read(root, place)
        return ImageSet(whole, None, None, _class_names(whole))
    if test is None:
        # as ImageNet, whose test images have no public classes
        validation, test = None, validation
    images = _read(train, place)
    classes = images.reader.class_to_idx

    def same_classes(folder: Path | None) -> ReadImages | None:
        if folder is None:
            return None
        read = _read(folder, place)
        strange = sorted(set(read.reader.class_to_idx) - set(classes))
        if strange:
            raise UsageError(
                f"{folder} has classes that {train} has not: {', '.join(strange[:5])}; "
                "the right folders can be named with validation_split and test_split"
            )
        # timm numbers the classes of each folder by themselves
        same = read.reader.class_to_idx == classes
        return read if same else _read(folder, place, class_map=classes)

    return ImageSet(images, same_classes(validation), same_classes(test), _class_names(images))


def _subfolder(root: Path, asked: str | None, usual: tuple[str, ...]) -> Path | None:
    if asked and not (root / asked).is_dir():
        raise UsageError(f"{root} has no folder called {asked}")
    names = (asked,) if asked else usual
    return next((root / name for name in names if (root / name).is_dir()), None)


def _read(folder: Path, place: Place, **options: Any) -> ReadImages:
    dataset = create("", folder, place, "train", search_split=False, **options)
    return ReadImages(dataset.reader)


def _class_names(images: ReadImages) -> tuple[str, ...]:
    found: dict[str, int] = images.reader.class_to_idx
    if not found:
        return tuple(map(str, range(max(classes_of(images)) + 1)))
    return tuple(sorted(found, key=lambda name: found[name]))


def _rooted(name: str, place: Place) -> Path:
    if place.root is None:
        raise UsageError(f"{name}: say where it is with root (--data-dir)")
    return place.root


def create(name: str, root: Path | None, place: Place, split: str, **options: Any) -> Any:
    """Open one split, as timm or torchvision does.

    Raises:
        UsageError: they cannot; in a line that says what to do.
    """
    from timm.data.dataset_factory import create_dataset
    from torchvision.datasets import STL10

    arguments: dict[str, Any] = {**place.options, **options}
    arguments |= {"root": root and str(root), "split": split, "download": place.download}
    try:
        if name == "torch/stl10":
            return STL10(**arguments)
        return create_dataset(name, **arguments)
    except (AssertionError, ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        where = f" in {root}" if root else ""
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(
            f"{name or root}: cannot open the split {split}{where}: {reason} "
            "(root, --data-dir, is the folder that holds the set; "
            "download, --download, lets it be fetched)"
        ) from error
