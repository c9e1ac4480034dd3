"""The listing of a graph on a console: in color on a terminal, plain text elsewhere."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fxtransport.ir import Layers, Residuals
from fxtransport.report.graph import Line, columns, graph_lines, graph_text, line_cells
from fxtransport.report.words import count, plural, shape

if TYPE_CHECKING:
    from rich.console import Console

    from fxtransport.unit import Unit

MARK_STYLES = {
    "residual": "bold yellow",
    "inner": "dim yellow",
    "skip": "magenta",
    "branch": "green",
    "layer": "blue",
    "residue": "blue",
}
LINE_STYLES = {"part": "bold cyan", "block": "bold", "module": "", "function": "dim"}
OPERATION_STYLES = {**LINE_STYLES, "block": "dim bold"}


def show(
    console: "Console",
    unit: "Unit",
    canonical: str,
    *,
    everything: bool = False,
    optimality: Mapping[str, str] | None = None,
) -> None:
    """Print a headline, and the listing of the graph.

    Args:
        console: The console to print on.
        unit: The model with its graph.
        canonical: The name of the model.
        everything: As :func:`fxtransport.report.graph.graph_lines` takes it.
        optimality: As there; with a column of its own.
    """
    from rich.text import Text

    console.print(_headline(unit, canonical))
    if console.is_terminal:
        console.print(graph_table(unit, everything=everything, optimality=optimality))
    else:
        text = graph_text(unit, everything=everything, optimality=optimality)
        console.print(Text(text), end="", soft_wrap=True)


def graph_table(
    unit: "Unit", *, everything: bool = False, optimality: Mapping[str, str] | None = None
) -> Any:
    """The lines of :func:`fxtransport.report.graph.graph_lines` as a table of rich."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    titles = columns(everything=everything, measured=optimality is not None)
    for title in titles:
        table.add_column(title, overflow="fold")
    for line in graph_lines(unit, everything=everything, optimality=optimality):
        table.add_row(*_styled_cells(line, titles))
    return table


def _headline(unit: "Unit", canonical: str) -> str:
    from rich.markup import escape

    inputs = " + ".join(shape(x.shape[1:]) for x in unit.example.tensors)
    parameters = count(sum(p.numel() for p in unit.model.parameters()))
    found = [f"input {inputs}", f"{parameters} parameters"]
    found.append(plural(len(unit.traced().nodes), "node"))
    if unit.has(Residuals):
        kinds = Counter(str(r.kind) for r in unit.fact(Residuals).found)
        words = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        found.append(plural(kinds.total(), "residual") + (f" ({words})" if words else ""))
    if unit.has(Layers) and unit.fact(Layers).found:
        found.append(plural(len(unit.fact(Layers).found), "layer"))
    return f"[bold]{escape(canonical)}[/]\n[dim]{'; '.join(found)}[/]\n"


def _styled_cells(line: Line, titles: tuple[str, ...]) -> list[Any]:
    from rich.text import Text

    is_marked = line.kind == "function" and line.marks
    style = "" if is_marked else LINE_STYLES[line.kind]
    styles = {"operation": OPERATION_STYLES[line.kind]}
    *texts, _ = line_cells(line, titles)
    cells = [Text(t, styles.get(title, style)) for title, t in zip(titles, texts, strict=False)]
    marks = (Text(text, MARK_STYLES[kind]) for kind, text in line.marks)
    return [*cells, Text("  ").join(marks)]
