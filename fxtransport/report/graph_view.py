"""The graph as a person reads it: one line a node, under the blocks it belongs to."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from fxtransport.ir import Layers, Origins, PartitionPlan, Residuals
from fxtransport.report.graph_text import is_shown, marks, module_numbers, operation, shape_text
from fxtransport.report.words import count, plural, shape

if TYPE_CHECKING:
    from rich.console import Console
    from torch import fx

    from fxtransport.passes.pipeline import PassRun
    from fxtransport.unit import Unit

STYLES = {"residual": "bold yellow", "skip": "magenta", "branch": "green", "inner": "dim yellow"}
SYMBOLS = {"residual": "⊕", "skip": "↷", "branch": "↳", "inner": "⊕", "layer": "→", "residue": "⇥"}


@dataclass(frozen=True)
class Line:
    """A node as it is shown."""

    node: "fx.Node"
    owner: str
    """The path of the module in whose forward the node runs."""
    label: str
    """What the node is called there."""
    kind: str
    """The class of a submodule."""

    @property
    def path(self) -> str:
        """The label under the owner's path."""
        return f"{self.owner}.{self.label}" if self.owner else self.label


def show(
    console: "Console",
    unit: "Unit",
    canonical: str,
    runs: Sequence["PassRun"],
    *,
    everything: bool,
) -> None:
    """Print the graph."""
    nodes = list(unit.traced().nodes)
    shown = [_line(unit, node) for node in nodes if everything or is_shown(unit, node)]
    console.print(_headline(unit, canonical))
    console.print(_table(unit, shown))
    console.print()
    if len(shown) < len(nodes):
        hidden = plural(len(nodes) - len(shown), "node")
        console.print(f"[dim]{hidden} on sizes and parameters left out; --all shows them[/]")
    seconds = ", ".join(f"{r.name} {1000 * r.seconds:.0f}" for r in runs)
    console.print(f"[dim]milliseconds: {seconds}[/]")


def _headline(unit: "Unit", canonical: str) -> str:
    inputs = " + ".join(shape(x.shape[1:]) for x in unit.example.inputs)
    parameters = count(sum(p.numel() for p in unit.model.parameters()))
    found = [f"input {inputs}", f"{parameters} parameters"]
    found.append(plural(len(unit.traced().nodes), "node"))
    if unit.has(Residuals):
        kinds = Counter(str(r.kind) for r in unit.fact(Residuals).found)
        words = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        found.append(plural(kinds.total(), "residual") + (f" ({words})" if words else ""))
    if unit.has(Layers) and unit.fact(Layers).found:
        found.append(plural(len(unit.fact(Layers).found), "layer"))
    return f"[bold]{canonical}[/]\n[dim]{'; '.join(found)}[/]\n"


def _line(unit: "Unit", node: "fx.Node") -> Line:
    if node.op == "call_module":
        owner, _, label = str(node.target).rpartition(".")
        return Line(node, owner, label, type(unit.model.get_submodule(str(node.target))).__name__)
    owner = unit.fact(Origins).owners.get(node.name, "")
    return Line(node, owner, node.name.removeprefix(f"{owner.replace('.', '_')}_"), "")


def _table(unit: "Unit", lines: Iterable[Line]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for title in ("path", "operation", "shape", "marks"):
        table.add_column(title, overflow="fold")
    numbers, marked = module_numbers(unit), marks(unit)
    cut = unit.has(PartitionPlan) and unit.fact(PartitionPlan).modules > 1
    by_module = groupby(lines, lambda line: numbers[line.node.name] if cut else None)
    for module, inside in by_module:
        if module is not None:
            table.add_row(Text(f"── module {module} ──", "bold cyan"))
        for owner, group in groupby(inside, lambda line: line.owner):
            together = list(group)
            indent = ""
            if owner and len(together) > 1:
                kind = type(unit.model.get_submodule(owner)).__name__
                table.add_row(Text(owner, "bold"), Text(kind, "dim bold"))
                indent = "  "
            for line in together:
                label = f"{indent}{line.label}" if indent else line.path
                found = marked.get(line.node.name, [])
                style = "" if line.kind or found else "dim"
                table.add_row(
                    Text(label, style),
                    Text(line.kind or operation(line.node), "" if line.kind else "dim"),
                    Text(shape_text(unit, line.node), style),
                    "  ".join(_styled(m) for m in found),
                )
    return table


def _styled(mark: str) -> str:
    kind = mark.split()[0]
    return f"[{STYLES.get(kind, 'blue')}]{SYMBOLS.get(kind, '')} {mark}[/]"
