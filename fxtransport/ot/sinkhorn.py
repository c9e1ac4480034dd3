"""Entropic plans."""

import math
from typing import NamedTuple

import ot
import torch
from torch import Tensor

from fxtransport.errors import SolverError, UsageError
from fxtransport.ot.notices import count

ITERATIONS = 2000
TOLERANCE = 1e-5
"""Of the marginal error: the sum of all differences between sums of the plan and weights."""


class Entropic(NamedTuple):
    """An entropic plan, and how good it is."""

    plan: Tensor
    """d×d', float64."""
    marginal_error: float
    """By how much the plan's sums differ from 1/d and 1/d', added up."""
    gap: float
    """An upper bound of the plan's cost over that of an exact plan, minus 1."""
    iterations: int


def check_epsilon(epsilon: float) -> None:
    """Refuse a regularization that is not positive.

    Raises:
        UsageError: epsilon is not a positive number.
    """
    if not 0 < epsilon < math.inf:
        raise UsageError(f"epsilon must be a positive number, not {epsilon}")


@torch.no_grad()
def entropic(costs: Tensor, epsilon: float, iterations: int = ITERATIONS) -> Entropic:
    """Find the plan of least ⟨P, M⟩ − ε·mean(M)·H(P) with uniform marginals.

    Sinkhorn's scalings in the log domain, by POT, on the device of the costs.

    Args:
        costs: M, d×d'.
        epsilon: The regularization, relative to the mean cost.
        iterations: At most so many.

    Returns:
        The plan with its marginal error and its gap.

    Raises:
        UsageError: epsilon is not positive.
        SolverError: the plan is not finite.
    """
    check_epsilon(epsilon)
    matrix = costs.double()
    mean = float(matrix.mean())
    rows, columns = matrix.shape
    if mean == 0:
        return Entropic(torch.full_like(matrix, 1 / (rows * columns)), 0.0, 0.0, 0)
    matrix = matrix / mean
    a, b = matrix.new_full((rows,), 1 / rows), matrix.new_full((columns,), 1 / columns)
    plan, log = ot.sinkhorn(
        a, b, matrix, epsilon, "sinkhorn_log", iterations, 1e-9, log=True, warn=False
    )
    if not plan.isfinite().all():
        raise SolverError(f"Sinkhorn's plan is not finite at epsilon={epsilon}; give a larger one")
    error = float((plan.sum(1) - a).abs().sum() + (plan.sum(0) - b).abs().sum())
    if error > TOLERANCE:
        count(
            "gave up",
            f"Sinkhorn's marginal error is {error:.1e} after {iterations} iterations at "
            f"epsilon={epsilon}; give a larger epsilon",
        )
    lower = _dual_value(matrix, epsilon * log["log_u"])
    cost = float((plan * matrix).sum())
    gap = cost / lower - 1 if lower > 0 else math.inf
    return Entropic(plan, error, gap, int(log["niter"]) + 1)


def _dual_value(costs: Tensor, rows: Tensor) -> float:
    """A lower bound of an exact plan's cost, by the potentials of the rows made feasible."""
    columns = (costs - rows[:, None]).amin(0)
    return float((costs - columns).amin(1).mean() + columns.mean())
