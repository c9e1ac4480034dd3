"""jemalloc keeps freed memory, and gives it back, where a process allocates from it."""

import ctypes
import os
import subprocess
import sys
from typing import Any

import pytest

from fxtransport.allocators import GLIBC_SETTINGS, JEMALLOC_SETTINGS, jemalloc_library
from fxtransport.training.jemalloc import Jemalloc

ARENAS = 3
SETTINGS = """
import ctypes
from fxtransport.training.allocator import keep_freed_memory, trim_memory

control = ctypes.CDLL(None).mallctl

def read(name):
    found, size = ctypes.c_ssize_t(), ctypes.c_size_t(8)
    assert control(name, ctypes.byref(found), ctypes.byref(size), None, ctypes.c_size_t(0)) == 0
    return found.value

print(read(b"arena.0.dirty_decay_ms"), keep_freed_memory(), end=" ")
print(read(b"arena.0.dirty_decay_ms"), read(b"arenas.muzzy_decay_ms"), trim_memory())
"""


class Control:
    """Stands for ``mallctl``: the last arena holds nothing, so that it cannot be set."""

    def __init__(self) -> None:
        self.set: dict[str, int] = {}
        self.called: list[str] = []

    def __call__(self, name: bytes, old: Any, size: Any, new: Any, length: Any) -> int:
        text = name.decode()
        if text == "arenas.narenas":
            assert size._obj.value == ctypes.sizeof(ctypes.c_uint)
            old._obj.value = ARENAS
        elif new is None:
            self.called.append(text)
        elif text.startswith(f"arena.{ARENAS - 1}."):
            return 14
        else:
            assert length.value == ctypes.sizeof(ctypes.c_ssize_t)
            self.set[text] = new._obj.value
        return 0


def test_every_arena_keeps_what_is_freed() -> None:
    control = Control()
    assert Jemalloc(control).keep_freed_memory()
    where = ["arenas", *(f"arena.{i}" for i in range(ARENAS - 1))]
    assert control.set == {f"{w}.{k}_decay_ms": -1 for w in where for k in ("dirty", "muzzy")}


def test_every_arena_gives_it_back() -> None:
    control = Control()
    assert Jemalloc(control).trim_memory()
    assert control.called == ["arena.4096.purge"]


@pytest.mark.skipif(jemalloc_library() is None, reason="jemalloc is not installed")
@pytest.mark.parametrize("chosen", [False, True])
def test_the_real_one_does(chosen: bool) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in GLIBC_SETTINGS}
    environment = {k: v for k, v in environment.items() if k not in JEMALLOC_SETTINGS}
    environment["LD_PRELOAD"] = str(jemalloc_library())
    if chosen:
        environment["MALLOC_CONF"] = "dirty_decay_ms:5000,muzzy_decay_ms:0"
    command = [sys.executable, "-c", SETTINGS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    before = "5000" if chosen else "10000"
    after = ["False", "5000", "0"] if chosen else ["True", "-1", "-1"]
    assert done.stdout.split() == [before, *after, "True"]
