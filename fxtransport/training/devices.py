"""The device that a program trains on, its memory, and moving tensors there."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fxtransport.errors import UsageError
from fxtransport.program import Part, Program
from fxtransport.training.settings import TrainerSettings

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_CLEAR_PEAK = "5"
"""Sets the high-water mark of the resident memory back to what is resident (man 5 proc)."""

Visit = Callable[[Part], AbstractContextManager[None]]
"""A context in which a part can run."""


def in_place(_: Part) -> AbstractContextManager[None]:
    """A part that is on the device can run as it is."""
    return nullcontext()


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
    """Restart the measurement of peak memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _restarts():
        _CLEAR.write_text(_CLEAR_PEAK)


def peak_memory(device: torch.device) -> int | None:
    """The peak number of bytes since the last :func:`reset_peak_memory`.

    On a CUDA device, of what was allocated. Elsewhere, of what was resident of the process,
    the interpreter and its libraries included; None where the system does not let this
    measurement restart, as outside of Linux.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not _restarts():
        return None
    # not getrusage, which also counts what ran before this program in the same process
    [line] = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


@functools.cache
def _restarts() -> bool:
    """Whether the peak of the resident memory can be set back."""
    try:
        _CLEAR.write_text(_CLEAR_PEAK)
    except OSError:
        return False
    return True


def move_program(
    program: Program, objective: nn.Module, settings: TrainerSettings, *, offload: bool = False
) -> torch.device:
    """Move a program and its objective to the device and memory format of the settings.

    Args:
        program: The program.
        objective: The objective.
        settings: They name the device.
        offload: Leave the program where it is: its parts are moved one by one.

    Returns:
        The device.

    Raises:
        UsageError: there is no such device.
    """
    try:
        device = program_device(program)
        if settings.device is not None:
            device = torch.empty(0, device=settings.device).device
            if device.type == "meta":
                raise UsageError("the device 'meta' cannot be used: tensors there have no values")
            if not offload:
                program.to(device)
        if settings.channels_last:
            program.to(memory_format=torch.channels_last)
        objective.to(device)
        return device
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"the device {settings.device!r} cannot be used: {reason}") from error
