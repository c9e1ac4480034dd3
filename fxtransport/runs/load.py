"""Load a run: its program with weights that it has found, its data and its settings."""

import os
from dataclasses import dataclass
from pathlib import Path

from fxtransport.data import Splits
from fxtransport.errors import UsageError
from fxtransport.names import check_trusted, resolve
from fxtransport.origin import Origin
from fxtransport.program import Program
from fxtransport.runs.config import CONFIG, Config, Values
from fxtransport.runs.identity import read_run
from fxtransport.runs.recipe import make_recipe
from fxtransport.runs.settings import RunSettings, make_settings
from fxtransport.training import Best
from fxtransport.training.checkpoint import CHECKPOINT, Checkpoint, KeptWeights, RunFolder
from fxtransport.training.identity import (
    check_same_data,
    check_same_program,
    describe_data,
)
from fxtransport.training.progress import Progress, check_progress, read_progress
from fxtransport.weights import load_state, load_weights


@dataclass(frozen=True)
class Run:
    """A run of ``fxtransport train``, loaded.

    Args:
        folder: Where it is.
        config: Everything that is set.
        program: With weights that the run has found, on the CPU.
        data: The splits that it trains, validates and tests on.
        settings: Objective, schedule, optimizer and trainer settings.
        origin: The model's name, with what its constructor is given.
        input_size: The shape of one input.
        best: The best exit; None if nothing was validated.
        exits: The parts whose heads have been trained.
        epochs: After how many epochs the program had these weights.
        averaged: Whether they are a moving average.
    """

    folder: Path
    config: Config
    program: Program
    data: Splits
    settings: RunSettings
    origin: Origin
    input_size: tuple[int, ...]
    best: Best | None
    exits: tuple[int, ...]
    epochs: int
    averaged: bool


def load_run(
    folder: str | os.PathLike[str],
    *,
    last: bool = False,
    average: bool | None = None,
    epoch: int | None = None,
    trust_files: bool = False,
    changes: Values | None = None,
) -> Run:
    """Build the program of a run, and load weights that the run has found.

    Args:
        folder: The run's, in which ``fxtransport train`` wrote.
        last: Load the weights of the last checkpoint, not those of the best exit.
        average: Whether to load the moving average of the weights; None: if there is one. The
            best weights are the average's, if there is one.
        epoch: Load the weights that the run had after so many epochs, if it kept them; see
            :func:`kept_epochs`.
        trust_files: Whether a Python file that the configuration names may be run, to build the
            model. Give it only for runs whose author you trust.
        changes: Other values of keys that do not change what is computed, such as
            ``{"trainer.device": "cpu"}``.

    Raises:
        UsageError: the folder does not hold a run, there are no such weights, or the model needs
            a Python file and ``trust_files`` is not given.
        CheckpointError: the weights cannot be read, or the configuration, the data or the model's
            code is not what the run began with.
    """
    run = Path(folder)
    config = read_run(run)
    check_trusted(resolve(config["model.name"]), str(run / CONFIG), trust_files=trust_files)
    if changes:
        config = config.with_changes(changes, run)
    saved = RunFolder(run)
    checkpoint = saved.read()
    state, progress = checkpoint.state, read_progress(checkpoint.state)
    kept = None if epoch is None else _find_kept(run, checkpoint, epoch)
    if kept is None:
        _check_weights(run, checkpoint, progress, last=last, average=average)
    elif last or average is not None:
        raise UsageError("the weights after an epoch are one set: leave out last and average")

    recipe = make_recipe(config)
    data = recipe.data
    check_same_data(
        checkpoint.summary.get("data") or {}, describe_data(data.train, data.validation, data.test)
    )
    program = recipe.program(new=False)
    check_same_program(checkpoint.summary.get("run"), program.graph_hash)
    settings = make_settings(config, len(program.parts))
    phases = settings.schedule.phases(len(settings.schedule.parts_of(program)))
    check_progress(progress, phases, len(program.parts))
    averaged = progress.averaged and average is not False
    if kept is not None:
        load_weights(program, saved.read_tensors(kept.weights), run / kept.weights.file)
    elif last:
        load_state(program, state["ema" if averaged else "program"], run / CHECKPOINT)
    else:
        assert checkpoint.best is not None
        load_weights(program, saved.read_tensors(checkpoint.best), run / checkpoint.best.file)
    return Run(
        folder=run,
        config=config,
        program=program,
        data=recipe.data,
        settings=settings,
        origin=recipe.origin,
        input_size=recipe.shape,
        best=progress.best,
        exits=tuple(exit.part for exit in progress.exits) or tuple(range(len(program.parts))),
        epochs=_epochs(progress, kept, last=last),
        averaged=averaged,
    )


def kept_epochs(folder: str | os.PathLike[str]) -> tuple[int, ...]:
    """After how many epochs a run kept its weights, in order; empty if it kept none.

    Raises:
        CheckpointError: the folder holds no run, or it is damaged.
    """
    return tuple(kept.epochs for kept in RunFolder(folder).read().kept)


def _find_kept(run: Path, checkpoint: Checkpoint, epoch: int) -> KeptWeights:
    for kept in checkpoint.kept:
        if kept.epochs == epoch:
            return kept
    there = ", ".join(str(kept.epochs) for kept in checkpoint.kept)
    raise UsageError(
        f"{run} has no weights of epoch {epoch}: "
        + (f"it kept those of {there}" if there else "it was trained without keep_checkpoints")
    )


def _epochs(progress: Progress, kept: KeptWeights | None, *, last: bool) -> int:
    """After how many epochs the program had the weights that are loaded."""
    if kept is not None:
        return kept.epochs
    return progress.position.epochs if last or progress.best is None else progress.best.epoch


def _check_weights(
    run: Path, checkpoint: Checkpoint, progress: Progress, *, last: bool, average: bool | None
) -> None:
    """Check that a run has the weights that are asked for."""
    if average and not progress.averaged:
        raise UsageError(f"{run} has no average of its weights: it was trained without one")
    if not last and checkpoint.best is None:
        raise UsageError(f"{run} has no best exit, because nothing was validated: give last=True")
    if not last and average is False and progress.averaged:
        raise UsageError(
            f"the best weights of {run} are an average: for others, give last=True average=False"
        )
