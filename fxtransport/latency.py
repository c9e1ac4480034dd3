"""How long calls take, side by side: in turns, so that what slows the machine slows all alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

LEAST = 5
"""The least number of turns."""


@dataclass(frozen=True)
class Latency:
    """The seconds of one call.

    Attributes:
        median: The median of all turns.
        least: The quickest.
        turns: How many there were.
    """

    median: float
    least: float
    turns: int


def time_in_turns(
    calls: Mapping[str, Callable[[], object]],
    device: torch.device | str = "cpu",
    *,
    seconds: float = 1.0,
    warmup: int = 2,
) -> dict[str, Latency]:
    """Time calls, each once in a turn.

    Args:
        calls: What is called, by name.
        device: Is waited for before and after each call.
        seconds: How long all turns take together, about; at least :data:`LEAST` are made.
        warmup: Turns before that, which are not counted.

    >>> found = time_in_turns({"sum": lambda: sum(range(100))}, seconds=0.01)
    >>> found["sum"].turns >= 5, found["sum"].least <= found["sum"].median
    (True, True)
    """
    place = torch.device(device)
    for _ in range(warmup):
        for call in calls.values():
            call()
    found: dict[str, list[float]] = {name: [] for name in calls}
    began, turns = time.perf_counter(), 0
    while turns < LEAST or time.perf_counter() - began < seconds:
        for name, call in calls.items():
            _wait(place)
            started = time.perf_counter()
            call()
            _wait(place)
            found[name].append(time.perf_counter() - started)
        turns += 1
    return {
        name: Latency(statistics.median(times), min(times), turns) for name, times in found.items()
    }


def _wait(device: torch.device) -> None:
    if device.type not in ("cpu", "meta"):
        torch.accelerator.synchronize(device)
