"""``fxtransport evaluate``: measure the exits of a trained model."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from fxtransport.cli.common import debug_option, out_console, trust_option
from fxtransport.cli.run_exits import best_option, exit_option, number_of, parts_of


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="validation",
    show_default=True,
    help="What to measure on.",
)
@exit_option("best", "all", help="Which exits.  [default: all (validation), best (test)]")
@best_option
@click.option("--device", metavar="TEXT", help="The device; by default as in training.")
@click.option("--data-dir", metavar="DIR", help="The folder of the data, if it has moved.")
@trust_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, on stdout.")
@debug_option
def evaluate(
    run: Path,
    split: str,
    which: str | None,
    best: bool,
    device: str | None,
    data_dir: str | None,
    trust_files: bool,
    as_json: bool,
) -> None:
    """Measure accuracy and loss of the exits of a RUN of fxtransport train.

    The test split is measured only with --split test, at the exit that was the best on the
    validation split.

    For example: fxtransport evaluate run --split test
    """
    changes = {"trainer.device": device, "data.root": data_dir}
    from fxtransport.cli.run_table import show_exits
    from fxtransport.errors import UsageError
    from fxtransport.runs.load import load_run
    from fxtransport.training import evaluate as measure
    from fxtransport.training.devices import move_program

    found = load_run(
        run,
        last=not best,
        exit=number_of(which),
        trust_files=trust_files,
        changes={path: value for path, value in changes.items() if value is not None},
    )
    batches = found.data.require_test() if split == "test" else found.data.validation
    if batches is None:
        raise UsageError(f"{run} has no validation split; take --split test")
    settings = found.settings.trainer
    move_program(found.program, found.settings.objective, settings)
    exits = measure(
        found.program,
        batches,
        parts=parts_of(found, which or ("best" if split == "test" else "all")),
        amp=settings.amp,
    )
    marked = None if found.best is None else found.best.exit.part
    if not as_json:
        show_exits(out_console(), exits, split, marked)
        return
    summary = {
        "run": str(run),
        "split": split,
        "weights": "best" if best else "last",
        "epochs": found.epochs,
        "best_exit": marked,
        "exits": [asdict(exit) for exit in exits],
    }
    click.echo(json.dumps(summary))
