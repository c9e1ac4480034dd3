"""Tables and pictures of comparisons of networks."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fxtransport.comparing.comparison import Comparison
from fxtransport.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

MEASURES = ("kept", "soft_matching", "cka", "procrustes")
TITLES = ("kept roles", "soft matching", "CKA", "Procrustes")


def show(console: "Console", found: Comparison) -> None:
    """Print a row for each pair of layers, and the conditional distance."""
    from rich.markup import escape
    from rich.table import Table

    console.print(
        f"[bold]{escape(found.a)}[/] and [bold]{escape(found.b)}[/] on {found.samples} samples\n"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    same = all(pair.a == pair.b for pair in found.pairs)
    for title in ("layer",) if same else ("layer of A", "layer of B"):
        table.add_column(title, style="cyan", overflow="fold")
    for title in ("neurons", *TITLES):
        table.add_column(title, justify="right")
    for pair in found.pairs:
        names = [pair.a or "the model"] if same else [pair.a or "the model", pair.b or "the model"]
        one, two = pair.widths
        cells = [_text(getattr(pair.similarity, name)) for name in MEASURES]
        table.add_row(*names, str(one) if one == two else f"{one}, {two}", *cells)
    console.print(table)
    if found.conditional is not None:
        distance = found.conditional
        console.print(
            f"\nconditional OT distance {distance.transport:.4g}, "
            f"with every neuron in its place {distance.l2:.4g}"
        )


def show_along(console: "Console", found: Sequence[tuple[int, Comparison]]) -> None:
    """Print a row for each epoch: means over layers."""
    from rich.markup import escape
    from rich.table import Table

    last = found[-1][1]
    console.print(
        f"[bold]{escape(last.a.rpartition('@')[0])}[/] and [bold]{escape(last.b)}[/] on "
        f"{last.samples} samples, means over layers\n"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("epoch", *TITLES, "conditional OT", "in place"):
        table.add_column(title, justify="right")
    for epoch, each in found:
        cells = [_mean(each, name) for name in MEASURES]
        distance = each.conditional
        ends = ["", ""] if distance is None else [f"{distance.transport:.4g}", f"{distance.l2:.4g}"]
        table.add_row(str(epoch), *cells, *ends)
    console.print(table)


def draw(found: Comparison, file: Path) -> None:
    """Draw the matrix of CKA between all layers, and the measures of pairs over depth.

    Args:
        found: A comparison.
        file: Where; the ending says the format, such as ``.png`` or ``.svg``.

    Raises:
        UsageError: the file cannot be written, or its format is not known.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    matrix, lines = figure.subplots(1, 2)
    image = matrix.imshow(found.cka, vmin=0, vmax=1, origin="lower", aspect="auto")
    matrix.set(title="unbiased CKA", xlabel=f"layer of {found.b}", ylabel=f"layer of {found.a}")
    figure.colorbar(image, ax=matrix)
    depth = range(len(found.pairs))
    for name, title in zip(MEASURES, TITLES, strict=True):
        values = [getattr(pair.similarity, name) for pair in found.pairs]
        known = [value if value is not None else float("nan") for value in values]
        lines.plot(depth, known, marker=".", label=title)
    lines.set(title="layers that correspond", xlabel="layer", ylim=(-0.05, 1.5))
    lines.legend(fontsize="small")
    try:
        figure.savefig(file, dpi=120)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {file}: {error}") from error


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _mean(found: Comparison, name: str) -> str:
    values = [getattr(pair.similarity, name) for pair in found.pairs]
    known = [value for value in values if value is not None]
    return _text(sum(known) / len(known)) if known else ""
