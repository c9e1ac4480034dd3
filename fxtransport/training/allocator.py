"""Let the memory allocator keep what one training step frees for the next one."""

import ctypes
import platform

from fxtransport.allocators import GLIBC_SETTINGS, JEMALLOC_SETTINGS, is_chosen
from fxtransport.training.jemalloc import find_jemalloc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = -1
_LARGEST_TENSOR = 2**30
"""Bytes. Larger blocks are given back, so that the heap does not get holes of that size."""


def keep_freed_memory() -> bool:
    """Make the allocator keep freed memory: in the whole process, from now on.

    A step on the CPU frees what it has allocated. glibc gives large blocks back to the system
    and takes them again in the next step, page by page: 10 % of the time of a ResNet-110 on
    32×32, and 46 % on 96×96 (``benchmarks/training_cost.py``). But what glibc keeps gets holes
    that it cannot use again. jemalloc's has few: start Python with it, by
    ``LD_PRELOAD=libjemalloc.so.2``, to be as fast with less memory (``benchmarks/memory.py
    --device cpu``).

    ``fxtransport train`` does both on a CPU; a loop of your own may. On a GPU it makes no
    difference.

    Returns:
        Whether memory is kept: with jemalloc or glibc, unless the environment says otherwise, by
        their own variables or, for glibc, by loading another allocator.
    """
    jemalloc = find_jemalloc()
    if jemalloc is not None:
        return not is_chosen(JEMALLOC_SETTINGS) and jemalloc.keep_freed_memory()
    if platform.libc_ver()[0] != "glibc" or is_chosen(GLIBC_SETTINGS):
        return False
    libc = ctypes.CDLL(None)
    kept = libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    return bool(kept and libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_TENSOR))


def trim_memory() -> bool:
    """Give freed memory back to the system that the allocator keeps, once.

    What compiling a program or training a part has freed is then not counted as memory of the
    part that trains next. :meth:`Trainer.fit` calls this on a CPU before each phase.

    Returns:
        Whether memory was given back: only by jemalloc or glibc.
    """
    jemalloc = find_jemalloc()
    if jemalloc is not None:
        return jemalloc.trim_memory()
    return platform.libc_ver()[0] == "glibc" and bool(ctypes.CDLL(None).malloc_trim(0))
