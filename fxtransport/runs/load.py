"""Load a run: its program with weights that it has found, its data and its settings."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fxtransport.data import Splits
from fxtransport.errors import UsageError
from fxtransport.names import check_trusted, resolve
from fxtransport.origin import Origin
from fxtransport.program import Program
from fxtransport.runs.checked import read_checked
from fxtransport.runs.chosen import Asked, choose_weights
from fxtransport.runs.combinations import Values
from fxtransport.runs.config import CONFIG, Config
from fxtransport.runs.identity import read_run
from fxtransport.runs.inputs import Inputs
from fxtransport.runs.recipe import Recipe, make_recipe
from fxtransport.runs.settings import RunSettings, make_settings
from fxtransport.training import Best, Exit
from fxtransport.training.checkpoint import CHECKPOINT, RunFolder
from fxtransport.training.identity import check_same_data, check_same_program, describe_data
from fxtransport.training.progress import check_progress, read_progress
from fxtransport.weights import load_state, load_weights


@dataclass(frozen=True)
class Run:
    """A run of ``fxtransport train``, loaded.

    Args:
        folder: Where it is.
        config: Everything that is set.
        program: With weights that the run has found, on the CPU.
        recipe: What the program was built from.
        settings: Objective, schedule, optimizer and trainer settings.
        origin: The model's name, with what its constructor is given.
        input_size: The shape of one input.
        best: The best exit; None if nothing was validated.
        whole: When the last exit, that of the plain model, was best; None if it has not been
            validated, or in a run of an earlier version.
        exits: The parts whose heads have been trained.
        measured: The exits as they were measured on the validation split with these weights;
            empty where they were not.
        epochs: After how many epochs the program had these weights.
        averaged: Whether they are a moving average.
        described: What the run noted of its data, by which it is known again.
    """

    folder: Path
    config: Config
    program: Program
    recipe: Recipe
    settings: RunSettings
    origin: Origin
    input_size: tuple[int, ...]
    best: Best | None
    whole: Best | None
    exits: tuple[int, ...]
    measured: tuple[Exit, ...]
    epochs: int
    averaged: bool
    described: Mapping[str, Any]

    @property
    def inputs(self) -> Inputs:
        """How inputs are prepared, and what the classes are called; no data is read for it."""
        return self.recipe.inputs

    @cached_property
    def data(self) -> Splits:
        """The splits that it trains, validates and tests on, which are read when asked for.

        Raises:
            UsageError: they cannot be loaded; ``changes={"data.root": FOLDER}`` says where they
                are now.
            CheckpointError: they are not what the run began with.
        """
        data = self.recipe.data
        check_same_data(self.described, describe_data(data.train, data.validation, data.test))
        return data


def load_run(
    folder: str | os.PathLike[str],
    *,
    last: bool = False,
    average: bool | None = None,
    epoch: int | None = None,
    exit: int | None = None,
    trust_files: bool = False,
    changes: Values | None = None,
) -> Run:
    """Build the program of a run, and load weights that the run has found.

    The run's data is not needed, and is read only when :attr:`Run.data` is asked for.

    Args:
        folder: The run's, in which ``fxtransport train`` wrote.
        last: Load the weights of the last checkpoint, not those of the best exit.
        average: Whether to load the moving average of the weights; None: if there is one. The
            best weights are the average's, if there is one.
        epoch: Load the weights that the run had after so many epochs, if it kept them; see
            :func:`kept_epochs`.
        exit: Load weights for this exit; -1: for the last, which is that of the plain model. Those
            with which it was best are kept of the best exit and of the last; for others, the
            weights of the best exit are loaded. None: those of the best exit.
        trust_files: Whether a Python file that the configuration names may be run, to build the
            model. Give it only for runs whose author you trust.
        changes: Other values of keys that do not change what is computed, such as
            ``{"trainer.device": "cpu"}``.

    Raises:
        UsageError: the folder does not hold a run, there are no such weights, or the model needs
            a Python file and ``trust_files`` is not given.
        CheckpointError: the weights cannot be read, or the configuration or the model's code is not
            what the run began with.
    """
    run = Path(folder)
    config = read_run(run)
    check_trusted(resolve(config["model.name"]), str(run / CONFIG), trust_files=trust_files)
    if changes:
        config = config.with_changes(changes, run)
    saved = RunFolder(run)
    checkpoint = saved.read()
    state, progress = checkpoint.state, read_progress(checkpoint.state)
    asked = Asked(last=last, average=average, epoch=epoch, exit=exit)
    chosen = choose_weights(run, checkpoint, progress, asked)
    about = checkpoint.summary.get("about") or {}
    # a run of an earlier version did not note it, and needs its data
    noted = Inputs.read(about["inputs"]) if "inputs" in about else None
    recipe = make_recipe(config, noted, read_checked(run))
    program = recipe.program(new=False)
    check_same_program(checkpoint.summary.get("run"), program.graph_hash)
    settings = make_settings(config, len(program.parts))
    phases = settings.schedule.phases(len(settings.schedule.parts_of(program)))
    check_progress(progress, phases, len(program.parts))
    averaged = progress.averaged and average is not False
    exits = tuple(each.part for each in progress.exits) or tuple(range(len(program.parts)))
    if exit is not None and exit not in (-1, *exits):
        raise UsageError(f"there is no trained exit {exit}: there are {', '.join(map(str, exits))}")
    if chosen.weights is None:
        load_state(program, state["ema" if averaged else "program"], run / CHECKPOINT)
    else:
        load_weights(program, saved.read_tensors(chosen.weights), run / chosen.weights.file)
    return Run(
        folder=run,
        config=config,
        program=program,
        recipe=recipe,
        settings=settings,
        origin=recipe.origin,
        input_size=recipe.shape,
        best=progress.best,
        whole=progress.whole,
        exits=exits,
        measured=chosen.measured,
        epochs=chosen.epochs,
        averaged=averaged,
        described=checkpoint.summary.get("data") or {},
    )


def kept_epochs(folder: str | os.PathLike[str]) -> tuple[int, ...]:
    """After how many epochs a run kept its weights, in order; empty if it kept none.

    Raises:
        CheckpointError: the folder holds no run, or it is damaged.
    """
    return tuple(kept.epochs for kept in RunFolder(folder).read().kept)
