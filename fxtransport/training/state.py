"""The state of a run, and what of it a checkpoint holds."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from fxtransport.errors import CheckpointError, TrainingError, first_line
from fxtransport.objectives import Objective
from fxtransport.program import Program
from fxtransport.randomness import random_state
from fxtransport.training.best import BestExit
from fxtransport.training.checkpoint import CHECKPOINT, Checkpoint
from fxtransport.training.layer_decay import layer_scales
from fxtransport.training.learner import Learner
from fxtransport.training.meter import Meter
from fxtransport.training.optimizers import EarlierOptimizer, try_change
from fxtransport.training.progress import check_progress, extend_progress, read_progress
from fxtransport.training.reports import Exit, Position
from fxtransport.training.schedules import Phase, Schedule
from fxtransport.training.settings import OptimizerSettings, TrainerSettings
from fxtransport.training.transfer import Transfer
from fxtransport.weights import load_state

_NUMBERS = (
    "amp",
    "accumulate",
    "grad_clip",
    "ema",
    "ema_warmup",
    "update_frozen_bn",
    "cache_hidden",
    "seed",
)
"""The settings that change the numbers of a run. Others may differ when it is resumed."""


class RunState:
    """What changes while a program trains.

    Args:
        program: The program that is trained.
        objective: What it minimizes.
        learners: What trains each part, by the index of the part in the schedule.
        ema: The moving average of the weights, if there is one.
        best: The best exit so far.
        meter: The means over the present epoch.
        device: The device of the program.
    """

    def __init__(
        self,
        program: Program,
        objective: Objective,
        learners: Mapping[int, Learner],
        ema: ModelEmaV3 | None,
        best: BestExit,
        meter: Meter,
        device: torch.device,
    ) -> None:
        self.program = program
        self.objective = objective
        self.learners = learners
        self.ema = ema
        self.best = best
        self.meter = meter
        self.device = device
        self.position = Position()
        self.steps_per_epoch: int | None = None
        """None before the first epoch."""
        self.exits: tuple[Exit, ...] = ()
        """The exits at the last validation."""
        self.test: Exit | None = None
        self.finished = False
        self.stopped = False
        """Whether it ended before the last epoch, as nothing became better."""
        self.elapsed = 0.0
        """Seconds of training and validation, at the last checkpoint."""
        self.regularizer: nn.Module | None = None
        """What learns beside the program: projections of a regularizer."""

    @property
    def validated(self) -> Program:
        """The program that is validated and kept: the average, if there is one."""
        program = self.program if self.ema is None else self.ema.module
        assert isinstance(program, Program)
        return program

    def check_finite(self) -> None:
        """See that all losses and weights are finite.

        Raises:
            LossError: a loss that was not read yet is not finite.
            TrainingError: a parameter is not finite.
        """
        self.meter.read()
        # parts that do not train may be elsewhere
        finite = [torch.isfinite(p).all().to(self.device) for p in self.program.parameters()]
        if not torch.stack(finite).all():
            names = [name for name, _ in self.program.named_parameters()]
            bad = [name for name, is_finite in zip(names, finite, strict=True) if not is_finite]
            raise TrainingError(
                f"{bad[0]} ({len(bad)} of {len(names)} parameters) is not finite after step "
                f"{self.position.steps}, so no checkpoint is written"
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything: weights, optimizers, multipliers, averages, generators, position."""
        return {
            "program": self.program.state_dict(),
            "objective": self.objective.state_dict(),
            "learners": {key: learner.state_dict() for key, learner in self.learners.items()},
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "meter": self.meter.state_dict(),
            "random": random_state(self.device),
            "position": asdict(self.position),
            "steps_per_epoch": self.steps_per_epoch,
            "best": self.best.record and asdict(self.best.record),
            "whole": self.best.whole and asdict(self.best.whole),
            "exits": [asdict(exit) for exit in self.exits],
            "test": self.test and asdict(self.test),
            "finished": self.finished,
            "stopped": self.stopped,
            "elapsed": self.elapsed,
            **({} if self.regularizer is None else {"regularizer": self.regularizer.state_dict()}),
        }

    def load_checkpoint(
        self, checkpoint: Checkpoint, phases: Sequence[Phase], *, extend: bool = False
    ) -> None:
        """Resume from a checkpoint, except for the random number generators.

        Args:
            checkpoint: The checkpoint.
            phases: The phases of the schedule.
            extend: Whether the schedule and options of the optimizer may be others.

        Raises:
            CheckpointError: it is damaged, or of another run.
            UsageError: the optimizer cannot go on with its options.
        """
        progress, earlier = read_progress(checkpoint.state), None
        if extend:
            earlier = self._earlier(checkpoint)
            progress = extend_progress(progress, phases, _trained(checkpoint.state))
        check_progress(progress, phases, len(self.program.parts))
        try:
            self._load(checkpoint.state, earlier)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise CheckpointError(f"the checkpoint does not fit this run: {reason}") from error
        self.best.weights = checkpoint.best
        self.best.record = progress.best
        self.best.whole, self.best.whole_weights = progress.whole, checkpoint.whole
        self.position, self.steps_per_epoch = progress.position, progress.steps_per_epoch
        self.exits, self.test, self.finished = progress.exits, progress.test, progress.finished
        self.stopped, self.elapsed = progress.stopped, progress.elapsed

    def _earlier(self, checkpoint: Checkpoint) -> EarlierOptimizer:
        """The optimizer that the run had at a checkpoint, of which this one can take over."""
        known = {field.name for field in fields(OptimizerSettings)}
        try:
            described = dict(checkpoint.summary["run"]["optimizer"])
            values = {name: value for name, value in described.items() if name in known}
            settings = OptimizerSettings(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint is damaged: its optimizer: {first_line(error)}"
            ) from error
        for learner in self.learners.values():
            try_change(settings, learner.settings)
            break
        return EarlierOptimizer(settings, layer_scales(self.program, settings))

    def _load(self, state: dict[str, Any], earlier: EarlierOptimizer | None) -> None:
        load_state(self.program, state["program"], Path(CHECKPOINT))
        self.objective.load_state_dict(state["objective"])
        if self.regularizer is not None:
            self.regularizer.load_state_dict(state["regularizer"])
        for key, learner in self.learners.items():
            learner.load_state_dict(state["learners"][key], earlier=earlier)
        if self.ema is not None:
            load_state(self.validated, state["ema"], Path(CHECKPOINT))
        self.meter.load_state_dict(state["meter"])


def _trained(state: Any) -> dict[int, int]:
    """For how many epochs each part has trained, as a checkpoint says it."""
    try:
        return {int(key): int(found["epochs"]) for key, found in state["learners"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint does not fit this run: {error}") from error


def describe_run(
    program: Program,
    objective: Objective,
    schedule: Schedule,
    optimizer: OptimizerSettings,
    settings: TrainerSettings,
    transfer: Transfer | None = None,
) -> dict[str, Any]:
    """What must be the same when a run is resumed, as JSON."""
    found = {
        "program": program.graph_hash,
        # the cost may be a function of the user's, whose address differs between processes
        "objective": re.sub(r" at 0x[0-9a-fA-F]+", "", repr(objective)),
        "schedule": repr(schedule),
        "optimizer": asdict(optimizer),
        "settings": {
            **{name: getattr(settings, name) for name in _NUMBERS},
            # earlier versions did not have these
            **({"freeze": list(settings.freeze)} if settings.freeze else {}),
            **({} if settings.patience is None else {"patience": settings.patience}),
        },
        # each by a name of its own, so that an error names the one that differs
        **dict.fromkeys(("regularizer", "teacher", "teacher_cache")),
        **({} if transfer is None else transfer.describe()),
    }
    described: dict[str, Any] = json.loads(json.dumps(found, sort_keys=True, default=repr))
    return described
