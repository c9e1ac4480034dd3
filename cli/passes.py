"""``fxtransport passes``: the compiler's passes."""

import json as json_text

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def passes(as_json: bool) -> None:
    """List the passes in the order in which they run, with options, needs and results."""
    from rich.console import Console
    from rich.table import Table

    from fxtransport.passes.pipeline import REGISTRY, describe

    described = [describe(name) for name in REGISTRY]
    if as_json:
        for entry in described:
            click.echo(json_text.dumps(entry))
        return
    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    for title in ("pass", "what it does", "options", "requires", "provides"):
        table.add_column(title, overflow="fold")
    for entry in described:
        options = "\n".join(f"{k}={v}" for k, v in entry["options"].items())
        table.add_row(
            f"[cyan]{entry['name']}[/]" + (" [yellow]✎[/]" if entry["rewrites"] else ""),
            entry["summary"],
            options,
            "\n".join(entry["requires"]),
            "\n".join(entry["provides"]),
        )
    console = Console()
    console.print(table)
    console.print("[dim]✎ rewrites the graph; the others only read it[/]")
