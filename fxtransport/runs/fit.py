"""Train as a configuration says, in a folder that holds all that is needed to go on."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fxtransport.data import Splits
from fxtransport.program import Program
from fxtransport.runs.checked import write_checked
from fxtransport.runs.config import CONFIG, Config
from fxtransport.runs.identity import (
    check_same_config,
    describe_config,
    extended,
    read_history,
)
from fxtransport.runs.recipe import Recipe
from fxtransport.runs.remedies import way_out
from fxtransport.runs.settings import RunSettings, make_settings
from fxtransport.runs.transfer import prepare_transfer
from fxtransport.training import FitReport, Observer, Position, Trainer, Transfer
from fxtransport.training.checkpoint import RunFolder
from fxtransport.training.lock import locked
from fxtransport.training.monitors import Monitor, PolyakLojasiewicz
from fxtransport.training.shares import CostWatch

MONITORED = 64
"""The number of samples that monitors look at."""
PROBED = 16
"""The most samples on which the gradients of the two terms of a loss are compared."""


def fit_run(
    folder: Path,
    recipe: Recipe,
    program: Program,
    *,
    resume: bool,
    extend: bool = False,
    observers: Sequence[Observer] = (),
    transfer: Transfer | None = None,
    tell: Callable[[str], None] | None = None,
) -> FitReport:
    """Train a run's program, and write the run's folder.

    Args:
        folder: The run's.
        recipe: What the program was built from.
        program: What is trained.
        resume: Go on from the last checkpoint in the folder.
        extend: The recipe may have other numbers of epochs or laps, and other learning rates, than
            the run has had so far.
        observers: They are told of the progress.
        transfer: What :func:`fxtransport.runs.transfer.prepare_transfer` made, where the run has a
            regularizer; None: it is made here.
        tell: Is told what is odd about the run; None: it is a warning of Python.

    Raises:
        FxTransportError: something cannot be used, written or trained.
    """
    if transfer is None:
        transfer, _ = prepare_transfer(recipe, program, new=not resume)
    settings = make_settings(recipe.config, len(program.parts))
    about: dict[str, Any] = {
        "config": describe_config(recipe.config),
        "inputs": recipe.inputs.to_json(),
    }
    writer = _ConfigWriter(folder, recipe, about)
    watch = [] if resume else _cost_watch(recipe, program, settings, tell)
    trainer = Trainer(
        program,
        settings.objective,
        settings.schedule,
        optimizer=settings.optimizer,
        settings=settings.trainer,
        run=folder,
        observers=[writer, *watch, *observers],
        monitors=_monitors(recipe, program),
        transfer=transfer,
        about=about,
    )
    with locked(folder):
        if resume:
            changes = check_same_config(folder, recipe.config, extend=extend)
            about["history"] = read_history(folder)
            position = trainer.restore(extend=bool(changes))
            about["history"] += [extended(position.epochs, changes)] if changes else []
            # what the checkpoint says comes first: a crash leaves the two as they were
            writer.waits = bool(changes)
        if not writer.waits:
            writer.write()
        data = recipe.data
        return trainer.fit(data.train, data.validation, data.test)


class _ConfigWriter(Observer):
    """Writes a run's configuration, of a run that is extended after its next checkpoint."""

    def __init__(self, folder: Path, recipe: Recipe, about: Mapping[str, Any]) -> None:
        self._folder, self._recipe, self._about = folder, recipe, about
        self.waits = False

    def write(self) -> None:
        """Write it now."""
        history = self._about.get("history", ())
        write_config(self._folder, self._recipe.config, self._recipe.data, history)
        write_checked(self._folder, self._recipe.checked)

    def on_checkpoint(self, path: Path, position: Position) -> None:
        """Write it if the checkpoint is the first."""
        if self.waits:
            self.waits = False
            self.write()


def _monitors(recipe: Recipe, program: Program) -> list[Monitor]:
    """What is measured after every epoch, on the first training samples.

    Raises:
        UsageError: the program cannot be measured.
    """
    if not recipe.config.get("trainer.monitors"):
        return []
    inputs, targets = _first_samples(recipe, MONITORED)
    monitor = PolyakLojasiewicz(inputs, targets)
    # what cannot be measured is refused before the first step
    monitor.measure(program)
    return [monitor]


def _first_samples(recipe: Recipe, most: int) -> tuple[Any, torch.Tensor]:
    """The first training samples of the first epoch, and their targets."""
    found, left = [], most
    for inputs, targets in recipe.data.train.epoch(0):
        found.append((inputs[:left], targets[:left]))
        left -= len(found[-1][1])
        if left <= 0:
            break
    inputs, targets = (torch.cat(each) for each in zip(*found, strict=True))
    return inputs, targets


def _cost_watch(
    recipe: Recipe, program: Program, settings: RunSettings, tell: Callable[[str], None] | None
) -> list[Observer]:
    """What notices that the transport cost does nothing; of a run that begins."""
    if settings.objective.cost is None or settings.trainer.offload is not None:
        # parts that are elsewhere cannot be measured
        return []
    inputs, targets = _first_samples(recipe, min(PROBED, recipe.config["data.batch_size"]))
    remedy = way_out(recipe, program)
    return [
        CostWatch(program, settings.objective, settings.schedule, inputs, targets, remedy, tell)
    ]


def write_config(
    folder: Path, config: Config, data: Splits, history: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write a run's configuration into its folder, unless it is there.

    Args:
        folder: The run's.
        config: What is set.
        data: Where its splits come from is written too.
        history: How it was extended.

    Raises:
        CheckpointError: it cannot be written, or another file of that name is there.
    """
    splits = {name: source.table() for name, source in data.sources.items()}
    past = {"history": {"changes": list(history)}} if history else {}
    text, path = config.to_toml({"splits": splits, **past}), folder / CONFIG
    saved = RunFolder(folder)
    with saved.writing():
        if os.path.lexists(path) and path.read_bytes() == text.encode():
            return
    saved.write_text(CONFIG, text)
