"""``fxtransport clouds``: how far each block of a trained model moves the points of its data."""

import json
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fxtransport.cli.common import debug_option, out_console, trust_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fxtransport.ot.clouds import Movement
    from fxtransport.runs.decoding import Decoding

ROWS = 8
"""How many images are drawn unless --rows says so."""


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="validation",
    show_default=True,
    help="Which points.",
)
@click.option(
    "--samples",
    type=click.IntRange(2),
    default=512,
    show_default=True,
    metavar="N",
    help="At most this many.",
)
@click.option(
    "--best/--last",
    "best",
    default=True,
    help="The weights of the best exit, or those of the last checkpoint.  [default: best]",
)
@click.option("--data-dir", metavar="DIR", help="The folder of the data, if it has moved.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw the points after each block, if they are of the plane, or with --autoencoder the "
    "images (needs fxtransport[plots]).",
)
@click.option(
    "--autoencoder",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="What fxtransport autoencode wrote and the run began with: decode what blocks return.",
)
@click.option(
    "--rows",
    type=click.IntRange(1),
    metavar="N",
    help=f"Draw N decoded images, of each class in turn.  [default: {ROWS}]",
)
@trust_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, on stdout.")
@debug_option
def clouds(
    run: Path,
    split: str,
    samples: int,
    best: bool,
    data_dir: str | None,
    picture: Path | None,
    autoencoder: Path | None,
    rows: int | None,
    trust_files: bool,
    as_json: bool,
) -> None:
    """Show how far each identity block of a RUN moves the points of its data.

    Beside the displacement is the exact W₂ between the clouds before and after the block, the
    least that any map would move them. With an autoencoder, whose encoder the run kept frozen,
    is also how far the decoded images change: the root mean square over pixels from 0 to 1,
    against those that are decoded before the first block.

    For example: fxtransport clouds run --picture clouds.png
    """
    import torch

    from fxtransport.errors import UsageError
    from fxtransport.ot.clouds import cloud_movements
    from fxtransport.report.cloud_pictures import clouds_of, draw_clouds, show_movements
    from fxtransport.report.decoded_pictures import draw_decoded
    from fxtransport.report.pictures import check_format, save
    from fxtransport.runs.decoding import decode, one_of_each
    from fxtransport.runs.load import load_run

    if picture is not None:
        check_format(picture)
    if rows is not None and (picture is None or autoencoder is None):
        raise UsageError("--rows is for the picture of images: give --autoencoder and --picture")
    changes = {} if data_dir is None else {"data.root": data_dir}
    found = load_run(run, last=not best, trust_files=trust_files, changes=changes)
    batches = found.data.test if split == "test" else found.data.validation
    if batches is None:
        raise UsageError(f"{run} has no validation split; take --split test")
    pairs = [*islice(iter(batches), samples)]
    points = torch.cat([inputs for inputs, _ in pairs])[:samples]
    classes = torch.cat([targets for _, targets in pairs])[:samples]
    movements = cloud_movements(found.program, points)
    states = [] if picture is None and autoencoder is None else clouds_of(found.program, points)
    shown = None if autoencoder is None else decode(found, autoencoder, points, states)
    if as_json:
        about = {"run": str(run), "split": split, "samples": len(points)}
        click.echo(json.dumps({**about, **_described(movements, shown)}))
    else:
        show_movements(out_console(), movements, () if shown is None else shown.changes)
    if shown is not None:
        click.echo(f"the autoencoder alone changes images by {shown.error:.4f}", err=True)
    if picture is not None:
        if shown is None:
            figure = draw_clouds(states, classes, movements)
        else:
            chosen = one_of_each(classes, rows or ROWS)
            columns = [each[chosen] for each in (shown.images, *shown.decoded)]
            figure = draw_decoded(columns, movements)
        save(figure, picture)
        click.echo(f"drawn: {picture}", err=True)


def _described(movements: "Sequence[Movement]", shown: "Decoding | None") -> dict[str, Any]:
    """The blocks as JSON."""
    blocks = [asdict(each) for each in movements]
    if shown is None:
        return {"blocks": blocks}
    for block in blocks:
        block["image_changed"] = shown.changes[block["block"]]
    return {"autoencoder_changed": shown.error, "blocks": blocks}
