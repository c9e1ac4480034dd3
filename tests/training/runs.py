"""A small network, its data, and runs of it: alone, and in a process that is killed."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fxtransport import Program, transportify
from fxtransport.data import OrderedStream, ShuffledStream, TensorSamples
from fxtransport.objectives import Objective, lap
from fxtransport.training import (
    EndToEnd,
    MultiLap,
    Observer,
    OptimizerSettings,
    Parallel,
    Position,
    Schedule,
    Sequential,
    StepReport,
    Trainer,
    TrainerSettings,
)
from fxtransport.training.checkpoint import content_hash
from fxtransport.training.monitors import Monitor
from tests import networks

PROCESSES = multiprocessing.get_context("forkserver")
"""Processes that start without the threads and the state of this one, and with torch."""
PROCESSES.set_forkserver_preload(["tests.training.runs"])

SHAPE, CLASSES = (2, 4, 4), 3
SCHEDULES: dict[str, Schedule] = {
    "end-to-end": EndToEnd(2),
    "parallel": Parallel(2),
    "sequential": Sequential(1, growth=1),
    "multi-lap": MultiLap(1, laps=2),
}


class SmallNet(networks.Net):
    """The small network for the data here, with what has state and randomness."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__(classes=CLASSES, dropout=dropout, input_size=SHAPE)


class Shared(SmallNet):
    """The first and the last block have the same convolution."""

    def __init__(self) -> None:
        super().__init__()
        first, last = self.blocks[0], self.blocks[3]
        last.get_submodule("conv").weight = first.get_submodule("conv").weight


def program_of(
    make: Callable[[], nn.Module] = SmallNet, modules: int = 2, **options: Any
) -> Program:
    """A program of seeded weights."""
    torch.manual_seed(0)
    example = torch.zeros(2, *SHAPE)
    return transportify(make(), example, modules=modules, verify=False, **options)


def calm() -> SmallNet:
    """A network in which nothing is random."""
    return SmallNet(dropout=0.0)


def samples(count: int, seed: int = 0) -> TensorSamples:
    """Noise with a class-dependent mean, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(CLASSES, (count,), generator=generator)
    noise = torch.randn(count, *SHAPE, generator=generator)
    return TensorSamples(noise + targets.view(-1, 1, 1, 1), targets)


def train_stream(count: int = 22, batch_size: int = 8) -> ShuffledStream:
    """Three batches, the last of which is smaller."""
    return ShuffledStream(samples(count), batch_size, seed=3)


def validation_stream() -> OrderedStream:
    return OrderedStream(samples(16, seed=1), 8)


def trainer_of(
    schedule: Schedule,
    run: Path | None = None,
    *,
    program: Program | None = None,
    objective: Objective | None = None,
    observers: Sequence[Observer] = (),
    monitors: Sequence[Monitor] = (),
    optimizer: OptimizerSettings | None = None,
    about: dict[str, Any] | None = None,
    **settings: Any,
) -> Trainer:
    return Trainer(
        program or program_of(),
        objective or lap(lambda0=0.5, lambda_rate=0.1, update_every=2),
        schedule,
        optimizer=optimizer or OptimizerSettings(lr=0.05, scheduler="cosine"),
        settings=TrainerSettings(**{"seed": 5, **settings}),
        run=run,
        observers=observers,
        monitors=monitors,
        about=about,
    )


def finish(run: Path, name: str, observers: Sequence[Observer] = (), **options: Any) -> Trainer:
    """Start the run of a schedule, or resume it, and train to its end."""
    trainer = trainer_of(SCHEDULES[name], run, observers=observers, ema=0.8, **options)
    if (run / "checkpoint.json").exists():
        trainer.restore()
    trainer.fit(train_stream(), validation_stream(), validation_stream())
    return trainer


def described(run: Path) -> Any:
    """What a checkpoint says, without the time that training took, and hence its own hash."""
    found = json.loads((run / "checkpoint.json").read_text())
    del found["sha256"]
    return _untimed(found)


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _untimed(v) for name, v in value.items() if name != "elapsed"}
    if isinstance(value, list):
        # dicts in a checkpoint's state are lists of pairs
        return [_untimed(v) for v in value if not (isinstance(v, list) and v[:1] == ["elapsed"])]
    return value


def rewrite_checkpoint(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what a checkpoint says, and let its hash of itself be right."""
    found = json.loads((run / "checkpoint.json").read_text())
    del found["sha256"]
    change(found)
    found["sha256"] = content_hash(found)
    (run / "checkpoint.json").write_text(json.dumps(found))


class Signaller(Observer):
    """Sends the process a signal after a step."""

    def __init__(self, step: int, number: signal.Signals) -> None:
        self.step, self.number = step, number

    def on_step(self, step: StepReport, position: Position) -> None:
        if position.steps == self.step:
            os.kill(os.getpid(), self.number)


def finish_killed_at_step(run: Path, name: str, step: int, settings: dict[str, Any]) -> None:
    """In a process of its own: SIGKILL after a step."""
    torch.set_num_threads(1)
    finish(run, name, [Signaller(step, signal.SIGKILL)], **settings)


def finish_killed_while_writing(run: Path, name: str, function: str, call: int) -> None:
    """In a process of its own: SIGKILL instead of a call of ``os.fsync`` or ``os.replace``."""
    torch.set_num_threads(1)
    original: Callable[..., Any] = getattr(os, function)
    calls = 0

    def killing(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    setattr(os, function, killing)
    finish(run, name, checkpoint_minutes=1e-9)
