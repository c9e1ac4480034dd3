"""Sets of images on disk, opened by timm and torchvision, and the splits that they have."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from fxtransport.data.decode import extensions
from fxtransport.data.duplicates import refuse_one_split
from fxtransport.data.folders import is_hidden, is_shown, look_into, refuse_loose
from fxtransport.data.reader_images import ReaderImages
from fxtransport.data.torch_files import torch_files
from fxtransport.errors import UsageError, first_line

FOLDER_NAMES = ("folder", "imagefolder", "imagenet")
TEST_FOLDERS = ("test", "testing")
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
        origins: What the set calls the splits that it has, by their names.
        untested: Why no test split is held out although there is none; empty if one is.
        notes: What was left out of it, for people.
        published: Whether all figures of the set that others publish are of these splits, so that
            what is in two of them is counted, and not refused.
    """

    train: Images
    validation: Images | None
    test: Images | None
    class_names: tuple[str, ...]
    size: tuple[int, int, int] | None = None
    origins: Mapping[str, str] = field(default_factory=lambda: {"train": "the set"})
    untested: str = ""
    notes: tuple[str, ...] = ()
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


SETS = ("digits", "mnist5k", "patches", "circles", "moons")
"""The sets that libraries bring."""
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
    # a folder that has moved is where root says
    mistyped = name.startswith("torch/") or f"torch/{name}" in TORCH_SETS
    if location.root is not None and not mistyped:
        return _open_folder(location.root, location)
    if Path(name).is_dir():
        return _open_folder(Path(name), location)
    raise UsageError(
        f"'{name}' is neither a set nor a folder{_meant(name)}: give digits, mnist5k, patches, "
        f"circles, moons, a folder of images, {', '.join(TORCH_SETS)}, wds/NAME or hfds/NAME; if "
        "a folder has moved, root=FOLDER"
    )


def _meant(name: str) -> str:
    """What was meant by a name that is neither of a set nor of a folder, in words."""
    path = Path(name)
    if path.is_file():
        return ", but a file (unpack an archive, and name the folder that its images are in)"
    if f"torch/{name}" in TORCH_SETS:
        return f" (torch/{name} is torchvision's)"
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    folders = [str(each) for each in beside if each.is_dir() and not is_hidden(each.name)]
    close = difflib.get_close_matches(name, [*TORCH_SETS, *SETS, *folders], n=2, cutoff=0.75)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def refuse_split_names(name: str, location: Location) -> None:
    """Raise a UsageError if splits are named although those of the set are fixed."""
    if location.splits != SplitNames():
        raise UsageError(
            f"{name} has fixed splits: train_split, validation_split and test_split do not apply"
        )


def classes_of(images: Images) -> list[int]:
    """The class of every image; images are opened only where nothing else tells."""
    if isinstance(images, ReaderImages):
        return list(images.classes)
    known = getattr(images, "targets", None)
    if known is None:
        known = getattr(images, "labels", None)
    if known is None:
        known = (images[i][1] for i in range(len(images)))
    return [int(c) for c in known]


def _open_torch(name: str, location: Location) -> ImageSet:
    root, asked = _require_root(name, location), TORCH_SETS[name].test
    made = create_split(name, root, location, "train")
    train = _own_decoding(made, root)
    test = _own_decoding(create_split(name, root, location, asked), root)
    names = getattr(made, "classes", None) or range(max(classes_of(train)) + 1)
    # ImageNet has several names for each class
    one_each = (", ".join(n) if isinstance(n, tuple) else str(n) for n in names)
    origins = {"train": "the set's train", "test": f"the set's {asked}"}
    size = TORCH_SETS[name].size
    return ImageSet(train, None, test, tuple(one_each), size, origins, published=True)


def _own_decoding(dataset: Any, root: Path) -> Images:
    """A split of torchvision, of which images in files are decoded as others are."""
    files = torch_files(dataset, root)
    held: Images = dataset
    return held if files is None else ReaderImages(files, by_content=False)


def _open_hfds(name: str, location: Location) -> ImageSet:
    if not location.download:
        raise UsageError(f"{name} is downloaded from its hub: allow it with download=True")
    splits = location.splits

    named = (splits.train or "train", splits.validation, splits.test or "test")
    refuse_one_split(dict(zip(("train", "validation", "test"), named, strict=True)))

    def open_split(split: str) -> ReaderImages:
        return ReaderImages(create_split(name, location.root, location, split).reader)

    train, test = open_split(named[0]), open_split(named[2])
    validation = open_split(splits.validation) if splits.validation else None
    origins = zip(("train", "validation", "test"), named, strict=True)
    return ImageSet(
        train,
        validation,
        test,
        _class_names(train),
        origins={split: f"the set's {name}" for split, name in origins if name},
    )


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
        whole, notes = _read_folder(root, location)
        origins = {"train": "the folder"}
        return ImageSet(whole, None, None, _class_names(whole), origins=origins, notes=notes)
    if validation == test:
        # one of the two was named, and is the usual name of the other
        validation = validation if splits.test is None else None
        test = test if splits.validation is None else None
    named = {"train": train, "validation": validation, "test": test}
    refuse_one_split(named)
    train_images, notes = _read_folder(train, location)
    classes = train_images.reader.class_to_idx

    def read_split(folder: Path | None) -> ReaderImages | None:
        nonlocal notes
        if folder is None:
            return None
        images, more = _read_folder(folder, location)
        notes += more
        unknown = sorted(set(images.reader.class_to_idx) - set(classes))
        if unknown:
            raise UsageError(
                f"{folder} has classes that {train} does not have: {', '.join(unknown[:5])}; "
                "name other folders with validation_split and test_split"
            )
        # timm numbers the classes of each folder separately
        if images.reader.class_to_idx == classes:
            return images
        return _read_folder(folder, location, class_map=classes)[0]

    opened = read_split(validation), read_split(test)
    untested = ""
    if validation is not None and test is None:
        untested = f"because the folder has {validation.name} and no test; test_split names one"
    return ImageSet(
        train_images,
        *opened,
        _class_names(train_images),
        origins={split: f"the folder {each.name}" for split, each in named.items() if each},
        untested=untested,
        notes=notes,
    )


def _subfolder(root: Path, asked: str | None, usual: tuple[str, ...]) -> Path | None:
    if asked and not (root / asked).is_dir():
        raise UsageError(f"{root} has no folder called {asked}")
    names = (asked,) if asked else usual
    return next((root / name for name in names if (root / name).is_dir()), None)


def _read_folder(
    folder: Path, location: Location, **options: Any
) -> tuple[ReaderImages, tuple[str, ...]]:
    """The images in a folder, and what in it is none.

    timm reads three kinds of files, and hidden folders as classes.
    """
    types = str(location.options.get("input_key") or ";".join(extensions()))
    content = look_into(folder, tuple(types.split(";")))
    if "class_map" not in location.options:
        refuse_loose(folder, content)
    if not (content.images or content.loose or content.hidden):
        raise UsageError(
            f"{folder} holds no images in folders of classes: files are read whose names end in "
            f"{types.replace(';', ', ')}"
        )
    options = {"input_key": types, **options}
    dataset = create_split("", folder, location, "train", search_split=False, **options)
    _forget_hidden(
        dataset.reader, folder, renumber="class_map" not in {*options, *location.options}
    )
    return ReaderImages(dataset.reader), content.notes(folder.name)


def _forget_hidden(reader: Any, folder: Path, *, renumber: bool) -> None:
    """Leave hidden images out of what a reader of folders has found."""
    shown = [(path, place) for path, place in reader.samples if is_shown(path, folder)]
    if not shown:
        raise UsageError(f"{folder} holds no images but hidden ones")
    if renumber:
        left = sorted({place for _, place in shown})
        numbers = {place: number for number, place in enumerate(left)}
        shown = [(path, numbers[place]) for path, place in shown]
        names = reader.class_to_idx.items()
        reader.class_to_idx = {name: numbers[place] for name, place in names if place in numbers}
    reader.samples = shown


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
        hint = "root is the folder that holds the set; download=True downloads it"
        if isinstance(error, TypeError):
            hint = "further options of the set are arguments of timm.data.create_dataset"
        raise UsageError(
            f"{name or root}: cannot open the split {split}{where}: {first_line(error)} ({hint})"
        ) from error
