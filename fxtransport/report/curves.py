"""How runs went, beside one another: a table of their exits, and JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fxtransport.report.words import duration, size
from fxtransport.training.records import RunRecord, short_names

if TYPE_CHECKING:
    from rich.console import Console

LAST = ("classification", "transport", "multiplier", "train_accuracy", "validation_top5")
"""The columns of which the last number is told."""


def show_curves(console: "Console", records: Sequence[RunRecord]) -> None:
    """Print a row for each run and exit.

    Args:
        console: Where to print.
        records: How the runs went.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", style="cyan")
    headings = ("exit", "epochs", "best accuracy", "in epoch", "last", "loss", "C", "λ or τ")
    for heading in (*headings, "test", "time", "memory"):
        table.add_column(heading, justify="right")
    for name, record in zip(short_names([r.folder for r in records]), records, strict=True):
        whole = (
            _percent(record.test_accuracy),
            "" if record.seconds is None else duration(record.seconds),
            "" if record.peak_memory is None else size(record.peak_memory),
        )
        for part in record.exits:
            # what is of the run as a whole, in its first row
            first = part == record.exits[0]
            cells = _cells(record, part)
            table.add_row(name if first else "", *cells, *(whole if first else ("",) * len(whole)))
    console.print(table)


def curves_json(name: str, record: RunRecord) -> dict[str, Any]:
    """A run as JSON: what the table says of it, in full.

    Args:
        name: What the run is called.
        record: How it went.
    """
    exits = []
    for part in record.exits:
        best = record.best(part)
        exits.append(
            {
                "part": part,
                "best_accuracy": best and best[0],
                "best_epoch": best and best[1],
                "validation_accuracy": record.last(part, "validation_accuracy"),
                **{column: record.last(part, column) for column in LAST},
            }
        )
    return {
        "run": name,
        "epochs": record.epochs,
        "finished": record.results is not None,
        "exits": exits,
        "test_accuracy": record.test_accuracy,
        "seconds": record.seconds,
        "samples_per_second": record.samples_per_second,
        "peak_memory": record.peak_memory,
    }


def _cells(record: RunRecord, part: int) -> tuple[str, ...]:
    best = record.best(part)
    numbers = [
        record.last(part, column) for column in ("classification", "transport", "multiplier")
    ]
    return (
        str(part),
        str(record.epochs),
        *(("", "") if best is None else (f"{best[0]:.2%}", str(best[1]))),
        _percent(record.last(part, "validation_accuracy")),
        *("" if number is None else f"{number:.4g}" for number in numbers),
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"
