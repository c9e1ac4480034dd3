"""Freed memory is kept where the C library can, and so a step faults no pages; or given back."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from fxtransport.allocators import GLIBC_SETTINGS, JEMALLOC_SETTINGS
from fxtransport.training.allocator import trim_memory

FAULTS = """
import resource, torch
from fxtransport.training import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        x = torch.ones(12 * 2**20)
        y = x + 1
        del x, y
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before = faults()
kept = keep_freed_memory()
faults()
print(kept, before, faults())
"""
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is told to glibc")
CHOSEN = (*GLIBC_SETTINGS, *JEMALLOC_SETTINGS)
PLAIN = {name: value for name, value in os.environ.items() if name not in CHOSEN}


def faults(**environment: str) -> tuple[bool, int, int]:
    """Whether memory is kept in a process of its own, and the page faults before and after."""
    found = subprocess.run(
        [sys.executable, "-c", FAULTS],
        capture_output=True,
        text=True,
        check=False,
        env=PLAIN | environment,
    )
    assert found.returncode == 0, found.stderr
    kept, before, after = found.stdout.split()
    return kept == "True", int(before), int(after)


def test_pages_are_not_taken_again() -> None:
    kept, before, after = faults()
    assert kept
    assert after < before / 10


def test_settings_of_ones_own_stay() -> None:
    kept, before, after = faults(MALLOC_MMAP_THRESHOLD_="65536")
    assert not kept
    assert after > before / 2


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks /proc what is resident")
def test_freed_memory_is_given_back() -> None:
    blocks = [bytes(60_000) for _ in range(1000)]
    # the last one keeps the C library from giving the others back by itself
    del blocks[:-1]
    before = resident()
    assert trim_memory()
    assert resident() < before - 40_000_000
    assert len(blocks) == 1
