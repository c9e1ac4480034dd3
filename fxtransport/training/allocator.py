"""Let the C library keep what one training step frees for the next one."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""Bytes; glibc takes no larger one, and maps what is larger anew each time."""


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory, for the whole process and from now on.

    A step on the CPU frees what it has allocated. glibc gives large blocks back to the system
    and takes them again in the next step, page by page, which costs a few per cent of the
    time. It needs no more memory to keep them, because each step needs as much as the last.
    ``fxtransport train`` calls this; a loop of your own may. On a GPU it changes nothing.

    Returns:
        Whether the C library can be told so: glibc can.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    kept = libc.mallopt(_M_TRIM_THRESHOLD, -1)
    return bool(kept and libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD))
