"""``fxtransport evaluate``: measure the exits of a trained model."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fxtransport.cli.common import debug_option, out_console, trust_option
from fxtransport.cli.run_exits import best_option, exit_option, number_of, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fxtransport.runs.load import Run


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["validation", "test", "train", "all"]),
    help="What to measure on.  [default: validation; of --data, all]",
)
@exit_option("best", "all", help="Which exits.  [default: all; on the run's test split, best]")
@best_option
@click.option("--device", metavar="TEXT", help="The device; by default as in training.")
@click.option(
    "--data",
    metavar="NAME",
    help="Measure on other data, which has classes of the run: a set or a folder of images.",
)
@click.option("--data-dir", metavar="DIR", help="The folder of the data, if it has moved.")
@click.option("--download", is_flag=True, help="Fetch other data if it is not there.")
@click.option("--data-arg", multiple=True, metavar="KEY=VALUE", help="An option of other data.")
@trust_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, on stdout.")
@debug_option
def evaluate(
    run: Path,
    split: str | None,
    which: str | None,
    best: bool,
    device: str | None,
    data: str | None,
    data_dir: str | None,
    download: bool,
    data_arg: tuple[str, ...],
    trust_files: bool,
    as_json: bool,
) -> None:
    """Measure accuracy and loss of the exits of a RUN of fxtransport train.

    The test split is measured only with --split test, at the exit that was the best on the
    validation split.

    Other data is prepared as the run's is, and the run's own is not needed. --split all takes
    all of it.

    For example: fxtransport evaluate run --split test
    """
    from fxtransport.cli.run_table import show_exits
    from fxtransport.errors import UsageError
    from fxtransport.runs.load import load_run
    from fxtransport.training import evaluate as measure
    from fxtransport.training.devices import move_program

    if data is None and (download or data_arg):
        raise UsageError("--download and --data-arg belong to --data")
    split = split or ("validation" if data is None else "all")
    changes = {"trainer.device": device, "data.root": data_dir if data is None else None}
    found = load_run(
        run,
        last=not best,
        exit=number_of(which),
        trust_files=trust_files,
        changes={path: value for path, value in changes.items() if value is not None},
    )
    parts = parts_of(found, which or ("best" if (data, split) == (None, "test") else "all"))
    if data is None:
        batches = _own(found, split)
    else:
        batches = _other(found, data, split, data_dir, data_arg, download=download)
    settings = found.settings.trainer
    move_program(found.program, found.settings.objective, settings)
    began = time.perf_counter()
    exits = measure(found.program, batches, parts=parts, amp=settings.amp)
    seconds = time.perf_counter() - began
    marked = None if found.best is None else found.best.exit.part
    samples = exits[0].samples
    click.echo(f"{samples} samples in {seconds:.2f} s: {samples / seconds:.0f}/s", err=True)
    if not as_json:
        show_exits(out_console(), exits, split if data is None else Path(data).name, marked)
        return
    summary = {
        "run": str(run),
        "data": data or found.config["data.name"],
        "split": split,
        "weights": "best" if best else "last",
        "epochs": found.epochs,
        "best_exit": marked,
        "samples_per_second": samples / seconds,
        "exits": [asdict(exit) for exit in exits],
    }
    click.echo(json.dumps(summary))


def _own(found: "Run", split: str) -> "Iterable[Any]":
    """A split of the run's data.

    Raises:
        UsageError: there is none, or it is not to measure on.
    """
    from fxtransport.errors import UsageError

    if split not in ("validation", "test"):
        raise UsageError(
            f"--split {split} is for other data (--data): of the run's own, take validation or test"
        )
    batches = found.data.require_test() if split == "test" else found.data.validation
    if batches is None:
        raise UsageError(f"{found.folder} has no {split} split; take --split test")
    return batches


def _other(
    found: "Run",
    data: str,
    split: str,
    root: str | None,
    arguments: tuple[str, ...],
    *,
    download: bool,
) -> "Iterable[Any]":
    """Other data, for the run's model.

    Raises:
        UsageError: it is the run's own, or cannot be loaded.
    """
    from fxtransport.errors import UsageError
    from fxtransport.runs.config import parse_pair
    from fxtransport.runs.other_data import OtherSet, load_other

    own = found.config["data.name"]
    if not arguments and (
        data == own or (Path(data).is_dir() and str(Path(data).absolute()) == own)
    ):
        raise UsageError(
            f"{data} is what the run was trained on: leave out --data, and take --split test"
        )
    other = OtherSet(data, root, download, dict(map(parse_pair, arguments)))
    return load_other(
        found.inputs,
        other,
        split,
        batch_size=found.config.get("data.eval_batch_size") or found.config["data.batch_size"],
        num_workers=found.config["data.num_workers"],
    )
