"""One process at a time trains in a folder."""

import errno
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fxtransport.errors import CheckpointError

if sys.platform != "win32":
    import fcntl

_HELD: dict[tuple[int, int], int] = {}
"""The descriptors of the folders that this process has locked, by device and inode."""
_BUSY = (errno.EAGAIN, errno.EACCES)


class LockWarning(UserWarning):
    """A folder is on a file system without locks."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A context in which no other process is in one for the same folder.

    The folder itself is locked, so there is no file to be left over: the lock ends with the
    process, however it ends. Contexts of one process may be inside each other.

    Args:
        folder: The folder; it is made if it does not exist.

    Raises:
        CheckpointError: another process is in such a context, or there can be no such folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise CheckpointError(f"cannot write into {folder}: {error.strerror}") from error
    key = found.st_dev, found.st_ino
    if key in _HELD:
        yield
        return
    descriptor = _lock(folder)
    _HELD[key] = descriptor
    try:
        yield
    finally:
        if _HELD.pop(key, None) is not None:
            os.close(descriptor)


def _lock(folder: Path) -> int:
    """A descriptor of a folder, which is locked until it is closed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            os.close(descriptor)
            raise CheckpointError(
                f"another process trains in {folder}: wait for its end, or train in another folder"
            ) from error
        message = f"{folder} cannot be locked: {error.strerror}; let one process train in it"
        warnings.warn(LockWarning(message), stacklevel=4)
    return descriptor


def _forget() -> None:
    """In a child process, such as one that prepares batches: the lock is the parent's."""
    for descriptor in _HELD.values():
        os.close(descriptor)
    _HELD.clear()


os.register_at_fork(after_in_child=_forget)
