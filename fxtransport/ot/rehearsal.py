"""What the search for a plan holds in memory, told by tensors without data, on which none can run.

Costs are computed as for a solver. In place of the solver, its largest matrices are made.
"""

import torch
from torch import Tensor

from fxtransport.ot.costs import Scaled, accurate


@torch.no_grad()
def hold_support(student: Tensor, teacher: Tensor, plan: str, p: float) -> None:
    """Make what the search for a sparse plan makes.

    Args:
        student: A, d×n, without data.
        teacher: T, d'×n, without data.
        plan: ``exact``, ``identity`` or ``partial``.
        p: The power of the distance.
    """
    if plan == "identity":
        return
    costs = Scaled.of(student, teacher).costs(p)
    if len(student) == len(teacher) and plan == "exact":
        return
    matrix = costs.double()
    # reduced costs, and those by which the next potentials are found
    reduced = matrix - matrix[:, :1]
    reduced.exp()


@torch.no_grad()
def hold_dense(student: Tensor, teacher: Tensor, plan: str, p: float) -> Tensor:
    """Make what the search for a plan makes in which all pairs share mass.

    Args:
        student: A, d×n, without data.
        teacher: T, d'×n, without data.
        plan: ``uniform`` or ``sinkhorn``.
        p: The power of the distance.

    Returns:
        d×d' without data, of the dtype of a plan.
    """
    if plan == "sinkhorn":
        costs = Scaled.of(student, teacher).costs(p)
        matrix = costs.double() / 1
        kernel = -matrix / 1
        # a scaling in the log domain
        scaled = kernel + kernel[:, :1]
        (scaled - scaled.amax(0)).exp_()
    return student.new_empty(len(student), len(teacher), dtype=accurate(student.device))
