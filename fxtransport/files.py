"""Files that are complete or absent: atomic writes, hashes, JSON that may be damaged.

What is read or written here is a file: a link, a pipe, a device or a folder in its place is an
``OSError`` that says so, and nothing is written through a link.

The errors of :func:`read_json` and :func:`check_writable` are the caller's own, since each kind
of file has its own words: ``error`` is the class to raise, which is given one line.
"""

import errno
import hashlib
import io
import json
import os
import secrets
import stat
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

TEXT_LIMIT = 64 * 2**20
"""The most bytes that are read of a file of text. Those that are written here are far smaller."""

_BESIDE = ".new"
_LENGTH, _METADATA = 8, "__metadata__"
"""Of safetensors: the bytes that give the length of the header, and what of it is no tensor."""
_NOT_FILES = {
    stat.S_ISLNK: "a link",
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def library_versions() -> dict[str, str]:
    """The installed version of each of :data:`LIBRARIES`."""
    return {name: version(name) for name in LIBRARIES}


def check_file(path: Path) -> os.stat_result:
    """What the system says of a file.

    Raises:
        OSError: there is none, or a link, a pipe, a device or a folder is in its place.
    """
    about = path.lstat()
    if stat.S_ISREG(about.st_mode):
        return about
    kind = next((k for test, k in _NOT_FILES.items() if test(about.st_mode)), "something else")
    raise OSError(errno.EINVAL, f"{kind} is in the place of {path.name}")


def check_place(path: Path) -> None:
    """See that a file may be written at a path: nothing is there, or a file.

    Raises:
        OSError: a link, a pipe, a device or a folder is there.
    """
    with suppress(FileNotFoundError):
        check_file(path)


@contextmanager
def open_file(path: Path, *, follow: bool = False) -> Iterator[io.BufferedReader]:
    """A file that is open for reading.

    Args:
        path: Where.
        follow: Whether it may be a link to a file.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    check_file(path.resolve() if follow else path)
    # so that what has taken the file's place since is not waited for
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
        yield file


def read_text(path: Path, *, limit: int = TEXT_LIMIT, follow: bool = False) -> str:
    """The text of a small file.

    Args:
        path: Where.
        limit: The most bytes that it may have.
        follow: Whether it may be a link to a file.

    Raises:
        OSError: it cannot be read, is no file, or is too large.
        UnicodeDecodeError: it is not UTF-8.
    """
    with open_file(path, follow=follow) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"the file has more than {limit} bytes")
    return content.decode("utf-8")


def append_text(path: Path, text: str) -> None:
    """Add text to the end of a file, which is made if it does not exist.

    Raises:
        OSError: it cannot be written, or is no file.
    """
    check_place(path)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o666)
    with open(descriptor, "a", encoding="utf-8", newline="") as file:  # noqa: PTH123
        file.write(text)


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_tensors(path: Path) -> None:
    """See that a safetensors file has the size that its header says, before more of it is read.

    Raises:
        OSError: it cannot be read, or is no file.
        ValueError: it has another size, or no such header.
    """
    with open_file(path) as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if length > TEXT_LIMIT:
            raise ValueError(f"its header has {length} bytes")
        header = json.loads(file.read(length))
        size = os.fstat(file.fileno()).st_size
    try:
        ends = [each["data_offsets"][1] for name, each in header.items() if name != _METADATA]
        expected = _LENGTH + length + max(ends, default=0)
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError("its header is not one of safetensors") from error
    if size != expected:
        raise ValueError(f"it has {size} bytes, and its header says {expected}")


def has_content(path: Path, size: int, sha256: str) -> bool:
    """Whether a file has a size and a hash. One of another size is not read.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    return check_file(path).st_size == size and file_hash(path) == sha256


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
    try:
        found = json.loads(read_text(path))
    except (FileNotFoundError, NotADirectoryError) as cause:
        raise error(f"{path.parent} does not hold a {kind}: it has no {path.name}") from cause
    except OSError as cause:
        raise error(f"cannot read {path}: {cause.strerror}") from cause
    except (ValueError, RecursionError) as cause:
        raise error(f"{path} is damaged: {cause}") from cause
    if not isinstance(found, dict) or "format" not in found:
        raise error(f"{path} does not describe a {kind} of fxtransport")
    if found["format"] not in (formats, *also) or type(found["format"]) is not int:
        is_older = isinstance(found["format"], int) and found["format"] < formats
        advice = f": {older}" if older and is_older else ""
        raise error(
            f"{path} has format {found['format']!r:.40}; this version reads {formats}{advice}"
        )
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
def path_beside(target: Path, prefix: str = "") -> Iterator[Path]:
    """A new file beside another, to write; what :func:`put` has not moved is deleted at the end.

    Args:
        target: The other file, which need not exist.
        prefix: What the name of the new file begins with, after a dot.

    Raises:
        OSError: the folder or the file cannot be made, or the other one is no file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    check_place(target)
    beside = target.with_name(f".{prefix}{secrets.token_hex(8)}{_BESIDE}")
    os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
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
    check_place(target)
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
