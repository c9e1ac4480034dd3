"""``fxtransport detect score``: judge images."""

import csv
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxtransport.cli.common import debug_option, out_console, report, trust_option
from fxtransport.cli.detect_options import device_option, open_detector, watched_option
from fxtransport.cli.paths import paths_of

if TYPE_CHECKING:
    from fxtransport.detecting.judging import Judged

COLUMNS = ("image", "verdict", "p_value", "score", "predicted")


@click.command()
@click.argument("det", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGES...", nargs=-1, required=True)
@click.option("--detector", metavar="NAME", help="Which detector judges; by default the first.")
@click.option(
    "--fpr",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    metavar="X",
    help="At most this share of clean images is called suspicious.",
)
@click.option("--csv", "form", flag_value="csv", help="Comma-separated values, on stdout.")
@click.option("--json", "form", flag_value="json", help="One JSON object a line, on stdout.")
@watched_option
@device_option
@trust_option
@debug_option
def score(
    det: Path,
    images: tuple[str, ...],
    detector: str | None,
    fpr: float,
    form: str | None,
    watched: Path | None,
    device: str | None,
    trust_files: bool,
) -> None:
    """Judge IMAGES, files and folders, by a detector in DET: clean or suspicious.

    In the place of one, - stands for names on stdin, one a line.

    The p-value is the share of clean images that look at least as suspicious. Of clean images
    that are drawn like those of the calibration, at most --fpr are called suspicious.

    An image that cannot be read gets an error and no verdict; the others follow, and the exit
    code is 2.

    For example: fxtransport detect score det photographs/ --json
    """
    from fxtransport.detecting.judging import judge_files
    from fxtransport.errors import UsageError

    paths = list(paths_of(images))
    found = open_detector(det, watched, device, trust_files=trust_files)
    refused = 0
    judged = []
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if form == "csv":
        click.echo(",".join(COLUMNS))
    for each in judge_files(found, paths, detector, fpr=fpr):
        refused += bool(each.error)
        if each.error:
            report(UsageError(each.error), f"{each.image}: {each.error}")
        if form == "json":
            click.echo(_json(each))
        elif not each.error and form == "csv":
            writer.writerow([getattr(each, name) for name in COLUMNS])
        elif not each.error:
            judged.append(each)
    if form is None and judged:
        _show(judged)
    if refused:
        raise click.exceptions.Exit(UsageError.exit_code)


def _json(each: "Judged") -> str:
    if each.error:
        return json.dumps({"image": each.image, "error": each.error})
    return json.dumps({name: value for name, value in asdict(each).items() if name != "error"})


def _show(judged: "Iterable[Judged]") -> None:
    from fxtransport.report.detection_table import show_judged

    show_judged(out_console(), judged)
