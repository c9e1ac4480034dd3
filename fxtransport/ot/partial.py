"""Partial plans: some neurons have no partner."""

import numpy as np
import torch
from torch import Tensor

from fxtransport.errors import UsageError
from fxtransport.ot.coupling import Coupling
from fxtransport.ot.solvers import coupling

_NOTHING = 1e-12


def check_mass(mass: float) -> None:
    """Refuse a share that is not in (0, 1].

    Raises:
        UsageError: mass is not in (0, 1].
    """
    if not 0 < mass <= 1:
        raise UsageError(f"mass must be above 0 and at most 1, not {mass}")


def partial_coupling(costs: Tensor, mass: float, solver: str = "auto") -> Coupling:
    """Find the plan of least cost that carries a share of all mass, exactly.

    Rows weigh 1/d and columns 1/d' at most. A further row and a further column take, at no cost,
    what stays (Chapel et al., 2020, proposition 1).

    Args:
        costs: d×d'.
        mass: The share that is carried, in (0, 1].
        solver: As for :func:`fxtransport.ot.solvers.coupling`.

    Returns:
        The plan, whose mass sums to ``mass``.

    Raises:
        UsageError: mass is not in (0, 1], or the solver does not fit.
        SolverError: as for ``coupling``.
    """
    check_mass(mass)
    if 1 - mass < _NOTHING:
        return coupling(costs, solver=solver)
    rows, columns = costs.shape
    extended = costs.new_zeros(rows + 1, columns + 1, dtype=torch.float64)
    extended[:rows, :columns] = costs
    # dearer than any way through the further row and column
    extended[rows, columns] = 2 * costs.max() + 1
    a = np.append(np.full(rows, 1 / rows), 1 - mass)
    b = np.append(np.full(columns, 1 / columns), 1 - mass)
    found = coupling(extended, a, b, solver)
    return found.where((found.rows < rows) & (found.columns < columns))
