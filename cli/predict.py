"""``fxtransport predict``: what a run says of images."""

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fxtransport.cli.common import debug_option, out_console, report, trust_option
from fxtransport.cli.paths import paths_of
from fxtransport.cli.run_exits import best_option, exit_option, number_of, parts_of

if TYPE_CHECKING:
    from fxtransport.runs.predicting import ExitGuesses, Prediction

COLUMNS = ("image", "exit", "rank", "class", "probability")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGES...", nargs=-1, required=True)
@click.option(
    "--topk",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Tell the N most probable classes.",
)
@exit_option("best", "all", help="Which exits are asked.  [default: best]")
@best_option
@click.option("--csv", "form", flag_value="csv", help="Comma-separated values, on stdout.")
@click.option("--json", "form", flag_value="json", help="One JSON object for each image, a line.")
@click.option(
    "--batch-size",
    "-b",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    metavar="B",
    help="Images in one forward.",
)
@click.option(
    "--workers",
    type=click.IntRange(0, 1024),
    default=0,
    show_default=True,
    metavar="N",
    help="Processes that read images.",
)
@click.option("--device", metavar="TEXT", help="The device; by default as in training.")
@trust_option
@debug_option
def predict(
    run: Path,
    images: tuple[str, ...],
    topk: int,
    which: str | None,
    best: bool,
    form: str | None,
    batch_size: int,
    workers: int,
    device: str | None,
    trust_files: bool,
) -> None:
    """Predict the classes of IMAGES, files and folders, by a RUN of fxtransport train.

    In the place of one, - stands for names on stdin, one a line. Images are prepared as in
    training; the run's own data is not needed.

    An image that cannot be read gets an error and no class; the others follow, and the exit
    code is 2.

    For example: fxtransport predict run photographs/ --topk 5 --json
    """
    from fxtransport.errors import UsageError
    from fxtransport.runs.identity import read_run
    from fxtransport.runs.load import load_run
    from fxtransport.runs.pictures import find_pictures
    from fxtransport.runs.predicting import Tally
    from fxtransport.runs.predicting import predict as ask

    if not run.is_dir():
        # images ahead of the run, perhaps: their absence would be said first
        read_run(run)
    files = find_pictures(paths_of(images))
    found = load_run(
        run,
        last=not best,
        exit=number_of(which),
        trust_files=trust_files,
        changes={} if device is None else {"trainer.device": device},
    )
    parts = parts_of(found, which or "best")
    chosen = parts[0] if len(parts) == 1 else parts_of(found, "best")[0]
    tally, kept = Tally(), []
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if form == "csv":
        writer.writerow(COLUMNS)
    for each in ask(
        found,
        files,
        exits=parts,
        topk=topk,
        batch_size=batch_size,
        num_workers=workers,
        tally=tally,
    ):
        if each.error:
            report(UsageError(each.error), f"{each.image}: {each.error}")
        if form == "json":
            click.echo(json.dumps(_object(each, chosen)))
        elif form == "csv":
            writer.writerows(_rows(each))
        elif not each.error:
            kept.append(each)
    if kept:
        from fxtransport.report.predictions import show_predictions

        show_predictions(out_console(), kept)
    click.echo(str(tally), err=True)
    if tally.refused:
        raise click.exceptions.Exit(UsageError.exit_code)


def _object(each: "Prediction", chosen: int) -> dict[str, Any]:
    """One image as JSON: what the chosen exit says, and where several were asked, each of them."""
    if each.error:
        return {"image": each.image, "error": each.error}
    said = {exit.exit: _said(exit) for exit in each.exits}
    found = {"image": each.image, **said[chosen]}
    return found if len(said) == 1 else {**found, "exits": list(said.values())}


def _said(found: "ExitGuesses") -> dict[str, Any]:
    first = found.top[0]
    return {
        "exit": found.exit,
        "predicted": first.name,
        "probability": first.probability,
        "top": [{"class": each.name, "probability": each.probability} for each in found.top],
    }


def _rows(each: "Prediction") -> list[tuple[object, ...]]:
    return [
        (each.image, found.exit, rank, guess.name, guess.probability)
        for found in each.exits
        for rank, guess in enumerate(found.top, 1)
    ]
