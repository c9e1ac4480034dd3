"""The global random number generators, seeds, and deterministic algorithms."""

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed the global generators of torch, on every device, NumPy and Python."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of the global generators: only tensors, numbers and strings."""
    algorithm, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (algorithm, np.asarray(keys).tolist(), *map(_to_python, rest)),
        "torch": torch.get_rng_state(),
        "device": None if device.type == "cpu" else _backend(device).get_rng_state(device),
    }


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Restore the generators to what :func:`random_state` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if device.type != "cpu" and state["device"] is not None:
        _backend(device).set_rng_state(state["device"], device)


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """While active, torch uses deterministic algorithms only, if ``wanted``."""
    if not wanted:
        yield
        return
    # cuBLAS reads it at its first use
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.benchmark = before[1]


def _backend(device: torch.device) -> Any:
    return torch.get_device_module(device)


def _to_python(number: Any) -> int | float:
    return float(number) if isinstance(number, float) else int(number)


def derived_seed(*numbers: int) -> int:
    """A 64-bit seed that depends on these numbers alone.

    >>> derived_seed(0, 1) == derived_seed(0, 1), derived_seed(0, 1) == derived_seed(1, 0)
    (True, False)
    """
    # not NumPy's SeedSequence, which does not tell (0,) from (0, 0)
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest())


@contextmanager
def fork_rng(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch's CPU, and restore them at the end."""
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # not torch.manual_seed, which seeds the accelerators too
    torch.default_generator.manual_seed(seed >> 1)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])
