"""``fxtransport curves``: how runs went, in one table and one picture."""

import json
from pathlib import Path

import click

from fxtransport.cli.common import debug_option, out_console


@click.command()
@click.argument("runs", type=click.Path(path_type=Path), metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw accuracy, loss, cost, multipliers and learning rates (needs fxtransport[plots]).",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a run, on stdout.")
@debug_option
def curves(runs: tuple[Path, ...], picture: Path | None, as_json: bool) -> None:
    """Show how RUNs of fxtransport train went, beside one another.

    A row for each exit says its accuracy in validation, its loss, cost and multiplier. Runs may
    still go on. Nothing but their folders is read.

    For example: fxtransport curves first second --picture curves.png
    """
    from fxtransport.report.curve_pictures import draw_curves
    from fxtransport.report.curves import curves_json, show_curves
    from fxtransport.report.pictures import check_format, save
    from fxtransport.training.records import read_record, short_names

    if picture is not None:
        check_format(picture)
    records = [read_record(run) for run in dict.fromkeys(runs)]
    if as_json:
        for name, record in zip(short_names([r.folder for r in records]), records, strict=True):
            click.echo(json.dumps(curves_json(name, record)))
    else:
        show_curves(out_console(), records)
    if picture is not None:
        save(draw_curves(records), picture)
        click.echo(f"drawn: {picture}", err=True)
