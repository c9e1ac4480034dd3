"""The graph as a person reads it: one line a node, under the blocks it belongs to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fxtransport.cli.graph_text import marks, module_numbers, operation
from fxtransport.ir import PartitionPlan, Shapes
from fxtransport.passes.trace import Origins

if TYPE_CHECKING:
    from rich.console import Console
    from torch import fx

    from fxtransport.passes.base import Unit
    from fxtransport.passes.pipeline import PassRun

STYLES = {"residual": "bold yellow", "skip": "magenta", "branch": "green", "inner": "dim yellow"}


def show(
    console: "Console",
    unit: "Unit",
    canonical: str,
    runs: Sequence["PassRun"],
    *,
    everything: bool,
) -> None:
    """Print the graph."""
    from rich.table import Table

    graph, shapes = unit.traced(), unit.fact(Shapes)
    numbers, marked = module_numbers(unit), marks(unit)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for title in ("node", "operation", "shape", ""):
        table.add_column(title, overflow="fold")
    module, hidden = -1, 0
    cut = unit.has(PartitionPlan) and unit.fact(PartitionPlan).modules > 1
    for node in graph.nodes:
        is_tensor = node.name in shapes.specs or node.name in shapes.compound
        if (
            not everything
            and node.op not in ("placeholder", "output")
            and (not is_tensor or node.op == "get_attr")
        ):
            if node.name not in marked:
                hidden += 1
                continue
        if cut and numbers[node.name] != module:
            module = numbers[node.name]
            table.add_row(f"[bold cyan]── module {module}[/]")
        spec = shapes.specs.get(node.name)
        table.add_row(
            node.name,
            f"[dim]{_operation(unit, node)}[/]",
            "" if spec is None else "×".join(["B", *map(str, spec.shape[1:])]),
            "  ".join(_styled(m) for m in marked.get(node.name, [])),
        )
    console.print(f"[bold]{canonical}[/]  {len(graph.nodes)} nodes")
    console.print(table)
    if hidden:
        console.print(f"[dim]{hidden} nodes on sizes and parameters are left out; see --all[/]")
    seconds = ", ".join(f"{r.name} {1000 * r.seconds:.0f}" for r in runs)
    console.print(f"[dim]milliseconds: {seconds}[/]")


def _operation(unit: "Unit", node: "fx.Node") -> str:
    """What a node does; a submodule by its class."""
    if node.op == "call_module":
        return type(unit.model.get_submodule(str(node.target))).__name__
    owner = unit.fact(Origins).owners.get(node.name)
    where = f" in {owner}" if owner else ""
    return f"{operation(node)}{where}"


def _styled(mark: str) -> str:
    style = STYLES.get(mark.split()[0], "blue")
    symbol = {"residual": "⊕ ", "skip": "↷ ", "branch": "↳ "}.get(mark.split()[0], "")
    return f"[{style}]{symbol}{mark}[/]"
