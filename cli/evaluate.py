"""``fxtransport evaluate``: measure the exits of a trained model."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxtransport.cli.common import debug_option, out_console, trust_option

if TYPE_CHECKING:
    from fxtransport.runs.load import Run


def _parse_exit(_: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    if text is None or text in ("best", "all") or text.isdecimal():
        return text
    raise click.BadParameter(
        f"write best, all or the number of a part, not {text!r}", param=parameter
    )


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="validation",
    show_default=True,
    help="What to measure on.",
)
@click.option(
    "--exit",
    "which",
    metavar="K|best|all",
    callback=_parse_exit,
    help="Which exits.  [default: all (validation), best (test)]",
)
@click.option(
    "--best/--last",
    "best",
    default=True,
    help="The weights of the best exit, or those of the last checkpoint.  [default: best]",
)
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
        parts=_parts(found, which or ("best" if split == "test" else "all")),
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


def _parts(found: "Run", which: str) -> tuple[int, ...]:
    """The parts whose exits are measured."""
    from fxtransport.errors import UsageError

    if which == "all":
        return found.exits
    if which == "best":
        return found.exits[-1:] if found.best is None else (found.best.exit.part,)
    if int(which) not in found.exits:
        trained = ", ".join(map(str, found.exits))
        raise UsageError(f"there is no trained exit {which}: there are {trained}")
    return (int(which),)
