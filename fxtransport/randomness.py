"""The global random generators, and determinism."""

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
    """The state of the global generators: tensors, numbers and texts only."""
    algorithm, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (algorithm, np.asarray(keys).tolist(), *map(_plain, rest)),
        "torch": torch.get_rng_state(),
        "device": None if device.type == "cpu" else _backend(device).get_rng_state(device),
    }


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Put the generators where :func:`random_state` found them."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if device.type != "cpu" and state["device"] is not None:
        _backend(device).set_rng_state(state["device"], device)


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """While active, torch uses deterministic algorithms only, if wanted."""
    if not wanted:
        yield
        return
    # read when cuBLAS is first used
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


def _plain(number: Any) -> int | float:
    return float(number) if isinstance(number, float) else int(number)


def derived_seed(*numbers: int) -> int:
    """A seed of 64 bits that is a function of these numbers alone.

    >>> derived_seed(0, 1) == derived_seed(0, 1), derived_seed(0, 1) == derived_seed(1, 0)
    (True, False)
    """
    # not NumPy's SeedSequence, to which (0,) and (0, 0) are the same
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest())


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch's CPU, and put them back after."""
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
