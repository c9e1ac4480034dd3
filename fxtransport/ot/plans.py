"""Plans between the neurons of two networks."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fxtransport.errors import UsageError
from fxtransport.ot.assignment import prefer_diagonal
from fxtransport.ot.costs import Scaled, accurate, check_activations, check_power
from fxtransport.ot.coupling import Coupling
from fxtransport.ot.nearest import nearest
from fxtransport.ot.notices import count
from fxtransport.ot.partial import check_mass, partial_coupling
from fxtransport.ot.sinkhorn import check_epsilon, entropic
from fxtransport.ot.solvers import assign, check_solver, couple

PLANS = ("exact", "identity", "uniform", "sinkhorn", "partial")
DENSE = ("uniform", "sinkhorn")
"""Plans in which all pairs share mass."""


@dataclass(frozen=True)
class Solution:
    """A plan, and how good it is."""

    plan: Tensor
    """d×d', float64, on the device of the activations."""
    marginal_error: float
    """By how much the plan's sums differ from 1/d and 1/d', added up; 0 for exact plans, and for
    partial ones, whose sums are lower by design."""
    gap: float
    """For Sinkhorn's plan, an upper bound of its cost over that of an exact plan, minus 1."""
    iterations: int
    """Of Sinkhorn's scalings; 0 for other plans."""


def check_options(plan: str, p: float, solver: str, epsilon: float, mass: float) -> None:
    """Refuse options that are not valid.

    Raises:
        UsageError: an option is not valid.
    """
    if plan not in PLANS:
        raise UsageError(f"plan must be one of {', '.join(PLANS)}, not {plan!r}")
    check_power(p)
    check_solver(solver)
    check_epsilon(epsilon)
    check_mass(mass)


def check_pair(student: Tensor, teacher: Tensor, plan: str) -> None:
    """Refuse activations that do not fit each other, or the plan.

    Raises:
        UsageError: they do not fit.
    """
    check_activations(student, teacher)
    if plan == "identity" and len(student) != len(teacher):
        raise UsageError(
            f"plan='identity' needs as many neurons in A ({len(student)}) as in T "
            f"({len(teacher)}); use plan='exact' for networks of different widths"
        )


def plan(
    A: Tensor,  # noqa: N803 - the paper's names
    T: Tensor,  # noqa: N803
    plan: str = "exact",
    *,
    p: float = 1.0,
    solver: str = "auto",
    epsilon: float = 0.05,
    mass: float = 1.0,
) -> Tensor:
    """Find a transport plan between the neurons of two layers, by their activations.

    The cost of a pair is M_ij = ‖A_i − T_j‖₂^p, and marginals are uniform (OT, section 2). For
    d = d', the trace is the share of neurons that keep their role.

    Args:
        A: Activations of the student, neurons × samples (d×n).
        T: Activations of the teacher on the same samples, d'×n.
        plan: ``exact``: of least cost. ``identity``: neuron i to neuron i (d = d'). ``uniform``:
            all to all. ``sinkhorn``: of least cost with entropy. ``partial``: of least cost for a
            share of the mass.
        p: The power of the distance, at least 1.
        solver: What finds an exact or partial plan, one of ``fxtransport.ot.solvers.SOLVERS``.
            ``auto`` asks none where d = d' and the nearest neurons of all differ.
        epsilon: The weight of the entropy, relative to the mean of M.
        mass: The share of the mass that a partial plan carries.

    Returns:
        The d×d' plan, float64, without gradient. Rows sum to 1/d and columns to 1/d'; at most,
        for a partial plan.

    Raises:
        UsageError: shapes, dtypes, devices or options do not fit.
        SolverError: an activation is not finite, or no solver found a plan.

    Example:
        >>> import torch
        >>> from fxtransport import ot
        >>> teacher = torch.tensor([[0.0, 1.0], [5.0, 5.0], [9.0, 0.0]])
        >>> ot.plan(teacher[[1, 0, 2]], teacher) * 3
        tensor([[0., 1., 0.],
                [1., 0., 0.],
                [0., 0., 1.]], dtype=torch.float64)
    """
    return solve(A, T, plan, p=p, solver=solver, epsilon=epsilon, mass=mass).plan


@torch.no_grad()
def solve(
    A: Tensor,  # noqa: N803
    T: Tensor,  # noqa: N803
    plan: str = "exact",
    *,
    p: float = 1.0,
    solver: str = "auto",
    epsilon: float = 0.05,
    mass: float = 1.0,
) -> Solution:
    """Find a plan as :func:`plan` does, and say how good it is.

    Args:
        A: As there.
        T: As there.
        plan: As there.
        p: As there.
        solver: As there.
        epsilon: As there.
        mass: As there.

    Returns:
        The plan, with its marginal error and gap.

    Raises:
        UsageError: as there.
        SolverError: as there.
    """
    check_options(plan, p, solver, epsilon, mass)
    check_pair(A, T, plan)
    if plan == "sinkhorn":
        found = entropic(scaled(A, T).costs(p), epsilon)
        placed = found.plan.to(accurate(A.device)).to(A.device)
        return Solution(placed, found.marginal_error, found.gap, found.iterations)
    dense = A.new_zeros(len(A), len(T), dtype=accurate(A.device))
    if plan == "uniform":
        dense += 1 / dense.numel()
    else:
        sparse = support(A, T, plan, p, solver, mass)
        rows, columns, carried = (torch.from_numpy(part) for part in sparse)
        dense[rows.to(A.device), columns.to(A.device)] = carried.to(dense.dtype).to(A.device)
    return Solution(dense, 0.0, 0.0, 0)


@torch.no_grad()
def support(
    student: Tensor, teacher: Tensor, plan: str, p: float, solver: str, mass: float
) -> Coupling:
    """Find an exact, partial or identity plan, sparse.

    For d = d', rows of an exact plan are 0 … d−1. Among dead neurons, those stay that can.
    """
    if plan == "identity":
        count_of = len(student)
        places = np.arange(count_of)
        return Coupling(places, places, np.full(count_of, 1 / count_of))
    pair = scaled(student, teacher)
    if plan == "partial":
        return partial_coupling(pair.costs(p), mass, solver)
    if len(student) != len(teacher):
        return couple(pair.costs(p), solver=solver)
    columns = nearest(pair) if solver == "auto" else None
    if columns is None:
        columns = assign(pair.costs(p), solver)
    columns = prefer_diagonal(columns, pair.dead_student.cpu().numpy())
    if pair.dead_teacher.any():
        turned = prefer_diagonal(np.argsort(columns), pair.dead_teacher.cpu().numpy())
        columns = np.argsort(turned)
    return Coupling(np.arange(len(columns)), columns, np.full(len(columns), 1 / len(columns)))


def scaled(student: Tensor, teacher: Tensor) -> Scaled:
    """Scale activations, and count those whose plan says little.

    Raises:
        SolverError: an activation is not finite.
    """
    if accurate(student.device) != torch.float64:
        student, teacher = student.cpu(), teacher.cpu()
    pair = Scaled.of(student, teacher)
    if student.shape[1] == 1:
        count(
            "one sample",
            "activations of one sample: neurons are told apart by a single number; use larger "
            "batches, and leave out a last one that is small",
        )
    for name, value in (("A", pair.dead_student), ("T", pair.dead_teacher)):
        if value.all():
            count("all dead", f"all activations of {name} are 0, so that any plan is optimal")
    return pair
