"""The table that ``fxtransport split`` prints."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fxtransport.report.nodes import name_below
from fxtransport.report.words import bar, count, plural, shapes, size

if TYPE_CHECKING:
    from rich.console import Console

    from fxtransport.program import Program

BAR, NARROW_BAR = 14, 6
"""The width of the longest bar, and on a narrow terminal."""
WIDE = 105
"""From how many columns on a part takes one line, where its blocks allow it."""
COST_KEYS = {"activations": "activation_bytes", "parameters": "parameters", "flops": "flops"}
"""What the cost of a part is called in the summary, for each balance."""


def show(console: "Console", program: "Program", summary: dict[str, Any]) -> None:
    """Print the parts, their totals, how even they are, and where the cuts are.

    Args:
        console: The console to print on; on a terminal, bars show what is balanced.
        program: The program.
        summary: Its :func:`fxtransport.report.summary.summary`.
    """
    console.print(_headline(summary))
    console.print(_table(console, summary))
    console.print()
    console.print(_facts(program, summary))


def _headline(summary: dict[str, Any]) -> str:
    from rich.markup import escape

    parts = summary["modules"]
    even = "" if len(parts) == 1 else f", equally {_goal(summary)}"
    return (
        f"[bold]{escape(summary['model'])}[/] in {plural(len(parts), 'part')}{even}\n"
        f"[dim]input {shapes(parts[0]['input_shapes'])}; FLOPs of one sample; "
        f"memory saved for backward at batch {summary['batch_size']}[/]\n"
    )


def _goal(summary: dict[str, Any]) -> str:
    return "deep" if summary["balance"] == "depth" else f"heavy in {summary['balance']}"


def _table(console: "Console", summary: dict[str, Any]) -> Any:
    from rich.table import Table

    parts = summary["modules"]
    costs = [_balanced(summary, part) for part in parts]
    narrow = console.width < WIDE
    unit = "residual" if summary["unit"] == "submodule" else summary["unit"]
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0) if narrow else (0, 1),
        header_style="bold",
        footer_style="bold",
        show_footer=True,
    )
    table.add_column("#", justify="right", style="cyan")
    table.add_column("blocks", "total", overflow="fold")
    table.add_column(f"{unit}s", str(_sum(parts, "residuals")), justify="right", no_wrap=True)
    table.add_column("in → out", no_wrap=True)
    table.add_column("params", count(_sum(parts, "parameters")), justify="right", no_wrap=True)
    table.add_column("FLOPs", count(_sum(parts, "flops")), justify="right", no_wrap=True)
    memory = size(_sum(parts, "activation_bytes"))
    table.add_column("memory", memory, justify="right", no_wrap=True)
    table.add_column("head", _heads_total(parts), no_wrap=True)
    if console.is_terminal:
        goal = str(summary["balance"])
        table.add_column("" if narrow else goal, no_wrap=True)
    for part, blocks, cost in zip(parts, _ranges(parts), costs, strict=True):
        color = "yellow" if cost == max(costs) else "green"
        drawn = bar(cost, max(costs), NARROW_BAR if narrow else BAR)
        cells = [
            str(part["index"]),
            blocks,
            str(part["residuals"]),
            f"{shapes(part['input_shapes'])} → {shapes(part['output_shapes'])}",
            count(part["parameters"]),
            count(part["flops"]),
            size(part["activation_bytes"]),
            _head(part["head"]),
        ]
        if narrow:
            cells[3] = cells[3].replace(" → ", "\n→ ")
            cells[7] = cells[7].replace(" ", "\n", 1)
        table.add_row(*cells, *([f"[{color}]{drawn}[/]"] if console.is_terminal else []))
    return table


def _facts(program: "Program", summary: dict[str, Any]) -> Any:
    """The bottleneck, the cuts, and what verification found, each on lines with a title."""
    from rich.table import Table

    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column()
    if len(summary["modules"]) > 1:
        lines.add_row("bottleneck", _bottleneck(summary))
    if summary["balance"] == "depth" and summary["unit"] == "submodule":
        residuals = _sum(summary["modules"], "residuals")
        lines.add_row("depth", f"in submodules: {plural(residuals, 'residual')} would be too few")
    for cut, tensors in zip(summary["cuts"], summary["crossing"], strict=True):
        several = f", where {len(tensors)} tensors cross" if len(tensors) > 1 else ""
        paths = [path for path, _ in program.named_modules()]
        lines.add_row("cut", f"{cut_location(cut, paths)}{several}")
    lines.add_row("verified", _verified(program))
    return lines


def _bottleneck(summary: dict[str, Any]) -> str:
    costs = [_balanced(summary, part) for part in summary["modules"]]
    number = _number(summary)
    heaviest = costs.index(max(costs))
    has_head = summary["modules"][heaviest]["head"]["parameters"] > 0
    # depth is counted in blocks, and a head has none
    head = " with its head" if has_head and summary["balance"] != "depth" else ""
    return (
        f"[bold]{number(summary['bottleneck'])}[/] in part {heaviest}{head}, "
        f"lower bound {number(summary['lower_bound'])}, imbalance {summary['imbalance']:.1%}"
    )


def _verified(program: "Program") -> str:
    report = program.facts.verification
    if report is None:
        return "[dim]no[/]"
    batches = " and ".join(str(b) for b in sorted({c.batch_size for c in report.checks}))
    error = f"differ by {report.max_error:.1g} at most" if report.max_error else "are the same"
    refused = sorted({f"{c.mode} at batch {c.batch_size}" for c in report.checks if c.refused})
    unchecked = f"; the model itself refuses {', '.join(refused)}" if refused else ""
    return (
        f"[green]✓[/] outputs, gradients and buffers {error}, in train and eval, at batch "
        f"{batches}{unchecked}"
    )


def cut_location(cut: str, paths: Sequence[str]) -> str:
    """Where a cut is, in the user's terms.

    Args:
        cut: The path of a submodule, or the name of a node.
        paths: The paths of all submodules.

    >>> cut_location("layers.1", ["layers", "layers.1"])
    'after layers.1'
    >>> cut_location("layers_1_reshape", ["layers", "layers.1"])
    'inside layers.1, after reshape'
    """
    if cut in paths:
        return f"after {cut}"
    around = [path for path in paths if path and name_below(cut, path)]
    if not around:
        return f"after {cut}"
    innermost = max(around, key=len)
    return f"inside {innermost}, after {name_below(cut, innermost)}"


def _ranges(parts: list[dict[str, Any]]) -> list[str]:
    """The range of blocks of each part, and whether a cut goes through the first one."""
    ranges = [block_range(parts[0]["blocks"])]
    for before, part in pairwise(parts):
        shared = before["blocks"][-1:] == part["blocks"][:1] != []
        ranges.append(f"{'rest of ' if shared else ''}{block_range(part['blocks'])}")
    return ranges


def block_range(blocks: list[str]) -> str:
    """A range of blocks by their paths.

    >>> block_range(["layer1.0", "layer1.1", "layer2.0"])
    'layer1.0 … layer2.0'
    """
    if not blocks:
        return "–"
    ends = dict.fromkeys(path or "the model" for path in (blocks[0], blocks[-1]))
    return " … ".join(ends)


def _head(head: dict[str, Any]) -> str:
    if head["kind"] in ("model", "none"):
        return f"[dim]{'own' if head['kind'] == 'model' else 'none'}[/]"
    return f"{head['kind']} {count(head['parameters'])}"


def _heads_total(parts: list[dict[str, Any]]) -> str:
    added = sum(part["head"]["parameters"] for part in parts)
    return f"+ {count(added)}" if added else ""


def _sum(parts: list[dict[str, Any]], key: str) -> int:
    return sum(part[key] for part in parts)


def _balanced(summary: dict[str, Any], part: dict[str, Any]) -> int:
    """What is balanced, of one part."""
    by_depth = summary["balance"] == "depth"
    # without enough residuals and layers, depth is counted in submodules
    if by_depth and summary["unit"] == "submodule":
        return int(part["submodules"])
    if by_depth:
        return int(part["residuals"])
    if summary["balance"] == "memory":
        return int(part["peak_bytes"])
    key = COST_KEYS[summary["balance"]]
    return int(part[key] + part["head"][key])


def _number(summary: dict[str, Any]) -> Any:
    if summary["balance"] == "depth":
        return lambda number: plural(number, summary["unit"])
    return size if summary["balance"] in ("activations", "memory") else count
