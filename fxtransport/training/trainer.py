"""The trainer: programs, objectives and schedules put together, and nothing lost."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from fxtransport.data import EvalStream, TrainStream
from fxtransport.objectives import Objective
from fxtransport.program import Program
from fxtransport.training.reports import Exit, FitReport, Observer, Plan, Position, StepReport
from fxtransport.training.schedules import Schedule
from fxtransport.training.settings import OptimizerSettings, TrainerSettings


class Trainer:
    """Trains a program under an objective by a schedule.

    Args:
        program: What is trained, in place; so is the model that it was made of.
        objective: Of :mod:`fxtransport.objectives`. Its multipliers are saved with the run.
        schedule: Of :mod:`fxtransport.training.schedules`.
        optimizer: One like this for every module.
        settings: How to run.
        run: A folder for checkpoints, the best weights and ``metrics.csv``, which is made if
            it does not exist; None: nothing is written, and the best weights are kept in
            memory.
        observers: Are told of progress.

    Raises:
        UsageError: the program cannot be trained so: modules share parameters, or have no
            head or nothing to train; or timm refuses the optimiser or the scheduler.
    """

    def __init__(
        self,
        program: Program,
        objective: Objective,
        schedule: Schedule,
        *,
        optimizer: OptimizerSettings = OptimizerSettings(),
        settings: TrainerSettings = TrainerSettings(),
        run: str | os.PathLike[str] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        raise NotImplementedError

    position: Position
    """Where in the run the trainer is."""

    def step(self, images: Any, targets: torch.Tensor) -> StepReport:
        """One optimiser step of every module of the present phase, on one batch.

        Args:
            images: B×…, or a tuple if the program takes several inputs.
            targets: B classes, int64, or B×classes probabilities.

        Raises:
            TrainingError: a module's loss is not a finite number.
        """
        raise NotImplementedError

    def restore(self) -> Position:
        """Continue where the last checkpoint of the run's folder was written.

        Call it before ``fit``.

        Raises:
            CheckpointError: there is none, it is damaged, or it is of another run: another
                program, schedule, optimiser or objective.
        """
        raise NotImplementedError

    def fit(
        self,
        train: TrainStream,
        validation: EvalStream | None = None,
        test: EvalStream | None = None,
    ) -> FitReport:
        """Train to the end of the schedule, from the present position.

        SIGINT and SIGTERM let the step end, save, and raise; a second one ends at once.

        Args:
            train: Training batches.
            validation: Evaluated after every epoch, to choose the best exit.
            test: Evaluated once, at the end, at the best exit with its weights.

        Raises:
            Interrupted: a signal came.
            TrainingError: a module's loss is not a finite number.
            CheckpointError: the folder holds another run, or cannot be written.
        """
        raise NotImplementedError

    def load_best(self) -> None:
        """Give the program the weights with which its best exit was found."""
        raise NotImplementedError


def evaluate(
    program: Program,
    batches: Iterable[Any],
    *,
    modules: Sequence[int] | None = None,
    amp: str | None = None,
) -> tuple[Exit, ...]:
    """Accuracy and loss of every exit, in one pass, in eval mode; modes are put back after.

    Args:
        program: What to evaluate.
        batches: Inputs and B classes.
        modules: The exits wanted; None: every module that has a head.
        amp: As in :class:`TrainerSettings`.
    """
    raise NotImplementedError


__all__ = ["Plan", "Trainer", "evaluate"]
