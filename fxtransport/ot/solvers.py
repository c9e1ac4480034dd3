"""Exact plans of any cost matrix: which solver, by shape and by what is installed."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fxtransport.errors import SolverError, UsageError
from fxtransport.ot import assignment as square
from fxtransport.ot.coupling import Coupling, Indices, Weights
from fxtransport.ot.notices import count, say_choice
from fxtransport.ot.pruned import by_pruning
from fxtransport.ot.simplex import network_simplex

SOLVERS = ("auto", "lapx", "scipy", "pruned", "emd")
"""Names of solvers; lapx and scipy solve assignments only."""

_PRUNED_ASSIGNMENT = 1024
"""From this width on, pruning solves assignments of unrelated networks faster than SciPy."""
_NEAR = 0.8
"""The share of distinct nearest columns from which on two networks are close."""
_PRUNED_COSTS = 2**16
"""From this number of costs on, pruning is faster than the dense network simplex."""
_PRUNED_SIDE = 48
"""With fewer neurons on one side, the edges that pruning keeps are not few among all."""
_MARGINAL_ERROR = 1e-9


def check_solver(solver: str) -> None:
    """Refuse a name that is not among :data:`SOLVERS`, or a solver that is not installed.

    Raises:
        UsageError: the solver cannot be used.
    """
    if solver not in SOLVERS:
        raise UsageError(f"solver must be one of {', '.join(SOLVERS)}, not {solver!r}")
    if solver == "lapx" and not square.has_lapx():
        raise UsageError(
            "lapx is not installed; pip install lapx, or leave solver out (the package lap has "
            "the same module name, but not this solver: uninstall it first)"
        )


def assignment(costs: ArrayLike | Tensor, solver: str = "auto") -> Indices:
    """Find the assignment of least total cost.

    Args:
        costs: d×d real costs, an array or a tensor on any device; float32 is solved in float32,
            everything else in float64.
        solver: One of :data:`SOLVERS`. ``auto``: lapx where it is installed. Without it, SciPy,
            but pruning from d = 1024 on where fewer than 80 % of the rows' nearest columns are
            distinct.

    Returns:
        The column of each row, a permutation of 0 … d−1, int64.

    Raises:
        UsageError: the costs are not a square matrix, or the solver cannot be used.
        SolverError: a cost is not finite, or the solver returned no permutation.
    """
    matrix = _matrix(costs)
    if matrix.shape[0] != matrix.shape[1]:
        raise UsageError(
            f"an assignment needs as many rows as columns, not {_shape(matrix)}; "
            "use coupling for others"
        )
    return assign(matrix, solver)


def assign(matrix: Tensor, solver: str = "auto") -> Indices:
    """Solve as :func:`assignment` does, without a look at the costs: square and finite.

    Args:
        matrix: d×d, float32 or float64.
        solver: As there.

    Returns:
        As there.

    Raises:
        UsageError: the solver cannot be used.
        SolverError: the solver returned no permutation.
    """
    check_solver(solver)
    name = _for_assignment(matrix) if solver == "auto" else solver
    say_choice(f"{name} solves assignments of {_size(matrix)} on {matrix.device.type}")
    columns = _assign(matrix, name)
    if len(columns) != len(matrix) or not np.array_equal(
        np.bincount(columns, minlength=len(matrix)), np.ones(len(matrix), np.int64)
    ):
        raise SolverError(
            f"{name} returned no permutation for costs of {_shape(matrix)}; choose another solver"
        )
    return columns


def _size(matrix: Tensor) -> str:
    """Small or large, as the choice of solvers distinguishes them."""
    if matrix.shape[0] == matrix.shape[1]:
        return "d ≥ 1024" if len(matrix) >= _PRUNED_ASSIGNMENT else "d < 1024"
    return "d ≠ d', large" if matrix.numel() >= _PRUNED_COSTS else "d ≠ d', small"


def _shape(matrix: Tensor) -> str:
    return "×".join(map(str, matrix.shape))


def _matrix(costs: ArrayLike | Tensor) -> Tensor:
    """Costs as a detached matrix of finite float32 or float64 numbers."""
    tensor = costs.detach() if isinstance(costs, Tensor) else torch.as_tensor(np.asarray(costs))
    if tensor.ndim != 2 or 0 in tensor.shape or tensor.is_complex():
        raise UsageError(f"costs must be a real matrix that is not empty, not {_shape(tensor)}")
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.double()
    if not tensor.isfinite().all():
        raise SolverError(
            f"{int((~tensor.isfinite()).sum())} costs of {tensor.numel()} are not finite; "
            "check what they were computed from"
        )
    return tensor


def _for_assignment(matrix: Tensor) -> str:
    """The name of the solver that ``auto`` stands for."""
    if square.has_lapx():
        return "lapx"
    if len(matrix) < _PRUNED_ASSIGNMENT:
        return "scipy"
    return "scipy" if square.share_of_distinct(matrix.cpu().numpy()) >= _NEAR else "pruned"


def _assign(matrix: Tensor, name: str) -> Indices:
    """The column of each row, by a solver."""
    if name == "lapx":
        return square.by_lapx(matrix.cpu().numpy())
    if name == "scipy":
        return square.by_scipy(matrix.cpu().numpy())
    weights = np.full(len(matrix), 1 / len(matrix))
    plan = _couple(matrix.double(), weights, weights, name)
    # a vertex of the uniform problem is a permutation, but for edges that carry nothing
    carried = plan.mass > 0.5 / len(matrix)
    columns = np.full(len(matrix), -1)
    columns[plan.rows[carried]] = plan.columns[carried]
    return columns if (columns >= 0).all() else square.by_scipy(matrix.cpu().numpy())


def coupling(
    costs: ArrayLike | Tensor,
    a: ArrayLike | None = None,
    b: ArrayLike | None = None,
    solver: str = "auto",
) -> Coupling:
    """Find the plan of least cost between weighted rows and columns.

    Args:
        costs: d×d' real costs, an array or a tensor on any device.
        a: The weights of the rows, not negative; None for 1/d each.
        b: The weights of the columns, with the same sum; None for 1/d' each.
        solver: One of :data:`SOLVERS`. ``auto``: :func:`assignment` for d = d' and no weights;
            otherwise pruning, or the network simplex on all costs where these are few.

    Returns:
        rows, columns and mass of the pairs that share mass, at most d + d' − 1 of them; int64,
        int64 and float64.

    Raises:
        UsageError: shapes, weights or the solver do not fit.
        SolverError: a cost is not finite, or no solver found a plan.
    """
    return couple(_matrix(costs), a, b, solver)


def couple(
    matrix: Tensor,
    a: ArrayLike | None = None,
    b: ArrayLike | None = None,
    solver: str = "auto",
) -> Coupling:
    """Solve as :func:`coupling` does, without a look at the costs.

    Args:
        matrix: d×d', float32 or float64, finite.
        a: As there.
        b: As there.
        solver: As there.

    Returns:
        As there.

    Raises:
        UsageError: weights or the solver do not fit.
        SolverError: no solver found a plan.
    """
    check_solver(solver)
    rows, columns = matrix.shape
    if a is None and b is None and rows == columns:
        return Coupling(
            np.arange(rows), assign(matrix, solver), np.full(rows, 1 / rows, np.float64)
        )
    if solver in ("lapx", "scipy"):
        raise UsageError(
            f"{solver} solves d = d' with equal weights only, not {_shape(matrix)}; "
            "use solver='auto', 'pruned' or 'emd'"
        )
    first, second = _weights("a", a, rows), _weights("b", b, columns)
    if abs(first.sum() - second.sum()) > _MARGINAL_ERROR * first.sum():
        raise UsageError(f"a sums to {first.sum()} and b to {second.sum()}; divide each by its sum")
    second = second * (first.sum() / second.sum())
    name = _for_coupling(matrix) if solver == "auto" else solver
    say_choice(f"{name} solves plans of {_size(matrix)} on {matrix.device.type}")
    return _couple_weighted(matrix.double(), first, second, name)


def _for_coupling(matrix: Tensor) -> str:
    """The name of the solver that ``auto`` stands for."""
    large = matrix.numel() >= _PRUNED_COSTS and min(matrix.shape) >= _PRUNED_SIDE
    return "pruned" if large else "emd"


def _weights(name: str, given: ArrayLike | None, count: int) -> Weights:
    """Weights as they were given, or equal ones."""
    if given is None:
        return np.full(count, 1 / count)
    weights = np.asarray(given, np.float64)
    if weights.shape != (count,) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise UsageError(
            f"{name} must hold {count} weights that are finite, not negative and not all 0"
        )
    return weights


def _couple_weighted(matrix: Tensor, a: Weights, b: Weights, name: str) -> Coupling:
    """Solve without the rows and columns that have no weight."""
    rows, columns = np.flatnonzero(a), np.flatnonzero(b)
    if len(rows) < len(a) or len(columns) < len(b):
        index = [torch.as_tensor(kept, device=matrix.device) for kept in (rows, columns)]
        matrix = matrix[index[0]][:, index[1]]
    plan = _couple(matrix, a[rows], b[columns], name)
    error = plan.marginal_error(a[rows], b[columns])
    if error > _MARGINAL_ERROR * a.sum():
        raise SolverError(
            f"the plan for costs of {_shape(matrix)} by {name} misses its weights by {error:.1e}; "
            "choose another solver"
        )
    return Coupling(rows[plan.rows], columns[plan.columns], plan.mass)


def _couple(matrix: Tensor, a: Weights, b: Weights, name: str) -> Coupling:
    """Solve by pruning, or on all costs."""
    if name == "pruned":
        plan = by_pruning(matrix, a, b)
        if plan is not None:
            return plan
        count("unpruned", "pruning found no exact plan; the dense network simplex solves instead")
    vertex = network_simplex(a, b, matrix.cpu().numpy())
    if vertex.problem:
        raise SolverError(
            f"POT's network simplex gave up on costs of {_shape(matrix)}: {vertex.problem}"
        )
    return vertex.plan
