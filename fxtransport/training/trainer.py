"""The trainer: trains a program under an objective by a schedule."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3

from fxtransport.errors import UsageError
from fxtransport.objectives import Objective
from fxtransport.program import Program
from fxtransport.training.batches import Batches, Epochs, epochs_of
from fxtransport.training.best import BestExit
from fxtransport.training.checkpoint import RunFolder
from fxtransport.training.checks import (
    check_checkpointed,
    check_cost,
    check_graphs,
    check_trainable,
)
from fxtransport.training.devices import move_program
from fxtransport.training.engine import Engine
from fxtransport.training.fit import Fit
from fxtransport.training.freezing import freeze
from fxtransport.training.last_batch import check_last_batch
from fxtransport.training.layer_decay import layer_scales
from fxtransport.training.learner import Learner
from fxtransport.training.meter import Meter
from fxtransport.training.metrics import MetricsFile, TensorBoard
from fxtransport.training.monitors import Monitor
from fxtransport.training.offload import Offload, check_offloadable
from fxtransport.training.optimizers import try_optimizer
from fxtransport.training.places import choose_place
from fxtransport.training.reports import FitReport, Observer, Position, StepReport
from fxtransport.training.saver import Saver
from fxtransport.training.schedules import Phase, Schedule
from fxtransport.training.settings import OptimizerSettings, TrainerSettings
from fxtransport.training.state import RunState, describe_run
from fxtransport.training.steps import LossError
from fxtransport.training.transfer import Guide, Transfer
from fxtransport.training.weights_and_biases import WeightsAndBiases


class Trainer:
    """Trains a program under an objective by a schedule.

    Args:
        program: The program, which is trained in place, and with it its model.
        objective: One of :mod:`fxtransport.objectives`. Its multipliers are saved with the run.
        schedule: One of :mod:`fxtransport.training.schedules`.
        optimizer: The optimizer of every part.
        settings: How to run.
        run: A folder for checkpoints, the best weights, ``metrics.csv`` and ``results.json``,
            made if it does not exist; None: nothing is written, and the best weights are kept
            in memory.
        observers: Receive reports of the progress.
        transfer: A regularizer with its teacher, whose penalties are added to what each part
            minimizes; None: without one. See :func:`fxtransport.pair`.
        monitors: Measure the program after every epoch, for ``metrics.csv``.
        about: What else checkpoints say of the run, as JSON: its configuration, say. None: what
            the checkpoint says that is restored.

    Raises:
        UsageError: parts share parameters, or one has no head or nothing to train; a pattern of
            ``freeze`` matches nothing; the
            objective has too few τ, or costs of projection blocks that the program cannot have;
            timm refuses the optimizer or the scheduler; ``cache_hidden`` is set and a teacher
            needs images; or ``offload`` is set and all parts train at once, or there is no folder
            for what it moves to the disk; or ``cuda_graphs`` is set and there is no CUDA device.

    >>> from torch import nn
    >>> from fxtransport import transportify
    >>> from fxtransport.objectives import lap
    >>> from fxtransport.training.schedules import EndToEnd
    >>> class Block(nn.Linear):
    ...     def forward(self, x):
    ...         return x + super().forward(x).relu()
    >>> program = transportify(nn.Sequential(Block(2, 2), nn.Linear(2, 2)), torch.zeros(2, 2))
    >>> objective = lap(lambda0=1.0, lambda_rate=0.1, update_every=5)
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
        transfer: Transfer | None = None,
        monitors: Sequence[Monitor] = (),
        about: Mapping[str, Any] | None = None,
    ) -> None:
        optimizer, settings = optimizer or OptimizerSettings(), settings or TrainerSettings()
        self._schedule = schedule
        parts = schedule.parts_of(program)
        phases = schedule.phases(len(parts))
        if settings.patience is not None and len(phases) > 1:
            raise UsageError(
                "patience ends a run in which all parts train at once; where they train in turn, "
                "each trains to its end: train without patience"
            )
        held = freeze(program, settings.freeze)
        check_trainable(parts, phases)
        check_cost(program, objective)
        if settings.offload is not None:
            check_offloadable(phases, len(parts), schedule)
        device = move_program(program, objective, settings, offload=settings.offload is not None)
        check_graphs(settings, device)
        folder = None if run is None else RunFolder(run)
        self._monitors = monitors
        self._observers = [*_writers(folder, settings, transfer, monitors, about), *observers]
        guide = _new_guide(device, settings, transfer)
        learners = _new_learners(program, schedule, optimizer, settings, device, guide)
        for learner in learners.values():
            # refuses parts for which there is no τ
            objective.state(learner.part.index)
        state = _new_state(program, objective, learners, settings, device, folder)
        state.regularizer = None if guide is None else guide.regularizer
        offload = None
        if settings.offload is not None:
            place = choose_place(settings, device, folder)
            offload = Offload(device, place, parts, learners)
        self._engine = Engine(state, parts, phases, settings, guide, offload, held)
        description = describe_run(program, objective, schedule, optimizer, settings, transfer)
        self._saver = Saver(folder, state, description, phases, settings.keep_checkpoints, about)

    @property
    def program(self) -> Program:
        """The program that is trained."""
        return self._engine.state.program

    @property
    def validated(self) -> Program:
        """The program that is validated and kept: the one trained, or that of averaged weights."""
        return self._engine.state.validated

    @property
    def position(self) -> Position:
        """Where in the run the trainer is."""
        return self._engine.state.position

    @property
    def graphs(self) -> int:
        """How many graphs ``torch.compile`` has compiled for it; 0 where nothing is compiled."""
        return self._engine.graphs

    @property
    def phase(self) -> Phase:
        """The present phase; after the end, the last."""
        return self._engine.phase

    def step(self, images: Any, targets: torch.Tensor) -> StepReport:
        """One optimizer step of every part of the present phase, on one batch.

        For loops of your own, in which :meth:`end_epoch` ends each epoch.

        Args:
            images: B×…, or a tuple if the program takes several inputs.
            targets: B classes, int64, or B×classes probabilities.

        Raises:
            TrainingError: the loss of a part is not a finite number.
        """
        try:
            return self._engine.step(images, targets)
        except LossError as error:
            raise self._saver.explain(error) from None

    def end_epoch(self) -> None:
        """Set the next learning rates, and go on to the next phase after a phase's last epoch.

        ``fit`` calls it itself.
        """
        self._engine.end_epoch()

    def collect(self) -> None:
        """With ``offload``, move the whole program to the CPU; without, do nothing.

        ``fit`` ends with it. Call it in a loop of your own before you run the program, evaluate
        it or move it; the next step brings the parts that train back to the device.
        """
        self._engine.collect()

    def fit(
        self,
        train: Epochs | Batches,
        validation: Batches | None = None,
        test: Batches | None = None,
    ) -> FitReport:
        """Train to the end of the schedule, from the present position.

        At SIGINT or SIGTERM, it completes the step, saves, and raises. A second signal ends the
        process at once.

        Args:
            train: A training stream of :mod:`fxtransport.data`, a ``DataLoader``, or a list of
                batches: inputs and targets.
            validation: Evaluated after every epoch, to choose the best exit.
            test: Evaluated once, at the end, at the best exit with its weights.

        Raises:
            RunInterruptedError: a signal was received.
            TrainingError: the loss of a part is not a finite number.
            CheckpointError: the folder holds another run, or cannot be written.
            UsageError: the data does not fit the settings.
        """
        settings = self._engine.settings
        epochs = epochs_of(train, settings.seed)
        check_last_batch(epochs, self.program, self._schedule.parts_of, settings.accumulate)
        return Fit(
            self._engine, self._saver, self._observers, epochs, validation, test, self._monitors
        ).run()

    def restore(self, *, extend: bool = False) -> Position:
        """Resume from the last checkpoint in the run's folder.

        Call it before ``fit``, on a trainer with the arguments of the run's first one.

        Args:
            extend: Accept another number of epochs or laps, another learning rate and another
                learning rate schedule, as if the run had always had them; and from here on, other
                options of the optimizer, multipliers that are constant, rules by which λ changes,
                ``grad_clip`` and ``patience``. A run that has ended goes on if it now has more
                epochs.

        Raises:
            CheckpointError: there is none, it is damaged, or it is of another run: another
                program, schedule, optimizer or objective. Whether the data is the same is seen by
                :meth:`fit`. Or its parts have trained for longer than the schedule says.
            UsageError: the trainer has no folder, or the optimizer cannot go on with options that
                need other moments than it has kept.
        """
        self._saver.restore(extend=extend)
        return self.position

    def save(self) -> None:
        """Write a checkpoint now, if there is a folder. ``fit`` does so after every epoch.

        Raises:
            CheckpointError: it cannot be written; the one before stays.
            TrainingError: a loss or a parameter is not a finite number.
        """
        try:
            self._saver.save()
        except LossError as error:
            raise self._saver.explain(error) from None

    def load_best(self) -> None:
        """Load the weights of the best exit into the program.

        Raises:
            UsageError: nothing was validated yet.
            CheckpointError: they cannot be read.
        """
        best = self._engine.state.best
        if best.record is None:
            raise UsageError("there is no best exit, since nothing was validated yet")
        best.load_into(self.program)


def _new_learners(
    program: Program,
    schedule: Schedule,
    optimizer: OptimizerSettings,
    settings: TrainerSettings,
    device: torch.device,
    guide: Guide | None,
) -> dict[int, Learner]:
    """What trains each part, by the index of the part in the schedule."""
    parts = schedule.parts_of(program)
    trained = dict.fromkeys(k for phase in schedule.phases(len(parts)) for k in phase.parts)
    check_checkpointed(parts, trained, settings)
    scales = layer_scales(program, optimizer)
    for epochs in dict.fromkeys(schedule.epochs_of(k, len(parts)) for k in trained):
        try_optimizer(optimizer, epochs)
    return {
        k: Learner(
            parts[k],
            schedule.epochs_of(k, len(parts)),
            optimizer,
            settings,
            device,
            [] if guide is None else guide.regularizer.learned(parts[k]),
            scales,
        )
        for k in trained
    }


def _new_state(
    program: Program,
    objective: Objective,
    learners: dict[int, Learner],
    settings: TrainerSettings,
    device: torch.device,
    folder: RunFolder | None,
) -> RunState:
    ema = None
    if settings.ema is not None:
        ema = ModelEmaV3(program, decay=settings.ema, use_warmup=settings.ema_warmup)
    # numbers are read at once where that makes no device wait
    meter = Meter(1 if device.type == "cpu" else settings.check_every)
    return RunState(program, objective, learners, ema, BestExit(folder), meter, device)


def _new_guide(
    device: torch.device, settings: TrainerSettings, transfer: Transfer | None
) -> Guide | None:
    if transfer is None:
        return None
    if settings.cache_hidden and transfer.teacher is not None:
        raise UsageError(
            "with cache_hidden, parts are given hidden states, and the teacher needs the images: "
            "train without cache_hidden"
        )
    return Guide(transfer.to(device), device, settings.amp)


def _writers(
    folder: RunFolder | None,
    settings: TrainerSettings,
    transfer: Transfer | None,
    monitors: Sequence[Monitor],
    about: Mapping[str, Any] | None,
) -> list[Observer]:
    if folder is None and (settings.tensorboard or settings.wandb):
        name = "TensorBoard" if settings.tensorboard else "Weights & Biases"
        raise UsageError(f"{name} needs a run folder to write into; give run=…")
    if folder is None and settings.keep_checkpoints is not None:
        raise UsageError("keep_checkpoints needs a run folder to keep weights in; give run=…")
    if folder is None:
        return []
    penalties = () if transfer is None else tuple(transfer.regularizer.terms)
    measured = [column for monitor in monitors for column in monitor.columns]
    writers: list[Observer] = [MetricsFile(folder.path, (*penalties, *measured))]
    writers += [TensorBoard(folder.path)] if settings.tensorboard else []
    if settings.wandb:
        config = (about or {}).get("config") or {}
        writers.append(WeightsAndBiases(folder.path, config))
    return writers
