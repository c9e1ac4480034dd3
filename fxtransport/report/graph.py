"""The printer of graphs: one line for each node, below the block that it belongs to.

The lines become plain text here, which golden files hold too, and a table on the terminal in
:mod:`fxtransport.report.graph_table`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from fxtransport.ir import Origins, PartitionPlan
from fxtransport.report.marks import Mark, marks, without_plain_residues
from fxtransport.report.nodes import (
    argument_texts,
    expression,
    holds_tensors,
    name_below,
    operation,
    part_numbers,
    shape_text,
)

if TYPE_CHECKING:
    from torch import fx

    from fxtransport.unit import Unit

COLUMNS = ("path", "operation", "shape", "marks")
COLUMNS_OF_EVERYTHING = ("path", "node", "operation", "shape", "marks")


@dataclass(frozen=True)
class Line:
    """A line of the listing: a node, or the heading of a part or a block."""

    kind: str
    """``part``, ``block``, ``module`` or ``function``; the last two are nodes."""
    path: str
    """Where in the model it is; below the heading of a block, only the last name."""
    operation: str = ""
    """The class of a module or the name of a function; with arguments if everything is listed."""
    shape: str = ""
    marks: tuple[tuple[str, str], ...] = ()
    """The kind and the text of each mark."""
    node: str = ""
    """The name of the node, if everything is listed."""
    optimality: str = ""
    """How near a residual block of a trained model is to an optimal map."""


@dataclass(frozen=True)
class _Entry:
    """A node, and the module that it belongs to."""

    node: "fx.Node"
    owner: str
    """The path of the module in whose forward the node runs."""
    label: str
    """What the node is called there."""
    module: str
    """The class of the submodule that it calls, if it calls one."""

    @property
    def path(self) -> str:
        """The label below the owner's path."""
        return f"{self.owner}.{self.label}" if self.owner else self.label


def columns(*, everything: bool, measured: bool = False) -> tuple[str, ...]:
    """The titles of the columns, in order; each is a field of :class:`Line`."""
    *first, last = COLUMNS_OF_EVERYTHING if everything else COLUMNS
    return (*first, *(("optimality",) if measured else ()), last)


def graph_lines(
    unit: "Unit", *, everything: bool = False, optimality: Mapping[str, str] | None = None
) -> tuple[Line, ...]:
    """The listing of a graph.

    Args:
        unit: The model with its graph.
        everything: List every node, with its name and arguments. Otherwise those that only
            hold sizes or parameters are left out.
        optimality: What the column of that name says, by node.
    """
    nodes = unit.traced().nodes
    entries = [_entry(unit, n) for n in nodes if everything or holds_tensors(unit, n)]
    return tuple(_lines(unit, entries, everything=everything, optimality=optimality or {}))


def graph_text(
    unit: "Unit", *, everything: bool = False, optimality: Mapping[str, str] | None = None
) -> str:
    """The listing of a graph as plain text, with a line of titles."""
    titles = columns(everything=everything, measured=optimality is not None)
    lines = graph_lines(unit, everything=everything, optimality=optimality)
    rows = [titles, *(line_cells(line, titles) for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = (map(str.ljust, row, widths) for row in rows)
    return "".join("  ".join(cells).rstrip() + "\n" for cells in padded)


def line_cells(line: Line, titles: Sequence[str]) -> tuple[str, ...]:
    """The texts of a line in these columns."""
    texts = {**vars(line), "marks": "  ".join(text for _, text in line.marks)}
    return tuple(texts[title] for title in titles)


def _entry(unit: "Unit", node: "fx.Node") -> _Entry:
    if node.op == "call_module":
        path = str(node.target)
        owner, _, label = path.rpartition(".")
        return _Entry(node, owner, label, type(unit.model.get_submodule(path)).__name__)
    owner = unit.fact(Origins).owners.get(node.name, "")
    return _Entry(node, owner, name_below(node.name, owner) or node.name, "")


def _lines(
    unit: "Unit", entries: Sequence[_Entry], *, everything: bool, optimality: Mapping[str, str]
) -> Iterator[Line]:
    numbers, marked = part_numbers(unit), marks(unit)
    is_cut = unit.has(PartitionPlan) and unit.fact(PartitionPlan).modules > 1
    for part, inside in groupby(entries, lambda entry: numbers[entry.node.name]):
        if is_cut:
            yield Line("part", f"── part {part} ──")
        for owner, group in groupby(inside, lambda entry: entry.owner):
            together = list(group)
            has_heading = bool(owner) and len(together) > 1
            if has_heading:
                yield Line("block", owner, type(unit.model.get_submodule(owner)).__name__)
            for entry in together:
                path = f"  {entry.label}" if has_heading else entry.path
                line = _line(unit, entry, path, marked, everything=everything)
                yield replace(line, optimality=optimality.get(entry.node.name, ""))


def _line(
    unit: "Unit",
    entry: _Entry,
    path: str,
    marked: Mapping[str, tuple[Mark, ...]],
    *,
    everything: bool,
) -> Line:
    node = entry.node
    own = marked.get(node.name, ())
    shown = own if everything else without_plain_residues(own)
    return Line(
        "module" if entry.module else "function",
        path,
        _call(entry) if everything else entry.module or operation(node),
        shape_text(unit, node),
        tuple((m.kind, m.text_at(entry.owner, entry.path)) for m in shown),
        node.name if everything else "",
    )


def _call(entry: _Entry) -> str:
    if entry.module:
        return f"{entry.module}({', '.join(argument_texts(entry.node))})"
    return expression(entry.node)
