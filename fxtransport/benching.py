"""How fast a model, its program and its parts are, and what a step takes in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fxtransport.errors import UsageError
from fxtransport.latency import time_in_turns
from fxtransport.objectives import plain as cross_entropy
from fxtransport.objectives.objective import logits_of
from fxtransport.peaks import MemoryLog
from fxtransport.program import Program
from fxtransport.training import (
    EndToEnd,
    OptimizerSettings,
    Parallel,
    Trainer,
    TrainerSettings,
)
from fxtransport.training.compiling import own_code
from fxtransport.training.devices import peak_memory, reset_peak_memory

PLAIN, PROGRAM, PARTS = "model", "program", "parts"
LR, MOMENTUM = 1e-3, 0.9
"""Of the optimizer, SGD with momentum."""


@dataclass(frozen=True)
class Figures:
    """What was measured of one of the three.

    Attributes:
        what: ``model``, the plain model; ``program``, the same function as one part; ``parts``,
            cut into parts with heads, which train in parallel.
        compiled: The backend of ``torch.compile``; None where it runs eagerly.
        latency: Seconds of a forward of one sample in eval mode, without gradients; the median.
        throughput: Samples a second of such forwards of whole batches.
        step: Seconds of a training step of a batch, the median.
        peak_bytes: The most that a step holds: on a CUDA device what is allocated, on the CPU all
            tensors, weights and the optimizer's among them. None where compiled code runs on the
            CPU, which does not tell.
    """

    what: str
    compiled: str | None
    latency: float
    throughput: float
    step: float
    peak_bytes: int | None


@dataclass(frozen=True, eq=False)
class Subject:
    """What is measured.

    Attributes:
        name: The model's, or the run's.
        model: The plain model.
        program: Compiled from another copy of it.
        shape: Of one input.
    """

    name: str
    model: nn.Module
    program: Program
    shape: tuple[int, ...]


def bench(
    subject: Subject,
    *,
    batch_size: int = 32,
    device: str = "cpu",
    compiled: str | None = None,
    seconds: float = 2.0,
) -> tuple[Figures, ...]:
    """Measure a model, its program and its parts: forwards, training steps and memory.

    Steps minimize the cross-entropy of noise by SGD with momentum; the parts have their heads and
    train in parallel. What is compared runs in turns. The subject's weights change.

    Args:
        subject: What is measured.
        batch_size: How many samples a batch has.
        device: Where it runs.
        compiled: A backend of ``torch.compile``, with which all three are measured once more.
        seconds: How long the turns of one kind take together, about.

    Raises:
        UsageError: there is no such device, or a number is out of range.
    """
    if batch_size < 2:
        # batch norm in train mode
        raise UsageError(f"batch_size is 2 or more, as training needs, not {batch_size}")
    try:
        place = torch.empty(0, device=device).device
        subject.model.to(place)
        subject.program.to(place)
    except (AssertionError, RuntimeError) as error:
        raise UsageError(f"the device {device!r} cannot be used: {error}".splitlines()[0]) from None
    found = [_measure(subject, None, batch_size, place, seconds)]
    if compiled is not None:
        found.append(_measure(subject, compiled, batch_size, place, seconds))
    return tuple(figures for several in found for figures in several)


def _measure(
    subject: Subject, backend: str | None, batch_size: int, device: torch.device, seconds: float
) -> list[Figures]:
    forwards = _forwards(subject, backend)
    subject.model.eval()
    subject.program.eval()
    times = []
    for count in (1, batch_size):
        images = torch.randn(count, *subject.shape, device=device)
        with torch.no_grad():
            calls = {name: _bound(forward, images) for name, forward in forwards.items()}
            times.append(time_in_turns(calls, device, seconds=seconds / 2))
    subject.model.train()
    subject.program.train()
    images = torch.randn(batch_size, *subject.shape, device=device)
    targets = torch.zeros(batch_size, dtype=torch.int64, device=device)
    steps = {name: _bound(step, images, targets) for name, step in _steps(subject, backend).items()}
    peaks = {name: _peak(step, subject, name, device, backend) for name, step in steps.items()}
    stepped = time_in_turns(steps, device, seconds=seconds)
    return [
        Figures(
            what=name,
            compiled=backend,
            latency=times[0][name].median,
            throughput=batch_size / times[1][name].median,
            step=stepped[name].median,
            peak_bytes=peaks[name],
        )
        for name in forwards
    ]


def _bound(function: Callable[..., Any], *arguments: Tensor) -> Callable[[], Any]:
    return lambda: function(*arguments)


def _forwards(subject: Subject, backend: str | None) -> dict[str, Callable[[Tensor], Any]]:
    parts: tuple[Any, ...] = subject.program.parts
    model: Callable[..., Any] = subject.model
    program: Callable[..., Any] = subject.program
    if backend is not None:
        parts = tuple(_compiled(part, f"part_{part.index}", backend) for part in parts)
        model, program = _compiled(model, PLAIN, backend), _compiled(program, PROGRAM, backend)

    def chained(images: Tensor) -> Any:
        hidden: Any = images
        for part in parts:
            hidden = part(hidden, measure=None).hidden
        return hidden

    return {PLAIN: model, PROGRAM: program, PARTS: chained}


def _compiled(function: Callable[..., Any], name: str, backend: str) -> Callable[..., Any]:
    """A function compiled for each size of batches on its own, as if there were no other."""
    return torch.compile(own_code(function, name), backend=backend, dynamic=False)


def _steps(subject: Subject, backend: str | None) -> dict[str, Callable[[Tensor, Tensor], Any]]:
    model: Callable[..., Any] = subject.model
    if backend is not None:
        model = _compiled(model, f"{PLAIN}_in_training", backend)
    optimizer = torch.optim.SGD(subject.model.parameters(), lr=LR, momentum=MOMENTUM)

    def plain(images: Tensor, targets: Tensor) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits_of(model(images)), targets).backward()
        optimizer.step()

    device = str(next(subject.program.parameters()).device)
    whole, parts = (
        Trainer(
            subject.program,
            cross_entropy(),
            schedule,
            optimizer=OptimizerSettings(lr=LR, momentum=MOMENTUM),
            settings=TrainerSettings(device=device, compile=backend),
        )
        for schedule in (EndToEnd(1), Parallel(1))
    )
    return {PLAIN: plain, PROGRAM: whole.step, PARTS: parts.step}


def _peak(
    step: Callable[[], Any],
    subject: Subject,
    name: str,
    device: torch.device,
    backend: str | None,
) -> int | None:
    """The most that a step holds, after one that makes the optimizer's state."""
    if device.type == "cuda":
        step()
        reset_peak_memory(device)
        step()
        torch.cuda.synchronize(device)
        return peak_memory(device)
    if device.type != "cpu" or backend is not None:
        return None
    log = MemoryLog()
    program = subject.program
    models: dict[str, nn.Module] = {PLAIN: subject.model, PROGRAM: program.whole, PARTS: program}
    # gradients of the steps before are no part of these
    program.zero_grad(set_to_none=True)
    log.add([*models[name].parameters(), *models[name].buffers()])
    with log:
        step()
        step()
    return max(log.curve())
