"""The device that a program trains on, its memory, and moving tensors there."""

import resource
import sys
from typing import Any

import torch
from torch import nn

from fxtransport.errors import UsageError
from fxtransport.program import Program
from fxtransport.training.settings import TrainerSettings


def program_device(program: Program) -> torch.device:
    """The device of a program's parameters.

    Raises:
        UsageError: they are on the meta device, or there are none.
    """
    found = next(program.parameters(), None)
    if found is None:
        raise UsageError("the program has no parameters: there is nothing to train")
    if found.is_meta:
        raise UsageError(
            "the program's parameters are on the meta device; build the model on another one"
        )
    return found.device


def move_to(batch: Any, device: torch.device, channels_last: bool = False) -> Any:
    """A tensor or a tuple of tensors, moved to a device.

    Args:
        batch: The tensors.
        device: Where to move them.
        channels_last: Whether images, B×C×H×W, get the channels-last memory format.
    """
    if isinstance(batch, tuple | list):
        return tuple(move_to(values, device, channels_last) for values in batch)
    if channels_last and batch.dim() == 4:
        return batch.to(device, non_blocking=True, memory_format=torch.channels_last)
    return batch.to(device, non_blocking=True)


def reset_peak_memory(device: torch.device) -> None:
    """Restart the measurement of peak memory on a CUDA device."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """The peak number of bytes: allocated on a CUDA device, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # kilobytes, on macOS bytes
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def move_program(program: Program, objective: nn.Module, settings: TrainerSettings) -> None:
    """Move a program and its objective to the device and memory format of the settings.

    Raises:
        UsageError: there is no such device.
    """
    try:
        if settings.device is not None:
            program.to(settings.device)
        if settings.channels_last:
            program.to(memory_format=torch.channels_last)
        objective.to(program_device(program))
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"the device {settings.device!r} cannot be used: {reason}") from error
