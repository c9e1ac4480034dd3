"""Freed memory is kept where the C library can, and so a step faults no pages."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from fxtransport.training import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        x = torch.ones(3 * 2**20)
        y = x + 1
        del x, y
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
given_back = faults()
assert keep_freed_memory()
faults()
print(given_back, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is told to glibc")
def test_pages_are_not_taken_again() -> None:
    # in a process of its own, because it is for good
    found = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    given_back, kept = map(int, found.stdout.split())
    assert kept < given_back / 10
