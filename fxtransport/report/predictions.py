"""The table of ``fxtransport predict``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from fxtransport.runs.predicting import Prediction


def show_predictions(console: "Console", found: Sequence["Prediction"]) -> None:
    """Print the most probable classes of images.

    Args:
        console: Where to print.
        found: Images that could be read.
    """
    several = any(len(each.exits) > 1 for each in found)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("image", overflow="fold")
    if several:
        table.add_column("exit", justify="right", style="cyan")
    table.add_column("predicted", overflow="fold")
    for each in found:
        for place, said in enumerate(each.exits):
            name = "" if place else escape(each.image)
            guesses = [f"{escape(guess.name)} {guess.probability:.1%}" for guess in said.top]
            shown = "  ".join([f"[bold]{guesses[0]}[/]", *guesses[1:]])
            table.add_row(name, *([str(said.exit)] if several else []), shown)
    console.print(table)
