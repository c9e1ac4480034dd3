"""Objectives: what a program, or each of its modules, is trained for. No loops."""

from fxtransport.objectives.classification import Classification, CrossEntropy, ReverseCrossEntropy
from fxtransport.objectives.methods import fixed, lap, plain, trgl, trgl_multipliers, vangl
from fxtransport.objectives.objective import Loss, Objective, logits_of
from fxtransport.objectives.transport import TransportCost
from fxtransport.objectives.weights import (
    Fixed,
    Greedy,
    ModuleMultipliers,
    Multiplier,
    NoCost,
    Weighting,
)

__all__ = [
    "Classification",
    "CrossEntropy",
    "Fixed",
    "Greedy",
    "Loss",
    "ModuleMultipliers",
    "Multiplier",
    "NoCost",
    "Objective",
    "ReverseCrossEntropy",
    "TransportCost",
    "Weighting",
    "fixed",
    "lap",
    "logits_of",
    "plain",
    "trgl",
    "trgl_multipliers",
    "vangl",
]
