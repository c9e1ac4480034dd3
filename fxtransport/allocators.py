"""Which memory allocator a process has is chosen when it starts, by its environment.

Nothing here imports torch: a process that is to start again does so before that.
"""

import ctypes.util
import os
import sys
from pathlib import Path

GLIBC_SETTINGS = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
)
"""Environment variables by which users choose how glibc allocates memory, or another allocator."""
JEMALLOC_SETTINGS = ("MALLOC_CONF",)
"""The same, of jemalloc."""
_LIBRARY = "libjemalloc.so.2"


def is_chosen(names: tuple[str, ...]) -> bool:
    """Whether one of these variables is set."""
    return any(name in os.environ for name in names)


def jemalloc_library() -> str | None:
    """What to load for jemalloc: the library of Python's own environment, or the system's."""
    own = Path(sys.prefix) / "lib" / _LIBRARY
    return str(own) if own.is_file() else ctypes.util.find_library("jemalloc")
