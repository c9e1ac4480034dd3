"""What the benchmarks share: repeated timing, the machine and versions, JSON results."""

import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def seconds(run: Callable[[], object]) -> float:
    """The time that a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def spread(values: list[float]) -> str:
    """Median and range: ``1.17 (1.12-1.24)``."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


def setting(device: str) -> dict[str, Any]:
    """What a figure depends on, apart from the code."""
    names = ("fxtransport", "torch", "torchvision", "timm")
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
    }


def write(name: str, device: str, results: dict[str, Any]) -> Path:
    """Write results as JSON under ``benchmarks/results/``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.{device}.json"
    path.write_text(json.dumps({"setting": setting(device), **results}, indent=2) + "\n")
    return path


def merge(name: str, device: str, results: dict[str, Any]) -> Path:
    """Write results, and keep those that the file has under other keys."""
    path = RESULTS / f"{name}.{device}.json"
    before = json.loads(path.read_text())["results"] if path.exists() else {}
    return write(name, device, {"results": before | results})
