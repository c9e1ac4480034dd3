"""Files that are complete or absent: atomic writes, hashes, JSON that may be damaged.

The errors are the caller's own, since each kind of file has its own words: ``error`` is the
class to raise, which is given one line.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

Error = Callable[[str], Exception]
"""The class of an error, which is raised with one line of text."""

LIBRARIES = ("fxtransport", "torch", "torchvision", "timm")
"""The libraries on whose versions a saved file depends."""

_BESIDE = ".new"


def library_versions() -> dict[str, str]:
    """The installed version of each of :data:`LIBRARIES`."""
    return {name: version(name) for name in LIBRARIES}


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(
    path: Path,
    kind: str,
    formats: int,
    error: Error,
    *,
    older: str = "",
    also: tuple[int, ...] = (),
) -> dict[str, Any]:
    """The object in a JSON file of ours, which says its ``format``.

    Args:
        path: The file.
        kind: What its folder would hold: ``program``, ``checkpoint``.
        formats: The format that this version reads.
        error: Raised where there is no such file, or it is damaged or describes something else.
        older: What to do about a file of an older format.
        also: Older formats that this version reads as well.
    """
    if not path.is_file():
        raise error(f"{path.parent} does not hold a {kind}: it has no {path.name}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        raise error(f"{path} is damaged: {cause}") from cause
    if not isinstance(found, dict) or "format" not in found:
        raise error(f"{path} does not describe a {kind} of fxtransport")
    if found["format"] not in (formats, *also):
        is_older = isinstance(found["format"], int) and found["format"] < formats
        advice = f": {older}" if older and is_older else ""
        raise error(f"{path} has format {found['format']!r}; this version reads {formats}{advice}")
    return found


def check_writable(folder: str | os.PathLike[str], error: Error) -> None:
    """Check that a folder exists or can be made, and that files can be written in it.

    Args:
        folder: Which.
        error: Raised where it cannot.
    """
    there = Path(folder).absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as cause:
        raise error(f"cannot write into {folder}: {cause.strerror}") from cause


@contextmanager
def path_beside(target: Path) -> Iterator[Path]:
    """A path beside a file, to write at; what :func:`put` has not moved is deleted at the end.

    Raises:
        OSError: the folder cannot be made.
    """
    beside = target.with_name(target.name + _BESIDE)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield beside
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def put(beside: Path, target: Path) -> None:
    """Flush a file to the disk and rename it, which replaces a file of that name atomically.

    Raises:
        OSError: it cannot be done; a file of that name is unchanged.
    """
    # safetensors makes files for their owner alone
    beside.chmod(0o666 & ~_umask())
    _flush(beside)
    beside.replace(target)
    _flush(target.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    """Have the system write a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
