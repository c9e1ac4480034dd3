"""The trainer: a program, an objective and a schedule put together, and nothing lost."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3

from fxtransport.errors import UsageError
from fxtransport.objectives import Objective
from fxtransport.program import Program
from fxtransport.training.batches import Batches, Epochs, epochs_of
from fxtransport.training.best import BestExit
from fxtransport.training.checkpoint import RunFolder
from fxtransport.training.checks import check_trainable
from fxtransport.training.devices import device_of, place
from fxtransport.training.engine import Engine, keys
from fxtransport.training.fit import Fit
from fxtransport.training.learner import Learner
from fxtransport.training.meter import Meter
from fxtransport.training.metrics import MetricsFile, TensorBoard
from fxtransport.training.reports import FitReport, Observer, Position, StepReport
from fxtransport.training.saver import Saver
from fxtransport.training.schedules import Phase, Schedule
from fxtransport.training.settings import OptimizerSettings, TrainerSettings
from fxtransport.training.state import RunState, describe_run
from fxtransport.training.steps import LossError


class Trainer:
    """Trains a program under an objective by a schedule.

    Args:
        program: What is trained, in place; so is the model that it was made of.
        objective: Of :mod:`fxtransport.objectives`. Its multipliers are saved with the run.
        schedule: Of :mod:`fxtransport.training.schedules`.
        optimizer: One like this for every module.
        settings: How to run.
        run: A folder for checkpoints, the best weights, ``metrics.csv`` and ``results.json``,
            which is made if it does not exist; None: nothing is written, and the best weights
            are kept in memory.
        observers: Are told of progress.

    Raises:
        UsageError: the program cannot be trained so: modules share parameters, or have no
            head or nothing to train; or timm refuses the optimiser or the scheduler.

    >>> from torch import nn
    >>> from fxtransport import transportify
    >>> from fxtransport.objectives import lap
    >>> from fxtransport.training.schedules import EndToEnd
    >>> class Block(nn.Linear):
    ...     def forward(self, x):
    ...         return x + super().forward(x).relu()
    >>> program = transportify(nn.Sequential(Block(2, 2), nn.Linear(2, 2)), torch.zeros(2, 2))
    >>> objective = lap(initial=1.0, rate=0.1, every=5)
    >>> batches = [(torch.randn(4, 2), torch.tensor([0, 1, 1, 0]))]
    >>> report = Trainer(program, objective, EndToEnd(epochs=3)).fit(batches, validation=batches)
    >>> report.position.steps, report.best.exit.samples
    (3, 4)
    """

    def __init__(
        self,
        program: Program,
        objective: Objective,
        schedule: Schedule,
        *,
        optimizer: OptimizerSettings | None = None,
        settings: TrainerSettings | None = None,
        run: str | os.PathLike[str] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        optimizer, settings = optimizer or OptimizerSettings(), settings or TrainerSettings()
        phases = schedule.phases(len(program.parts))
        check_trainable(program, phases)
        place(program, objective, settings)
        folder = None if run is None else RunFolder(run)
        self._observers = [*_writers(folder, settings), *observers]
        state = _new_state(program, objective, schedule, optimizer, settings, folder)
        self._engine = Engine(state, phases, settings)
        description = describe_run(program, objective, schedule, optimizer, settings)
        self._saver = Saver(folder, state, description)

    @property
    def program(self) -> Program:
        """What is trained."""
        return self._engine.state.program

    @property
    def validated(self) -> Program:
        """What is validated and kept: the program, or the average of its weights."""
        return self._engine.state.validated

    @property
    def position(self) -> Position:
        """Where in the run the trainer is."""
        return self._engine.state.position

    @property
    def phase(self) -> Phase:
        """The present phase; after the end, the last."""
        return self._engine.phase

    def step(self, images: Any, targets: torch.Tensor) -> StepReport:
        """One optimiser step of every module of the present phase, on one batch.

        For loops of one's own, in which :meth:`end_epoch` ends each epoch.

        Args:
            images: B×…, or a tuple if the program takes several inputs.
            targets: B classes, int64, or B×classes probabilities.

        Raises:
            TrainingError: a module's loss is not a finite number.
        """
        try:
            return self._engine.step(images, targets)
        except LossError as error:
            raise self._saver.explain(error) from None

    def end_epoch(self) -> None:
        """Set the next learning rates, and go on to the next phase after a phase's last epoch.

        ``fit`` does so by itself.
        """
        self._engine.end_epoch()

    def fit(
        self,
        train: Epochs | Batches,
        validation: Batches | None = None,
        test: Batches | None = None,
    ) -> FitReport:
        """Train to the end of the schedule, from the present position.

        SIGINT and SIGTERM let the step end, save, and raise; a second one ends at once.

        Args:
            train: A training stream of :mod:`fxtransport.data`, a ``DataLoader``, or a list of
                batches: inputs and targets.
            validation: Evaluated after every epoch, to choose the best exit.
            test: Evaluated once, at the end, at the best exit with its weights.

        Raises:
            RunInterruptedError: a signal came.
            TrainingError: a module's loss is not a finite number.
            CheckpointError: the folder holds another run, or cannot be written.
            UsageError: the data cannot be used so.
        """
        epochs = epochs_of(train, self._engine.settings.seed)
        return Fit(self._engine, self._saver, self._observers, epochs, validation, test).run()

    def restore(self) -> Position:
        """Continue where the last checkpoint of the run's folder was written.

        To be called before ``fit``, on a trainer that was made as the run's first one was.

        Raises:
            CheckpointError: there is none, it is damaged, or it is of another run: another
                program, schedule, optimiser or objective.
            UsageError: the trainer has no folder.
        """
        self._saver.restore()
        return self.position

    def save(self) -> None:
        """Write a checkpoint now, if there is a folder; ``fit`` does after every epoch.

        Raises:
            CheckpointError: it cannot be written; the one before stays.
            TrainingError: a loss or a parameter is not a finite number.
        """
        try:
            self._saver.save()
        except LossError as error:
            raise self._saver.explain(error) from None

    def load_best(self) -> None:
        """Give the program the weights with which its best exit was found.

        Raises:
            UsageError: nothing was validated yet.
            CheckpointError: they cannot be read.
        """
        best = self._engine.state.best
        if best.record is None:
            raise UsageError("there is no best exit, for nothing was validated yet")
        best.load_into(self.program)


def _new_state(
    program: Program,
    objective: Objective,
    schedule: Schedule,
    optimizer: OptimizerSettings,
    settings: TrainerSettings,
    folder: RunFolder | None,
) -> RunState:
    modules, device = len(program.parts), device_of(program)
    trained = dict.fromkeys(key for phase in schedule.phases(modules) for key in keys(phase))
    learners = {
        key: Learner(
            program.whole if key is None else program.parts[key],
            modules - 1 if key is None else key,
            schedule.epochs_of(key, modules),
            optimizer,
            settings,
            device,
        )
        for key in trained
    }
    objective.prepare(len(learners))
    ema = None
    if settings.ema is not None:
        ema = ModelEmaV3(program, decay=settings.ema, use_warmup=settings.ema_warmup)
    # numbers are read at once where that makes nobody wait
    meter = Meter(1 if device.type == "cpu" else settings.check_every)
    return RunState(program, objective, learners, ema, BestExit(folder), meter, device)


def _writers(folder: RunFolder | None, settings: TrainerSettings) -> list[Observer]:
    if folder is None and settings.tensorboard:
        raise UsageError("TensorBoard needs a run folder to write into")
    if folder is None:
        return []
    writers: list[Observer] = [MetricsFile(folder.path)]
    return [*writers, TensorBoard(folder.path)] if settings.tensorboard else writers
