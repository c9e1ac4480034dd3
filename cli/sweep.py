"""``fxtransport sweep``: train one model in several ways, and compare them."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fxtransport.cli.allocator import with_jemalloc
from fxtransport.cli.common import debug_option, out_console, trust_option
from fxtransport.cli.options import (
    GroupedCommand,
    help_all_option,
    implied_values,
    key_options,
    name_set_options,
    option_values,
)
from fxtransport.cli.run_options import check_trusted_model, fix_names
from fxtransport.errors import UsageError
from fxtransport.runs.config import merge_values, parse_assignments, read_config
from fxtransport.runs.keys import all_keys

if TYPE_CHECKING:
    from fxtransport.report.sweep_table import SweptRun
    from fxtransport.runs.sweep import Cell

AXES = {
    "program.modules": ("--modules/-k", "K[,K…]", "The numbers of parts."),
    "program.balance": ("--balance", "NAME[,NAME…]", "What is even among the parts."),
    "objective.method": ("--method", "NAME[,NAME…]", "The methods."),
    "trainer.seed": ("--seed", "N[,N…]", "The seeds, over which tables average."),
}
"""The keys that have an option with several values here."""
TRAIN = "from fxtransport.cli.main import main; main()"
INTERRUPTED = (130, 143)
"""The exit codes of a run that a signal ended, and that is saved."""


def _axis_options(command: Any) -> Any:
    for path, (flags, metavar, text) in reversed(AXES.items()):
        name = path.replace(".", "_")
        command = click.option(*flags.split("/"), name, metavar=metavar, help=text)(command)
    return command


def _keys() -> list[Any]:
    return [
        key for key in all_keys().values() if key.section != "transfer" and key.path not in AXES
    ]


@click.command(cls=GroupedCommand)
@click.argument("name", metavar="[MODEL]", required=False)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="FOLDER",
    help="The folder of the runs, one in each of its folders; what is there goes on.",
)
@_axis_options
@click.option(
    "--vary",
    multiple=True,
    metavar="SECTION.KEY=V[,V…]",
    help="The values of any other key; may be repeated.",
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw accuracy, memory and time (needs fxtransport[plots]).",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a run, on stdout.")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Set what this TOML file sets.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Set a key as in the file; may be repeated.",
)
@trust_option
@debug_option
@help_all_option
@key_options(_keys())
@click.pass_context
def sweep(
    context: click.Context,
    /,
    name: str | None,
    output: Path,
    vary: tuple[str, ...],
    picture: Path | None,
    as_json: bool,
    file: Path | None,
    assignments: tuple[str, ...],
    trust_files: bool,
    **options: Any,
) -> None:
    """Train one MODEL in several ways, and compare accuracy, memory and time.

    There is a run for each combination of parts, balance, method, seed and what --vary names, each
    in a folder and a process of its own. What is finished is not trained again, and what was
    interrupted goes on. All other options are those of train.

    For example: fxtransport sweep resnet18 --method vangl,trgl --modules 2,4 --seed 0,1 -o runs
    """
    from fxtransport.runs.sweep import make_cells, note_cells

    if picture is not None:
        from fxtransport.report.pictures import check_format

        check_format(picture)
    from_options = option_values(context.command, options)
    changes = merge_values(from_options, parse_assignments(assignments))
    if name is not None:
        changes["model.name"] = name
    implied = implied_values(context.command, options)
    values = merge_values(implied, {} if file is None else read_config(file), changes)
    if "model.name" not in values:
        raise click.UsageError("Missing argument 'MODEL', or model.name in the --config")
    if "model.name" not in changes:
        check_trusted_model(values["model.name"], str(file), trust_files=trust_files)
    axes = _axes(options, vary)
    with name_set_options(all_keys(), [*from_options, *(p for p in axes if p in AXES)]):
        cells = make_cells(fix_names(values), axes)
    note_cells(output, cells)
    failed = [cell.name for cell in cells if not _train(output, cell)]
    _show(output, cells, picture, as_json=as_json)
    if failed:
        click.echo(f"failed: {', '.join(failed)}; the same command tries again", err=True)
        context.exit(1)


def _axes(options: dict[str, Any], vary: tuple[str, ...]) -> dict[str, list[Any]]:
    """The values of the keys that vary."""
    from fxtransport.runs.sweep import read_axis

    texts = {path: options[path.replace(".", "_")] for path in AXES}
    found = {path: text for path, text in texts.items() if text is not None}
    for text in vary:
        path, equals, several = text.partition("=")
        if not equals:
            raise UsageError(f"write --vary SECTION.KEY=V,V, not {text!r}")
        if found.setdefault(path, several) != several:
            raise UsageError(f"{path} varies twice: give its values once")
    return {path: read_axis(path, text) for path, text in found.items()}


def _train(output: Path, cell: "Cell") -> bool:
    """Train a run to its end in a process of its own; whether it is there.

    The peak memory of a process is its own, and a run that fails ends no other.
    """
    from fxtransport.training.checkpoint import RunFolder

    run = output / cell.name
    if _is_finished(run):
        click.echo(f"{cell.name}: finished before", err=True)
        return True
    click.echo(f"{cell.name}:", err=True)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.toml"
        config.write_text(cell.to_toml(), encoding="utf-8")
        if run.is_dir() and RunFolder(run).has_checkpoint:
            where = ["--resume", str(run)]
        else:
            where = ["--config", str(config), "--output", str(run)]
        # the model's file was named by whoever began the sweep, or was trusted
        code = _wait([sys.executable, "-c", TRAIN, "train", *where, "--trust-files"])
    if code in INTERRUPTED:
        click.echo("the sweep was interrupted: the same command goes on with it", err=True)
        raise click.exceptions.Exit(code)
    return code == 0


def _wait(command: Sequence[str]) -> int:
    """Run a command to its end, also where a signal says to stop; its results are not ours."""
    # in a session of its own, so that Ctrl-C of a terminal reaches it once: a second one ends it
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, start_new_session=True, env=with_jemalloc()
    ) as process:
        handlers = {
            number: signal.signal(number, lambda received, _: process.send_signal(received))
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            return process.wait()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _is_finished(run: Path) -> bool:
    from fxtransport.training.checkpoint import RunFolder
    from fxtransport.training.progress import read_progress

    saved = RunFolder(run)
    return saved.has_checkpoint and read_progress(saved.read().state).finished


def _show(output: Path, cells: "Sequence[Cell]", picture: Path | None, *, as_json: bool) -> None:
    """Print what came out of all runs that have an epoch."""
    from fxtransport.report.curves import curves_json
    from fxtransport.report.pictures import save
    from fxtransport.report.sweep_table import draw_sweep, show_sweep

    runs = [_swept(output, cell) for cell in cells]
    if as_json:
        for cell, run in zip(cells, runs, strict=True):
            if run.record is not None:
                about = {"varied": dict(cell.varied), **curves_json(cell.name, run.record)}
                click.echo(json.dumps(about))
    else:
        show_sweep(out_console(), runs)
    if picture is not None:
        save(draw_sweep(runs), picture)
        click.echo(f"drawn: {picture}", err=True)


def _swept(output: Path, cell: "Cell") -> "SweptRun":
    from fxtransport.report.sweep_table import SweptRun
    from fxtransport.training.metrics import METRICS
    from fxtransport.training.records import read_record

    run = output / cell.name
    return SweptRun(cell.varied, read_record(run) if (run / METRICS).exists() else None)
