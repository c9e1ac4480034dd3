"""Train as a configuration says, in a folder that holds all that is needed to go on."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from fxtransport.data import Splits
from fxtransport.program import Program
from fxtransport.runs.config import CONFIG, Config
from fxtransport.runs.identity import check_same_config, describe_config
from fxtransport.runs.recipe import Recipe
from fxtransport.runs.settings import make_settings
from fxtransport.runs.transfer import prepare_transfer
from fxtransport.training import FitReport, Observer, Trainer, Transfer
from fxtransport.training.checkpoint import RunFolder
from fxtransport.training.monitors import Monitor, PolyakLojasiewicz

MONITORED = 64
"""The number of samples that monitors look at."""


def fit_run(
    folder: Path,
    recipe: Recipe,
    program: Program,
    *,
    resume: bool,
    observers: Sequence[Observer] = (),
    transfer: Transfer | None = None,
) -> FitReport:
    """Train a run's program, and write the run's folder.

    Args:
        folder: The run's.
        recipe: What the program was built from.
        program: What is trained.
        resume: Go on from the last checkpoint in the folder.
        observers: They are told of the progress.
        transfer: What :func:`fxtransport.runs.transfer.prepare_transfer` made, where the run has a
            regularizer; None: it is made here.

    Raises:
        FxTransportError: something cannot be used, written or trained.
    """
    if transfer is None:
        transfer, _ = prepare_transfer(recipe, program, new=not resume)
    settings = make_settings(recipe.config, len(program.parts))
    trainer = Trainer(
        program,
        settings.objective,
        settings.schedule,
        optimizer=settings.optimizer,
        settings=settings.trainer,
        run=folder,
        observers=observers,
        monitors=_monitors(recipe, program),
        transfer=transfer,
        about={"config": describe_config(recipe.config)},
    )
    if resume:
        check_same_config(folder, recipe.config)
        trainer.restore()
    data = recipe.data
    write_config(folder, recipe.config, data)
    return trainer.fit(data.train, data.validation, data.test)


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


def write_config(folder: Path, config: Config, data: Splits) -> None:
    """Write a run's configuration into its folder, unless it is there.

    Args:
        folder: The run's.
        config: What is set.
        data: Where its splits come from is written too.

    Raises:
        CheckpointError: it cannot be written, or another file of that name is there.
    """
    splits = {name: source.table() for name, source in data.sources.items()}
    text, path = config.to_toml({"splits": splits}), folder / CONFIG
    saved = RunFolder(folder)
    with saved.writing():
        if os.path.lexists(path) and path.read_bytes() == text.encode():
            return
    saved.write_text(CONFIG, text)
