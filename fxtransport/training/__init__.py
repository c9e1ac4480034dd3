"""Train programs: schedules, the trainer, evaluation, checkpoints."""

from fxtransport.training.allocator import keep_freed_memory
from fxtransport.training.evaluate import evaluate
from fxtransport.training.reports import (
    Best,
    EpochReport,
    Exit,
    FitReport,
    Observer,
    PartEpoch,
    PartStep,
    Plan,
    Position,
    StepReport,
)
from fxtransport.training.schedules import EndToEnd, MultiLap, Parallel, Phase, Schedule, Sequential
from fxtransport.training.settings import OptimizerSettings, TrainerSettings
from fxtransport.training.trainer import Trainer

__all__ = [
    "Best",
    "EndToEnd",
    "EpochReport",
    "Exit",
    "FitReport",
    "MultiLap",
    "Observer",
    "OptimizerSettings",
    "Parallel",
    "PartEpoch",
    "PartStep",
    "Phase",
    "Plan",
    "Position",
    "Schedule",
    "Sequential",
    "StepReport",
    "Trainer",
    "TrainerSettings",
    "evaluate",
    "keep_freed_memory",
]
