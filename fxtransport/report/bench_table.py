"""The table of ``fxtransport bench``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from fxtransport.report.words import size

if TYPE_CHECKING:
    from rich.console import Console

    from fxtransport.benching import Figures


def show_bench(console: "Console", figures: Sequence["Figures"], batch_size: int) -> None:
    """Print what was measured.

    Args:
        console: Where to print.
        figures: Of each that was measured.
        batch_size: How many samples a batch has.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", style="cyan")
    table.add_column("runs")
    for name in ("latency", "samples/s", f"step of {batch_size}", "memory"):
        table.add_column(name, justify="right")
    for each in figures:
        table.add_row(
            each.what,
            each.compiled or "eager",
            f"{1000 * each.latency:.2f} ms",
            f"{each.throughput:.0f}",
            f"{1000 * each.step:.1f} ms",
            "" if each.peak_bytes is None else size(each.peak_bytes),
        )
    console.print(table)
