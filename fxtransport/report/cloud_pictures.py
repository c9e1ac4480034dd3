"""Points of the plane after each block of a network, and how far each block moves them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fxtransport.errors import UsageError
from fxtransport.modes import eval_mode
from fxtransport.ot.clouds import Movement
from fxtransport.program import Program
from fxtransport.report.pictures import panels
from fxtransport.residue import Residue

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console


def clouds_of(program: Program, points: Tensor) -> list[Tensor]:
    """The points as the first block is given them, and after each block.

    Args:
        program: Any program.
        points: n inputs of the model, in one batch.

    Returns:
        Clouds, n×…, one more than there are blocks, on the CPU; empty without blocks.
    """
    found: list[Tensor] = []

    def measure(residue: Residue) -> None:
        if not found:
            found.append(residue.skip.detach().cpu())
        found.append(residue.output.detach().cpu())

    with eval_mode(program), torch.no_grad():
        program(points, measure=measure)
    return found


def show_movements(
    console: "Console", movements: Sequence[Movement], changes: Sequence[float] = ()
) -> None:
    """Print how far each block moves the points, and how far the optimal map would.

    Args:
        console: Where to print.
        movements: Of the identity blocks.
        changes: How far the decoded images are from those before the first block, after each of
            all blocks; empty if nothing was decoded.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("block", style="cyan")
    for heading in ("displacement", "W₂", "optimality", "moved elsewhere"):
        table.add_column(heading, justify="right")
    if changes:
        table.add_column("image changed", justify="right")
    for each in movements:
        numbers = (each.displacement, each.distance, each.optimality)
        changed = [f"{changes[each.block]:.4f}"] if changes else []
        table.add_row(each.path, *(f"{n:.4g}" for n in numbers), f"{each.moved:.1%}", *changed)
    console.print(table)


def draw_clouds(
    clouds: Sequence[Tensor], classes: Tensor, movements: Sequence[Movement]
) -> "Figure":
    """Draw the clouds, if they are of the plane, and W₂ beside the displacement of each block.

    THESIS 3.2.2, figure 12, and F.5, figures 37 to 41.

    Args:
        clouds: What :func:`clouds_of` returned.
        classes: The class of each point.
        movements: Of the identity blocks.

    Raises:
        UsageError: there are no blocks.
    """
    if not clouds:
        raise UsageError("the program has no residual block, so there are no clouds to draw")
    flat = clouds if all(c.dim() == 2 and c.shape[1] == 2 for c in clouds) else []
    figure, axes = panels(len(flat) + 1, 5, (3.0, 3.0))
    for number, (axis, cloud) in enumerate(zip(axes, flat, strict=False)):
        for label in classes.unique().tolist():
            own = cloud[classes == label]
            axis.plot(own[:, 0], own[:, 1], f"C{label % 10}.", markersize=3)
        axis.set(title=f"after block {number}" if number else "before block 1")
    last, places = axes[-1], range(1, len(movements) + 1)
    last.plot(places, [each.displacement for each in movements], "C0o-", label="displacement")
    last.plot(places, [each.distance for each in movements], "C1.--", label="W₂")
    last.set(title="along depth", xlabel="identity block")
    last.legend(fontsize="small")
    return figure
