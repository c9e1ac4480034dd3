"""The table that ``fxtransport split`` prints."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from fxtransport.program import Program

BAR = 14
"""The width of the longest bar."""
EIGHTHS = " ▏▎▍▌▋▊▉█"


def show(console: "Console", program: "Program", summary: dict[str, Any]) -> None:
    """Print the modules, totals, how even they are, and where the cuts fall."""
    from rich.table import Table
    from rich.text import Text

    modules = summary["modules"]
    costs = [_balanced(summary, m) for m in modules]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("module", justify="right", style="cyan")
    table.add_column("blocks", overflow="fold")
    for title in (f"{summary['unit']}s", "params", "FLOPs", "activations"):
        table.add_column(title, justify="right")
    table.add_column("hidden out")
    table.add_column("head")
    if console.is_terminal:
        table.add_column(_bar_title(summary))
    for m, cost in zip(modules, costs, strict=True):
        row = [
            str(m["index"]),
            block_range(m["blocks"]),
            str(m["residuals"]),
            count(m["parameters"]),
            count(m["flops"]),
            size(m["activation_bytes"]),
            " + ".join("×".join(map(str, s)) for s in m["output_shapes"]) or "–",
            _head(m["head"]),
        ]
        bar = Text(_bar(cost, max(costs)), style="yellow" if cost == max(costs) else "green")
        table.add_row(*row, *([bar] if console.is_terminal else []))
    table.add_section()
    table.add_row(
        "",
        "[bold]total[/]",
        str(sum(m["residuals"] for m in modules)),
        count(sum(m["parameters"] for m in modules)),
        count(sum(m["flops"] for m in modules)),
        size(sum(m["activation_bytes"] for m in modules)),
    )
    inputs = modules[0]["input_shapes"]
    given = " + ".join("×".join(map(str, s)) for s in inputs)
    console.print(
        f"[bold]{summary['model']}[/]  input {given}, cut into {len(modules)} "
        f"{_equally(summary)} modules; activations at batch {summary['batch_size']}"
    )
    console.print(table)
    _print_facts(console, program, summary)


def _print_facts(console: "Console", program: "Program", summary: dict[str, Any]) -> None:
    unit = _unit(summary)
    console.print(
        f"bottleneck [bold]{unit(summary['bottleneck'])}[/], lower bound "
        f"{unit(summary['lower_bound'])}, imbalance {summary['imbalance']:.1%}"
    )
    if summary["cuts"]:
        console.print(f"cuts behind {', '.join(summary['cuts'])}")
    report = program.facts.verification
    if report is None:
        console.print("[dim]not verified[/]")
        return
    batches = " and ".join(str(b) for b in sorted({c.batch_size for c in report.checks}))
    console.print(
        f"[green]✓[/] outputs, gradients and buffers equal the model's in train and eval at "
        f"batch {batches}; largest difference {report.max_error:.3g}"
    )


def block_range(blocks: list[str]) -> str:
    """Blocks as a range of paths: ``layer1.0 … layer2.1``."""
    if len(blocks) < 2:
        return "".join(blocks) or "–"
    return f"{blocks[0]} … {blocks[-1]}"


def count(number: int) -> str:
    """A number with three digits: 28.3 M."""
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {letter}"
    return str(number)


def size(number: int) -> str:
    """Bytes with three digits: 812 MiB."""
    for limit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= limit:
            return f"{number / limit:.3g} {name}"
    return f"{number} B"


def _head(head: dict[str, Any]) -> str:
    if head["kind"] == "model":
        return "[dim]the model's own[/]"
    if head["kind"] == "none":
        return "[dim]none[/]"
    return f"{head['kind']} {count(head['parameters'])}"


def _balanced(summary: dict[str, Any], module: dict[str, Any]) -> int:
    """What is balanced, of one module."""
    if summary["balance"] == "depth":
        key = "residuals"
    else:
        key = {"activations": "activation_bytes"}.get(summary["weight"], summary["weight"])
    value: int = module[key]
    return value


def _unit(summary: dict[str, Any]) -> Any:
    if summary["balance"] == "depth":
        return lambda number: f"{number} {summary['unit']}s"
    return size if summary["weight"] == "activations" else count


def _equally(summary: dict[str, Any]) -> str:
    if summary["balance"] == "depth":
        return "equally deep"
    return f"equally heavy ({summary['weight']})"


def _bar_title(summary: dict[str, Any]) -> str:
    return f"{summary['unit']}s" if summary["balance"] == "depth" else str(summary["weight"])


def _bar(value: int, longest: int) -> str:
    eighths = round(8 * BAR * value / longest) if longest else 0
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
