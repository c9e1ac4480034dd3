"""The memory allocator jemalloc, where it runs in the place of the C library's own."""

import ctypes
from collections.abc import Callable

_ALL_ARENAS = 4096
"""Stands for every arena in the name of a call."""
_NEVER = -1
_KINDS = ("dirty", "muzzy")
"""Pages that are free: as they were left, and such as the system may take."""


class Jemalloc:
    """The jemalloc of this process.

    Args:
        control: Its function ``mallctl``, which reads, sets and calls what has a name.
    """

    def __init__(self, control: Callable[..., int]) -> None:
        self._control = control

    def keep_freed_memory(self) -> bool:
        """Never give memory back that is free. Returns whether that is set.

        Each arena has a setting of its own: the one of large blocks gives them back at once. An
        arena that holds nothing takes the common setting.
        """
        is_set = [self._never(f"arenas.{kind}_decay_ms") for kind in _KINDS]
        for arena in range(self._arenas()):
            for kind in _KINDS:
                self._never(f"arena.{arena}.{kind}_decay_ms")
        return all(is_set)

    def trim_memory(self) -> bool:
        """Give memory back that is free, once. Returns whether it was."""
        name = f"arena.{_ALL_ARENAS}.purge".encode()
        return self._control(name, None, None, None, ctypes.c_size_t(0)) == 0

    def _arenas(self) -> int:
        found = ctypes.c_uint()
        size = ctypes.c_size_t(ctypes.sizeof(found))
        given = (ctypes.byref(found), ctypes.byref(size), None, ctypes.c_size_t(0))
        return found.value if self._control(b"arenas.narenas", *given) == 0 else 0

    def _never(self, name: str) -> bool:
        time = ctypes.c_ssize_t(_NEVER)
        given = (None, None, ctypes.byref(time), ctypes.c_size_t(ctypes.sizeof(time)))
        return self._control(name.encode(), *given) == 0


def find_jemalloc() -> Jemalloc | None:
    """The jemalloc that this process allocates from, if it does."""
    control: Callable[..., int] | None = getattr(ctypes.CDLL(None), "mallctl", None)
    return None if control is None else Jemalloc(control)
