"""Train as a configuration says, show the progress, and print the results."""

import shlex
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click
import torch

from fxtransport.cli.common import compiling, name_options, out_console
from fxtransport.cli.progress import PeakMemory, show_progress
from fxtransport.cli.run_table import show
from fxtransport.errors import (
    MODEL_ERRORS,
    FxTransportError,
    RunInterruptedError,
    SavedProgramError,
    TrainingError,
    first_line,
)
from fxtransport.files import check_writable
from fxtransport.names import resolve
from fxtransport.program import Program
from fxtransport.report.words import plural
from fxtransport.runs.budget import fit_recipe
from fxtransport.runs.checked import read_checked
from fxtransport.runs.config import Config
from fxtransport.runs.fit import fit_run
from fxtransport.runs.identity import check_same_config
from fxtransport.runs.recipe import Recipe, make_recipe
from fxtransport.runs.settings import choose_device
from fxtransport.runs.transfer import prepare_transfer
from fxtransport.training import keep_freed_memory
from fxtransport.training.checkpoint import RunFolder
from fxtransport.training.metrics import LostMetricsWarning
from fxtransport.training.saver import ThreadsWarning

_NO_MEMORY = "can't allocate memory"
"""What torch says where a CPU has none left."""
_WORKER = "DataLoader worker"
"""What torch says of a process that was killed."""
SYMBOLS = {"trgl": "τ"}
"""What the multiplier of an objective is called, where it is not λ."""


def run_training(run: Path, config: Config, *, resume: bool, trust_files: bool = False) -> None:
    """Train, from the beginning or from the last checkpoint, and print a table.

    Args:
        run: The run's folder.
        config: Everything that is set.
        resume: Go on from the last checkpoint, if there is one.
        trust_files: Whether a Python file that a teacher's folder names may be run.

    Raises:
        FxTransportError: something cannot be used, built, written or trained.
    """
    check_writable(run, SavedProgramError)
    symbol, device = SYMBOLS.get(config["objective.method"], "λ"), choose_device(config)
    if device == "cpu":
        keep_freed_memory()
    goes_on = resume and RunFolder(run).has_checkpoint
    with compiling(config["model.name"]):
        recipe = make_recipe(config, checked=read_checked(run) if goes_on else None)
        if config.get("program.fit"):
            recipe, note = fit_recipe(recipe, trust_files=trust_files)
            click.echo(note, err=True)
        told: list[str] = []
        program = recipe.program(new=not goes_on, tell=told.append)
        transfer, notes = prepare_transfer(
            recipe, program, new=not goes_on, trust_files=trust_files
        )
    headline = name_options(_headline(recipe, program))
    click.echo("\n".join(filter(None, [headline, *told, notes])), err=True)
    for path, values in check_same_config(run, recipe.config, extend=True).items():
        before, now = ("not set" if value is None else value for value in values)
        click.echo(f"from here on, {path} is {now}, and was {before}", err=True)
    started, peak = time.perf_counter(), PeakMemory()
    with show_progress(symbol, device) as progress, _explain(run, config), _show_warnings():
        report = fit_run(
            run,
            recipe,
            program,
            resume=goes_on,
            extend=True,
            observers=[progress, peak],
            transfer=transfer,
            tell=lambda text: click.echo(f"warning: {name_options(text)}", err=True),
        )
    seconds = time.perf_counter() - started
    show(out_console(), report, run, seconds=seconds, memory=peak.bytes)


@contextmanager
def _show_warnings() -> Iterator[None]:
    """Show what is said of a run in one line each, as errors are, and other warnings as usual."""
    usual = warnings.showwarning

    def show_one(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, LostMetricsWarning | ThreadsWarning):
            click.echo(f"warning: {message}", err=True)
        else:
            usual(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.showwarning = show_one
        yield


@contextmanager
def _explain(run: Path, config: Config) -> Iterator[None]:
    """Say in errors of training how to go on, where that helps."""
    trust = " --trust-files" if resolve(config["model.name"]).library == "file" else ""
    again = f"go on with: fxtransport train --resume {shlex.quote(str(run))}{trust}"
    try:
        yield
    except RunInterruptedError as error:
        raise RunInterruptedError(f"{error}; {again}", error.signal) from error
    except FxTransportError:
        raise
    except (*MODEL_ERRORS, MemoryError) as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or _NO_MEMORY in str(error):
            raise TrainingError(
                "the device has too little memory; train in more --modules, with a smaller "
                "--batch-size, or in pieces (--accumulate)"
            ) from error
        passes = isinstance(error, torch.AcceleratorError) or _WORKER in str(error)
        raise TrainingError(
            f"training failed: {type(error).__name__}: {first_line(error)}; "
            + (again if passes else "a run that is resumed comes to the same step again")
        ) from error


def _headline(recipe: Recipe, program: Program) -> str:
    config = recipe.config
    schedule, count = config["schedule.name"], len(program.parts)
    parts = "" if schedule == "end-to-end" else f", {plural(count, 'part')}"
    data = recipe.data
    said = "\n".join(
        (
            f"{recipe.origin.model}, {config['objective.method']}, {schedule}{parts}",
            data.description,
            *(f"  {split}: {source}" for split, source in data.sources.items()),
            *(f"  {note}" for note in data.notes),
        )
    )
    # a folder was given by a shorter name, most often
    return said.replace(f"{Path.cwd()}/", "")
