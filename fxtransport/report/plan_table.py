"""The table and the curve that ``fxtransport plan`` prints."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fxtransport.report.words import bar, plural, size

if TYPE_CHECKING:
    from rich.console import Console

    from fxtransport.planning import MemoryPlan, PlanRow

CURVE = 40
"""The width of the curve's longest bar."""


def show(console: "Console", found: "MemoryPlan") -> None:
    """Print what training takes, for every number of parts and every balance.

    Args:
        console: The console to print on.
        found: What was predicted.
    """
    from rich.markup import escape

    amp = "" if found.amp is None else f", {found.amp}"
    console.print(
        f"[bold]{escape(found.model)}[/], batch {found.batch_size}, {found.method}, "
        f"{found.optimizer}{amp}, {found.device}: peak memory of training\n"
    )
    console.print(_table(found))
    console.print()
    for line in _curve(found):
        console.print(line)
    if found.fit is not None:
        console.print()
        console.print(_fit(found))


def _table(found: "MemoryPlan") -> Any:
    from rich.table import Table

    kinds = list(found.end_to_end.kinds)
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for title in ("parts", "balance"):
        table.add_column(title, no_wrap=True)
    for title in ("peak", "saved", *kinds, "step"):
        table.add_column(str(title), justify="right", no_wrap=True)
    whole = found.end_to_end
    least = min(row.peak_bytes for row in (whole, *found.rows))
    table.add_row("1", "end to end", *_cells(whole, whole, least))
    for balances, row in _by_cuts(found.rows):
        table.add_row(str(row.modules), ", ".join(balances), *_cells(row, whole, least))
    return table


def _by_cuts(rows: Iterable["PlanRow"]) -> Iterator[tuple[list[str], "PlanRow"]]:
    """Each partition once, with all balances that it is the best of."""
    found: dict[tuple[str, ...], tuple[list[str], PlanRow]] = {}
    for row in rows:
        found.setdefault(tuple(row.cuts), ([], row))[0].append(row.balance)
    yield from found.values()


def _cells(row: "PlanRow", whole: "PlanRow", least: int) -> list[str]:
    saved = 1 - row.peak_bytes / whole.peak_bytes
    step = f"×{row.step_time:.3f}"
    if row.seconds is not None:
        step += f" {row.seconds:.3g} s"
    kinds = [size(number) for number in row.kinds.values()]
    peak = size(row.peak_bytes)
    if row.peak_bytes == least:
        peak = f"[bold green]{peak}[/]"
    return [peak, f"{100 * saved:.0f} %", *kinds, step]


def _curve(found: "MemoryPlan") -> list[str]:
    """The least peak for each number of parts, as bars."""
    least: dict[int, PlanRow] = {1: found.end_to_end}
    for row in found.rows:
        known = least.get(row.modules)
        if known is None or row.peak_bytes < known.peak_bytes:
            least[row.modules] = row
    longest = max(row.peak_bytes for row in least.values())
    width = len(str(max(least)))
    return [
        f"{count:>{width}} {bar(row.peak_bytes, longest, CURVE)} {size(row.peak_bytes)}"
        for count, row in sorted(least.items())
    ]


def _fit(found: "MemoryPlan") -> str:
    fit = found.fit
    assert fit is not None and found.budget is not None, "show prints it only where there is one"
    how = f" cut after {_listed(fit.names)}" if fit.names else ""
    return (
        f"[green]fits[/] into {size(found.budget)}, of which {size(found.reserve)} are kept back: "
        f"batches of {fit.batch_size} in {plural(fit.modules, 'part')}{how}{fit.how}; "
        f"peak [bold]{size(fit.peak_bytes)}[/], step ×{found.fit_time:.3f}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
