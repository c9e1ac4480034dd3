"""Folders of images with a folder for each class: what in them is an image, and what is not."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fxtransport.data.decode import extensions
from fxtransport.errors import UsageError

SYSTEM_FOLDERS = ("@eaDir", "__MACOSX", "__pycache__", "$RECYCLE.BIN", "lost+found")
"""Folders that programs make for themselves, beside those whose names begin with a dot."""
SHOWN = 3
"""How many names a note has."""


@dataclass(frozen=True)
class Content:
    """What is in a folder of images, by paths inside it.

    Attributes:
        loose: Images that are in no folder of a class.
        hidden: Folders and files that are hidden, with the images in them.
        unknown: Files that are not images by their names.
        empty: Folders in which there is nothing to train on.
        images: How many images there are in folders of classes.
    """

    loose: tuple[str, ...]
    hidden: tuple[str, ...]
    unknown: tuple[str, ...]
    empty: tuple[str, ...]
    images: int = 0

    def notes(self, folder: str) -> tuple[str, ...]:
        """What was left out, for people.

        Args:
            folder: What the folder is called.
        """
        said = (
            (self.hidden, "hidden name", "hidden names"),
            (self.unknown, "file of a kind that is not read", "files of kinds that are not read"),
            (self.empty, "folder without images", "folders without images"),
        )
        return tuple(
            _note(folder, names, one if len(names) == 1 else several)
            for names, one, several in said
            if names
        )


def look_into(folder: Path, types: tuple[str, ...] | None = None) -> Content:
    """What is in a folder of images. Nothing is read but names.

    Args:
        folder: The folder; links in it are followed.
        types: The endings of images' names; those of :func:`extensions` if None.
    """
    endings = types or extensions()
    loose, hidden, unknown, empty, count = [], [], [], [], 0
    for place, folders, files in os.walk(folder, followlinks=True):
        inside = Path(place).relative_to(folder)
        hidden += [str(inside / name) for name in (*folders, *files) if is_hidden(name)]
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        shown = [name for name in files if not is_hidden(name)]
        images = [name for name in shown if _ending(name) in endings]
        unknown += [str(inside / name) for name in shown if _ending(name) not in endings]
        if place == str(folder):
            loose = images
            continue
        count += len(images)
        if not images and not folders:
            empty.append(str(inside))
    return Content(_in_order(loose), _in_order(hidden), _in_order(unknown), _in_order(empty), count)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is not for people."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def is_shown(path: str, folder: Path) -> bool:
    """Whether neither a file nor a folder inside which it is, below ``folder``, is hidden."""
    return not any(map(is_hidden, Path(path).relative_to(folder).parts))


def refuse_loose(folder: Path, content: Content) -> None:
    """Raise a UsageError if images are in no folder of a class."""
    if content.loose:
        count = len(content.loose)
        are = "1 image is" if count == 1 else f"{count} images are"
        raise UsageError(
            f"{folder}: {are} in no folder of a class, such as "
            f"{content.loose[0]}: put each image into a folder that is called after its class"
        )


def _note(folder: str, names: tuple[str, ...], what: str) -> str:
    kinds = Counter(_ending(name) for name in names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    # one of each kind first: a thousand .txt must not hide the .heic
    first = {_ending(name): name for name in reversed(names)}
    shown = [first[kind] for kind, _ in kinds.most_common(SHOWN)]
    shown += [name for name in names if name not in shown][: SHOWN - len(shown)]
    return f"{folder}: {len(names)} {what} left out: {', '.join(shown)}{more}"


def _in_order(names: list[str]) -> tuple[str, ...]:
    return tuple(sorted(names))


def _ending(name: str) -> str:
    """The ending of a file's name, such as ``.png``, in lower case; empty if it has none."""
    return Path(name).suffix.lower()
