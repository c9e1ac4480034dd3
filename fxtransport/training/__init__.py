"""Train programs: schedules, the trainer, evaluation, checkpoints."""

from fxtransport.training.allocator import keep_freed_memory
from fxtransport.training.evaluate import evaluate
from fxtransport.training.reports import (
    Best,
    Compilation,
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
from fxtransport.training.shares import CostWatch
from fxtransport.training.teacher import Bridge, Teacher
from fxtransport.training.trainer import Trainer
from fxtransport.training.transfer import Transfer

__all__ = [
    "Best",
    "Bridge",
    "Compilation",
    "CostWatch",
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
    "Teacher",
    "Trainer",
    "TrainerSettings",
    "Transfer",
    "evaluate",
    "keep_freed_memory",
]
