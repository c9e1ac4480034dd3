"""Residual blocks as transport costs see them, and what they cost."""

from fxtransport.residue.block import Ends, Measure, Measures, Residue, mean_square_branch
from fxtransport.residue.costs import costs_of
from fxtransport.residue.powers import Reduction, mean_square, power_cost

__all__ = [
    "Ends",
    "Measure",
    "Measures",
    "Reduction",
    "Residue",
    "costs_of",
    "mean_square",
    "mean_square_branch",
    "power_cost",
]
