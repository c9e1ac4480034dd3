"""Train as a configuration says, show it, and say what came of it."""

import shlex
import time
from pathlib import Path

import click
import torch

from fxtransport.cli.common import out_console
from fxtransport.cli.runs.progress import shown_progress
from fxtransport.cli.runs.table import show
from fxtransport.errors import (
    MODEL_ERRORS,
    FxTransportError,
    RunInterruptedError,
    SavedProgramError,
    TrainingError,
    first_line,
)
from fxtransport.files import check_writable
from fxtransport.program import Program
from fxtransport.runs.config import CONFIG, Config
from fxtransport.runs.load import building
from fxtransport.runs.recipe import Recipe, recipe_of
from fxtransport.runs.settings import (
    device_of,
    objective_of,
    optimizer_of,
    schedule_of,
    settings_of,
)
from fxtransport.training import FitReport, Observer, Trainer, keep_freed_memory
from fxtransport.training.checkpoint import RunFolder
from fxtransport.training.devices import peak_memory

SYMBOLS = {"trgl": "τ"}
"""The symbol of an objective's multiplier, where it is not λ."""


def run_training(run: Path, config: Config, *, resume: bool) -> None:
    """Train, from the beginning or from the last checkpoint, and print a table.

    Args:
        run: The run's folder.
        config: All that is set.
        resume: Go on where the last checkpoint is, if there is one.

    Raises:
        FxTransportError: something cannot be used, built, written or trained.
    """
    check_writable(run, SavedProgramError)
    symbol, device = SYMBOLS.get(config["objective.method"], "λ"), device_of(config)
    if device == "cpu":
        keep_freed_memory()
    goes_on = resume and RunFolder(run).has_checkpoint
    with building(config["model.name"]):
        recipe = recipe_of(config)
        program = recipe.program(new=not goes_on)
    click.echo(_headline(recipe, program), err=True)
    started = time.perf_counter()
    with shown_progress(symbol, device) as progress:
        report = _fit(run, recipe, program, progress, goes_on=goes_on)
    seconds = time.perf_counter() - started
    show(out_console(), report, run, seconds=seconds, memory=peak_memory(torch.device(device)))


def _fit(
    run: Path, recipe: Recipe, program: Program, progress: Observer, *, goes_on: bool
) -> FitReport:
    config, splits = recipe.config, recipe.splits
    trainer = Trainer(
        program,
        objective_of(config, len(program.parts)),
        schedule_of(config),
        optimizer=optimizer_of(config),
        settings=settings_of(config),
        run=run,
        observers=[progress],
    )
    if goes_on:
        trainer.restore()
    folder = RunFolder(run)
    with folder.new_file(CONFIG) as beside:
        beside.write_text(config.to_toml(), encoding="utf-8")
        folder.put(beside, CONFIG)
    again = f"go on with: fxtransport train --resume {shlex.quote(str(run))}"
    try:
        return trainer.fit(splits.train, splits.validation, splits.test)
    except RunInterruptedError as error:
        raise RunInterruptedError(f"{error}; {again}", error.signal) from error
    except FxTransportError:
        raise
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            "the device has too little memory; train in more --modules, with a smaller "
            "--batch-size, or in pieces (--accumulate)"
        ) from error
    except MODEL_ERRORS as error:
        raise TrainingError(
            f"training failed: {type(error).__name__}: {first_line(error)}; {again}"
        ) from error


def _headline(recipe: Recipe, program: Program) -> str:
    config = recipe.config
    schedule, count = config["schedule.name"], len(program.parts)
    modules = "" if schedule == "end-to-end" else f", {count} modules"
    return (
        f"{recipe.spec.canonical}, {config['objective.method']}, {schedule}{modules}\n"
        f"{recipe.splits.description}"
    )
