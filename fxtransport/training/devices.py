"""Where tensors are, and how they get there."""

import resource
import sys
from typing import Any

import torch
from torch import nn

from fxtransport.errors import UsageError
from fxtransport.program import Program
from fxtransport.training.settings import TrainerSettings


def device_of(program: Program) -> torch.device:
    """Where a program's parameters are.

    Raises:
        UsageError: they have no numbers, or there are none.
    """
    found = next(program.parameters(), None)
    if found is None or found.is_meta:
        raise UsageError("the program has no parameters with numbers: there is nothing to train")
    return found.device


def moved(batch: Any, device: torch.device, channels_last: bool = False) -> Any:
    """A tensor or a tuple of tensors, on a device.

    Args:
        batch: What to move.
        device: Where to.
        channels_last: Lay images, B×C×H×W, out with their channels last.
    """
    if isinstance(batch, tuple | list):
        return tuple(moved(values, device, channels_last) for values in batch)
    if channels_last and batch.dim() == 4:
        return batch.to(device, non_blocking=True, memory_format=torch.channels_last)
    return batch.to(device, non_blocking=True)


def reset_peak_memory(device: torch.device) -> None:
    """Begin to measure anew, on a CUDA device."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """The most bytes that were in use: allocated on a CUDA device, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # kilobytes, on macOS bytes
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def place(program: Program, objective: nn.Module, settings: TrainerSettings) -> None:
    """Move what trains to where it trains, and lay its weights out as wanted.

    Raises:
        UsageError: there is no such device.
    """
    try:
        if settings.device is not None:
            program.to(settings.device)
        if settings.channels_last:
            program.to(memory_format=torch.channels_last)
        objective.to(device_of(program))
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"the device {settings.device!r} cannot be used: {reason}") from error
