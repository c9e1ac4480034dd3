"""Residual blocks as transport costs see them, and what they cost."""

from fxtransport.residue.block import Cost, Residue, copied, mean_square_branch, measured
from fxtransport.residue.powers import Reduction, mean_square, power_cost

__all__ = [
    "Cost",
    "Reduction",
    "Residue",
    "copied",
    "mean_square",
    "mean_square_branch",
    "measured",
    "power_cost",
]
