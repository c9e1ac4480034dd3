"""Objectives: the loss of a program, or of each of its parts. No loops."""

from fxtransport.objectives.classification import (
    Classification,
    CrossEntropy,
    ReverseCrossEntropy,
    WeightedCrossEntropy,
)
from fxtransport.objectives.methods import fixed, lap, plain, rce, trgl, trgl_multipliers, vangl
from fxtransport.objectives.multipliers import (
    FixedMultiplier,
    LapMultipliers,
    Multipliers,
    MultiplierState,
    NoMultiplier,
    TauMultipliers,
    TrglMultipliers,
)
from fxtransport.objectives.objective import Loss, Objective, logits_of
from fxtransport.objectives.projections import ProjectionCost
from fxtransport.objectives.transport import TransportCost

__all__ = [
    "Classification",
    "CrossEntropy",
    "FixedMultiplier",
    "LapMultipliers",
    "Loss",
    "MultiplierState",
    "Multipliers",
    "NoMultiplier",
    "Objective",
    "ProjectionCost",
    "ReverseCrossEntropy",
    "TauMultipliers",
    "TransportCost",
    "TrglMultipliers",
    "WeightedCrossEntropy",
    "fixed",
    "lap",
    "logits_of",
    "plain",
    "rce",
    "trgl",
    "trgl_multipliers",
    "vangl",
]
