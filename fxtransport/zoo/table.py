"""The tables of a sweep on the terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fxtransport.zoo.record import Record
from fxtransport.zoo.summary import Summary, refusals, substitutes, summarize, summarize_as

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 3
"""How many models are named for each reason."""


def show(console: "Console", records: Sequence[Record]) -> None:
    """Print a table by family, and why models were refused or only a submodule was compiled."""
    _show_families(console, records)
    _show_reasons(console, "refused because", refusals(records))
    _show_reasons(console, "only a submodule, because", substitutes(records))


def _show_families(console: "Console", records: Sequence[Record]) -> None:
    from rich.table import Table

    total = summarize_as("total", records)
    table = Table(box=None, pad_edge=False, header_style="bold", footer_style="bold")
    table.show_footer = True
    headings = "family models compiled verified refused residuals median_s slowest_s slowest"
    for heading, footer in zip(headings.split(), _cells(total), strict=True):
        name = heading.replace("_", " ")
        if heading in ("family", "slowest"):
            table.add_column(name, footer, overflow="fold")
        else:
            table.add_column(name, footer, justify="right", no_wrap=True)
    for one in summarize(records):
        table.add_row(*_cells(one), style="yellow" if one.refused else "")
    console.print(table)


def _cells(one: Summary) -> tuple[str, ...]:
    return (
        one.name,
        str(one.models),
        str(one.compiled),
        str(one.verified or "–"),
        str(one.refused or "–"),
        str(sum(one.residuals.values()) or "–"),
        f"{one.median_seconds:.2f}",
        f"{one.slowest_seconds:.2f}",
        one.slowest,
    )


def _show_reasons(console: "Console", heading: str, found: Mapping[str, tuple[str, ...]]) -> None:
    from rich.table import Table

    if not found:
        return
    reasons = Table(box=None, pad_edge=False, header_style="bold")
    reasons.add_column(heading, overflow="fold")
    reasons.add_column("models", justify="right", no_wrap=True)
    reasons.add_column("such as", overflow="fold")
    for kind, models in found.items():
        more = ", …" if len(models) > SHOWN else ""
        reasons.add_row(kind, str(len(models)), ", ".join(models[:SHOWN]) + more)
    console.print()
    console.print(reasons)
