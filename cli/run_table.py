"""The tables that ``fxtransport train`` and ``fxtransport evaluate`` print."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fxtransport.report.words import duration, plural, size
from fxtransport.training import Best, Exit, FitReport

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
        _show_kept(console, report)
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
        lines.add_row("export", _exported(best, report.whole or best))
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


def _exported(best: Best, whole: Best) -> str:
    """Which weights of which exit ``export`` gives, in words."""
    words = (
        f"part {whole.exit.part} after {plural(whole.epoch, 'epoch')}: {whole.exit.accuracy:.2%}"
    )
    if (whole.epoch, whole.exit.part) == (best.epoch, best.exit.part):
        return words
    return f"{words}; --exit best gives part {best.exit.part} after {plural(best.epoch, 'epoch')}"


def _show_kept(console: "Console", report: FitReport) -> None:
    """Print the exits with the weights of the best one, beside those after the last epoch."""
    best, last = report.best, report.position.epochs
    if best is None or best.epoch == last or not best.exits:
        part = None if best is None or best.epoch != last else best.exit.part
        show_exits(console, report.exits, "validation", part)
        return
    later = {exit.part: f"{exit.accuracy:.2%}" for exit in report.exits}
    heading = f"after the last epoch, {last}"
    show_exits(console, best.exits, "validation", best.exit.part, beside=(heading, later))


def show_exits(
    console: "Console",
    exits: Sequence[Exit],
    split: str,
    best: int | None,
    beside: tuple[str, Mapping[int, str]] | None = None,
) -> None:
    """Print accuracy and loss of exits.

    Args:
        console: Where to print.
        exits: What was measured.
        split: The split on which it was measured.
        best: The part whose exit was the best on the validation split.
        beside: The heading of one more column, and what is in it of exits by their parts.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("exit", justify="right", style="cyan")
    table.add_column(f"{split} accuracy", justify="right")
    table.add_column(f"{split} loss", justify="right")
    table.add_column("")
    heading, texts = beside or ("", {})
    if beside is not None:
        table.add_column(heading, justify="right", style="dim")
    for exit in exits:
        mark = "[green]best[/]" if exit.part == best else ""
        cells = [str(exit.part), f"{exit.accuracy:.2%}", f"{exit.loss:.4f}", mark]
        table.add_row(*cells, *([texts.get(exit.part, "")] if beside else []))
    console.print(table)
