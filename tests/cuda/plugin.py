"""A plugin of pytest: while a test runs, the CPU computes what a CUDA device would."""

from collections.abc import Iterator

import pytest
import torch

from tests.cuda.emulation import EmulatedCuda


@pytest.fixture(autouse=True)
def emulated_cuda() -> Iterator[EmulatedCuda]:
    """The mode that is active."""
    torch.cuda.reset_peak_memory_stats()
    with EmulatedCuda() as mode:
        yield mode
