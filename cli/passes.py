"""``fxtransport passes``: the compiler's passes."""

import json
from typing import TYPE_CHECKING

import click

from fxtransport.cli.common import out_console

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fxtransport.passes.pipeline import PassDescription


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def passes(as_json: bool) -> None:
    """List the passes with their options, what they require and what they provide.

    A pipeline names those that matter, with options: trace,partition{modules=4}. What they
    require runs before them.
    """
    from fxtransport.passes.pipeline import REGISTRY, describe

    described = [describe(name) for name in REGISTRY]
    if as_json:
        for entry in described:
            click.echo(json.dumps(entry))
        return
    console = out_console()
    for entry in described:
        does = "rewrites the graph" if entry["rewrites"] else "reads only"
        console.print(f"[bold cyan]{entry['name']}[/]  [dim]{does}[/]")
        console.print(_details(entry))


def _details(entry: "PassDescription") -> "RenderableType":
    from rich.padding import Padding
    from rich.table import Table

    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column()
    lines.add_row("does", entry["summary"])
    options = " ".join(f"{name}={value}" for name, value in entry["options"].items())
    for title, words in (
        ("options", options),
        ("requires", ", ".join(entry["requires"])),
        ("provides", ", ".join(entry["provides"])),
    ):
        if words:
            lines.add_row(title, words)
    return Padding(lines, (0, 0, 1, 2), expand=False)
