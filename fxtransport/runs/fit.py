"""Train as a configuration says, in a folder that holds all that is needed to go on."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fxtransport.data import Splits
from fxtransport.program import Program
from fxtransport.runs.config import CONFIG, Config
from fxtransport.runs.identity import (
    check_same_config,
    describe_config,
    extended,
    read_history,
)
from fxtransport.runs.recipe import Recipe
from fxtransport.runs.settings import make_settings
from fxtransport.runs.transfer import prepare_transfer
from fxtransport.training import FitReport, Observer, Position, Trainer, Transfer
from fxtransport.training.checkpoint import RunFolder
from fxtransport.training.lock import locked
from fxtransport.training.monitors import Monitor, PolyakLojasiewicz

MONITORED = 64
"""The number of samples that monitors look at."""


def fit_run(
    folder: Path,
    recipe: Recipe,
    program: Program,
    *,
    resume: bool,
    extend: bool = False,
    observers: Sequence[Observer] = (),
    transfer: Transfer | None = None,
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
    trainer = Trainer(
        program,
        settings.objective,
        settings.schedule,
        optimizer=settings.optimizer,
        settings=settings.trainer,
        run=folder,
        observers=[writer, *observers],
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
    found, left = [], MONITORED
    for inputs, targets in recipe.data.train.epoch(0):
        found.append((inputs[:left], targets[:left]))
        left -= len(found[-1][1])
        if left <= 0:
            break
    inputs, targets = (torch.cat(each) for each in zip(*found, strict=True))
    monitor = PolyakLojasiewicz(inputs, targets)
    # what cannot be measured is refused before the first step
    monitor.measure(program)
    return [monitor]


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
