"""``fxtransport clouds``: how far each block of a trained model moves the points of its data."""

import json
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import click

from fxtransport.cli.common import debug_option, out_console, trust_option


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
    help="Draw the points after each block, if they are of the plane (needs fxtransport[plots]).",
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
    trust_files: bool,
    as_json: bool,
) -> None:
    """Show how far each identity block of a RUN moves the points of its data.

    Beside the displacement is the exact W₂ between the clouds before and after the block, the
    least that any map would move them.

    For example: fxtransport clouds run --picture clouds.png
    """
    import torch

    from fxtransport.errors import UsageError
    from fxtransport.ot.clouds import cloud_movements
    from fxtransport.report.cloud_pictures import clouds_of, draw_clouds, show_movements
    from fxtransport.report.pictures import check_format, save
    from fxtransport.runs.load import load_run

    if picture is not None:
        check_format(picture)
    changes = {} if data_dir is None else {"data.root": data_dir}
    found = load_run(run, last=not best, trust_files=trust_files, changes=changes)
    batches = found.data.test if split == "test" else found.data.validation
    if batches is None:
        raise UsageError(f"{run} has no validation split; take --split test")
    pairs = [*islice(iter(batches), samples)]
    points = torch.cat([inputs for inputs, _ in pairs])[:samples]
    classes = torch.cat([targets for _, targets in pairs])[:samples]
    movements = cloud_movements(found.program, points)
    if as_json:
        about = {"run": str(run), "split": split, "samples": len(points)}
        click.echo(json.dumps({**about, "blocks": [asdict(each) for each in movements]}))
    else:
        show_movements(out_console(), movements)
    if picture is not None:
        save(draw_clouds(clouds_of(found.program, points), classes, movements), picture)
        click.echo(f"drawn: {picture}", err=True)
