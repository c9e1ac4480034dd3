"""The table that ``fxtransport split`` prints."""

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fxtransport.report.words import bar, count, plural, shapes, size

if TYPE_CHECKING:
    from rich.console import Console

    from fxtransport.program import Program

BAR, NARROW_BAR = 14, 6
"""The width of the longest bar, and on a narrow terminal."""
WIDE = 105
"""From how many columns on a module is one line, where its blocks allow."""
COST_KEYS = {"activations": "activation_bytes", "parameters": "parameters", "flops": "flops"}
"""What a module's cost is called in the summary."""


def show(console: "Console", program: "Program", summary: dict[str, Any]) -> None:
    """Print the modules, their totals, how even they are, and where the cuts fall."""
    console.print(_headline(summary))
    console.print(_table(console, summary))
    console.print()
    console.print(_facts(program, summary))


def _headline(summary: dict[str, Any]) -> str:
    modules = summary["modules"]
    even = "" if len(modules) == 1 else f", equally {_goal(summary)}"
    return (
        f"[bold]{summary['model']}[/] in {plural(len(modules), 'module')}{even}\n"
        f"[dim]input {shapes(modules[0]['input_shapes'])}; FLOPs of one sample; "
        f"memory saved for backward at batch {summary['batch_size']}[/]\n"
    )


def _goal(summary: dict[str, Any]) -> str:
    return "deep" if summary["balance"] == "depth" else f"heavy in {summary['balance']}"


def _table(console: "Console", summary: dict[str, Any]) -> Any:
    from rich.table import Table

    modules = summary["modules"]
    costs = [_balanced(summary, m) for m in modules]
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
    table.add_column(f"{unit}s", str(_sum(modules, "residuals")), justify="right", no_wrap=True)
    table.add_column("in → out", no_wrap=True)
    table.add_column("params", count(_sum(modules, "parameters")), justify="right", no_wrap=True)
    table.add_column("FLOPs", count(_sum(modules, "flops")), justify="right", no_wrap=True)
    memory = size(_sum(modules, "activation_bytes"))
    table.add_column("memory", memory, justify="right", no_wrap=True)
    table.add_column("head", _heads_total(modules), no_wrap=True)
    if console.is_terminal:
        goal = str(summary["balance"])
        table.add_column("" if narrow else goal, no_wrap=True)
    for m, blocks, cost in zip(modules, _ranges(modules), costs, strict=True):
        colour = "yellow" if cost == max(costs) else "green"
        drawn = bar(cost, max(costs), NARROW_BAR if narrow else BAR)
        cells = [
            str(m["index"]),
            blocks,
            str(m["residuals"]),
            f"{shapes(m['input_shapes'])} → {shapes(m['output_shapes'])}",
            count(m["parameters"]),
            count(m["flops"]),
            size(m["activation_bytes"]),
            _head(m["head"]),
        ]
        if narrow:
            cells[3] = cells[3].replace(" → ", "\n→ ")
            cells[7] = cells[7].replace(" ", "\n", 1)
        table.add_row(*cells, *([f"[{colour}]{drawn}[/]"] if console.is_terminal else []))
    return table


def _facts(program: "Program", summary: dict[str, Any]) -> Any:
    """Bottleneck, cuts, and what verification found, as lines with a title each."""
    from rich.table import Table

    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column()
    if len(summary["modules"]) > 1:
        lines.add_row("bottleneck", _bottleneck(summary))
    for cut, tensors in zip(summary["cuts"], summary["crossing"], strict=True):
        several = f", where {len(tensors)} tensors cross" if len(tensors) > 1 else ""
        paths = [path for path, _ in program.named_modules()]
        lines.add_row("cut", f"{place(cut, paths)}{several}")
    lines.add_row("verified", _verified(program))
    return lines


def _bottleneck(summary: dict[str, Any]) -> str:
    costs = [_balanced(summary, m) for m in summary["modules"]]
    number = _number(summary)
    return (
        f"[bold]{number(summary['bottleneck'])}[/] in module {costs.index(max(costs))}, "
        f"lower bound {number(summary['lower_bound'])}, imbalance {summary['imbalance']:.1%}"
    )


def _verified(program: "Program") -> str:
    report = program.facts.verification
    if report is None:
        return "[dim]no[/]"
    batches = " and ".join(str(b) for b in sorted({c.batch_size for c in report.checks}))
    error = f"differ by {report.max_error:.1g} at most" if report.max_error else "are the same"
    refused = sorted({f"{c.mode} at batch {c.batch_size}" for c in report.checks if c.refused})
    besides = f"; the model itself refuses {', '.join(refused)}" if refused else ""
    return (
        f"[green]✓[/] outputs, gradients and buffers {error}, in train and eval, at batch "
        f"{batches}{besides}"
    )


def place(cut: str, paths: Iterable[str]) -> str:
    """Where a cut falls, in the user's words; a cut is a module's path, or a node's name.

    >>> place("layers.1", ["layers", "layers.1"])
    'behind layers.1'
    >>> place("layers_1_reshape", ["layers", "layers.1"])
    'inside layers.1, behind reshape'
    """
    around = ""
    for path in paths:
        if path == cut:
            return f"behind {cut}"
        if cut.startswith(f"{path.replace('.', '_')}_") and len(path) > len(around):
            around = path
    if not around:
        return f"behind {cut}"
    return f"inside {around}, behind {cut[len(around) + 1 :]}"


def _ranges(modules: list[dict[str, Any]]) -> list[str]:
    """The range of blocks of each module, and whether a cut goes through the first one."""
    ranges = [block_range(modules[0]["blocks"])]
    for before, module in pairwise(modules):
        shared = before["blocks"][-1:] == module["blocks"][:1] != []
        ranges.append(f"{'rest of ' if shared else ''}{block_range(module['blocks'])}")
    return ranges


def block_range(blocks: list[str]) -> str:
    """Blocks as a range of paths.

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


def _heads_total(modules: list[dict[str, Any]]) -> str:
    added = sum(m["head"]["parameters"] for m in modules)
    return f"+ {count(added)}" if added else ""


def _sum(modules: list[dict[str, Any]], key: str) -> int:
    return sum(m[key] for m in modules)


def _balanced(summary: dict[str, Any], module: dict[str, Any]) -> int:
    """What is balanced, of one module."""
    by_depth = summary["balance"] == "depth"
    # where there are no residues, the submodules are what counts
    if by_depth and summary["unit"] == "submodule":
        return len(module["blocks"])
    if by_depth:
        return int(module["residuals"])
    key = COST_KEYS[summary["balance"]]
    return int(module[key] + module["head"][key])


def _number(summary: dict[str, Any]) -> Any:
    if summary["balance"] == "depth":
        return lambda number: plural(number, summary["unit"])
    return size if summary["balance"] == "activations" else count
