"""The tables that ``fxtransport train`` and ``fxtransport evaluate`` print."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fxtransport.report.words import duration, plural, size
from fxtransport.training import Exit, FitReport

if TYPE_CHECKING:
    from rich.console import Console


def show(
    console: "Console", report: FitReport, run: Path, *, seconds: float, memory: int | None
) -> None:
    """Print the results of a run.

    Args:
        console: Where to print.
        report: The trainer's.
        run: The folder.
        seconds: The duration, since the run was begun or resumed.
        memory: The largest number of bytes in use while an epoch trained; None: unknown.
    """
    from rich.table import Table

    best = report.best
    if report.exits:
        show_exits(console, report.exits, "validation", None if best is None else best.exit.part)
        console.print()
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column()
    if best is not None:
        lines.add_row(
            "best exit",
            f"[bold]part {best.exit.part}[/] after {plural(best.epoch, 'epoch')}: "
            f"{best.exit.accuracy:.2%} of {best.exit.samples} validation samples",
        )
    if report.stopped:
        lines.add_row("stopped", f"early, after {plural(report.position.epochs, 'epoch')}")
    if report.test is not None:
        lines.add_row(
            "test",
            f"[bold]{report.test.accuracy:.2%}[/] of {report.test.samples} samples, at "
            f"part {report.test.part}{'' if best is None else ', with its weights'}",
        )
    if report.compilation.graphs:
        compiled = report.compilation
        lines.add_row(
            "compiled", f"{plural(compiled.graphs, 'graph')} in {duration(compiled.seconds)}"
        )
    peak = "" if memory is None else f", peak memory {size(memory)}"
    lines.add_row("time", f"{duration(seconds)}{peak}")
    lines.add_row("files", f"{run}: config.toml, metrics.csv, results.json, checkpoint.json")
    console.print(lines)


def show_exits(console: "Console", exits: Sequence[Exit], split: str, best: int | None) -> None:
    """Print accuracy and loss of exits.

    Args:
        console: Where to print.
        exits: What was measured.
        split: The split on which it was measured.
        best: The part whose exit was the best on the validation split.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("exit", justify="right", style="cyan")
    table.add_column(f"{split} accuracy", justify="right")
    table.add_column(f"{split} loss", justify="right")
    table.add_column("")
    for exit in exits:
        mark = "[green]best[/]" if exit.part == best else ""
        table.add_row(str(exit.part), f"{exit.accuracy:.2%}", f"{exit.loss:.4f}", mark)
    console.print(table)
