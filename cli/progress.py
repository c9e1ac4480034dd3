"""What ``fxtransport train`` shows while it trains, on stderr."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import click
import torch
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from fxtransport.report.words import plural, size, three_digits
from fxtransport.training import (
    Compilation,
    EpochReport,
    Observer,
    PartEpoch,
    Phase,
    Plan,
    Position,
    StepReport,
)
from fxtransport.training.devices import peak_memory

REFRESH = 0.25
"""Seconds between two readings of the numbers; each synchronizes with an accelerator."""


@contextmanager
def show_progress(symbol: str, device: str) -> Iterator[Observer]:
    """Show the progress of training: live on a terminal, in lines elsewhere.

    Args:
        symbol: What the multiplier of the objective is called, λ or τ.
        device: The device whose memory is shown, as torch names it.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(symbol)
        return
    panel = Panel(symbol, device)
    with Live(get_renderable=panel.draw, console=console, transient=True, refresh_per_second=4):
        yield panel


class Lines(Observer):
    """A line for each epoch and part, where there is no terminal.

    Args:
        symbol: What the multiplier of the objective is called.
    """

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self._plan: Plan | None = None

    def on_start(self, plan: Plan) -> None:
        """Say where the run begins, if not at the beginning."""
        self._plan = plan
        if plan.finished or plan.position.epochs == plan.epochs:
            click.echo("the run is finished; it goes on with more --epochs or --laps", err=True)
        elif plan.position.steps:
            click.echo(f"goes on after {_describe_position(plan, plan.position)}", err=True)

    def on_phase(self, phase: Phase, position: Position) -> None:
        """Say which part trains, where they train one after the other."""
        if self._plan is not None and len(self._plan.phases) > 1:
            lap = f"lap {phase.lap + 1}, " if self._plan.phases[-1].lap else ""
            parts = ", ".join(map(str, phase.parts))
            click.echo(f"{lap}part {parts}: {plural(phase.epochs, 'epoch')}", err=True)

    def on_compile(self, backend: str) -> None:
        """Say so: it takes a while."""
        click.echo(f"compiling, by {backend}", err=True)

    def on_compiled(self, compilation: Compilation) -> None:
        """Say what it took."""
        click.echo(_compiled(compilation), err=True)

    def on_epoch(self, epoch: EpochReport) -> None:
        """Write a line for each part that trained."""
        assert self._plan is not None
        accuracies = {exit.part: exit.accuracy for exit in epoch.exits}
        for part in epoch.parts:
            words = [
                f"epoch {epoch.position.epochs}/{self._plan.epochs}",
                f"part {part.part}",
                *_numbers(part, self._symbol),
            ]
            if part.part in accuracies:
                words.append(f"accuracy {accuracies[part.part]:.2%}")
            words.append(f"{three_digits(epoch.samples_per_second)}/s")
            if epoch.peak_memory is not None:
                words.append(size(epoch.peak_memory))
            click.echo("  ".join(words), err=True)


class PeakMemory(Observer):
    """Keeps the largest peak memory of all epochs."""

    def __init__(self) -> None:
        self.bytes: int | None = None
        """None before the first epoch, and where the system does not say."""

    def on_epoch(self, epoch: EpochReport) -> None:
        """Compare with the epochs before."""
        if epoch.peak_memory is not None:
            self.bytes = max(self.bytes or 0, epoch.peak_memory)


@dataclass
class Row:
    """The numbers of a part so far."""

    loss: float | None = None
    transport: float | None = None
    multiplier: float | None = None
    accuracy: float | None = None


class Panel(Observer):
    """A table of the parts and a progress bar, both of them live.

    Args:
        symbol: What the multiplier of the objective is called.
        device: The device whose memory is shown, as torch names it.
    """

    def __init__(self, symbol: str, device: str) -> None:
        self._symbol = symbol
        self._device = device
        self._rows: dict[int, Row] = {}
        self._trains: set[int] = set()
        self._plan: Plan | None = None
        self._read_at = 0.0
        self._samples = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        self._task = self._bar.add_task("begins", total=None, speed="")

    def draw(self) -> Group:
        """The table and the bar as they are now."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("part", "loss", "transport", self._symbol, "accuracy"):
            table.add_column(heading, justify="right")
        for part, row in sorted(self._rows.items()):
            cells = (row.loss, row.transport, row.multiplier)
            accuracy = "–" if row.accuracy is None else f"{row.accuracy:.2%}"
            table.add_row(
                str(part),
                *("–" if number is None else f"{number:.4g}" for number in cells),
                accuracy,
                style="" if part in self._trains else "dim",
            )
        return Group(table, self._bar)

    def on_start(self, plan: Plan) -> None:
        """Set the length of the bar."""
        self._plan = plan
        self._bar.update(self._task, total=plan.steps, completed=plan.position.steps)
        self._bar.reset(self._task, total=plan.steps, completed=plan.position.steps, speed="")

    def on_phase(self, phase: Phase, position: Position) -> None:
        """Mark the parts that train."""
        self._trains = set(phase.parts)
        for part in self._trains:
            self._rows.setdefault(part, Row())
        self._describe(position)

    def on_compile(self, backend: str) -> None:
        """Say so: it takes a while."""
        self._bar.update(self._task, description=f"compiling, by {backend}")

    def on_compiled(self, compilation: Compilation) -> None:
        """Say what it took, and leave it out of the speed."""
        self._bar.update(self._task, speed=_compiled(compilation))
        self._read_at, self._samples = 0.0, 0

    def on_step(self, step: StepReport, position: Position) -> None:
        """Advance, and read the numbers now and then."""
        self._bar.update(self._task, completed=position.steps)
        self._samples += step.samples
        now = time.perf_counter()
        passed = now - self._read_at
        if passed < REFRESH:
            return
        if self._read_at:
            speed = f"{three_digits(self._samples / passed)}/s"
            peak = peak_memory(torch.device(self._device))
            self._bar.update(self._task, speed=speed if peak is None else f"{speed}  {size(peak)}")
        self._read_at, self._samples = now, 0
        for part in step.parts:
            row = self._rows.setdefault(part.part, Row())
            row.loss = part.classification.item()
            row.transport = None if part.transport is None else part.transport.item()
            row.multiplier = None if part.multiplier is None else part.multiplier.item()
        self._describe(position)

    def on_epoch(self, epoch: EpochReport) -> None:
        """Show the means and the accuracies."""
        for part in epoch.parts:
            row = self._rows.setdefault(part.part, Row())
            row.loss, row.transport = part.classification, part.transport
            row.multiplier = part.multiplier
        for exit in epoch.exits:
            self._rows.setdefault(exit.part, Row()).accuracy = exit.accuracy
        # validation is not a step
        self._read_at = 0.0

    def _describe(self, position: Position) -> None:
        assert self._plan is not None
        number = min(position.epochs + 1, self._plan.epochs)
        self._bar.update(self._task, description=f"epoch {number}/{self._plan.epochs}")


def _numbers(part: PartEpoch, symbol: str) -> list[str]:
    """The means of an epoch, as far as there are any."""
    pairs = (
        ("loss", part.classification),
        ("transport", part.transport),
        (symbol, part.multiplier),
    )
    shown = [(name, value) for name, value in pairs if value is not None]
    return [f"{name} {value:.4g}" for name, value in (*shown, *part.penalties.items())]


def _compiled(compilation: Compilation) -> str:
    return f"{plural(compilation.graphs, 'graph')} compiled in {compilation.seconds:.1f} s"


def _describe_position(plan: Plan, position: Position) -> str:
    batch = f", batch {position.batch} of the next" if position.batch else ""
    return f"epoch {position.epochs} of {plan.epochs}{batch}"
