"""Residual blocks as transport costs see them, and what they cost."""

from fxtransport.residue.block import Ends, Measure, Measures, Residue, mean_square_branch
from fxtransport.residue.costs import costs_of
from fxtransport.residue.powers import Reduction, is_plain_formula, mean_square, power_cost
from fxtransport.residue.sources import BatchNorm
from fxtransport.residue.together import Postponed, at_once, at_the_end, postpone

__all__ = [
    "BatchNorm",
    "Ends",
    "Measure",
    "Measures",
    "Postponed",
    "Reduction",
    "Residue",
    "at_once",
    "at_the_end",
    "costs_of",
    "is_plain_formula",
    "mean_square",
    "mean_square_branch",
    "postpone",
    "power_cost",
]
