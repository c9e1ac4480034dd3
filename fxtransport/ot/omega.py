"""Ω: the cost of transport between the neurons of two layers, as a regularizer."""

import torch
from torch import Tensor

from fxtransport.ot.costs import accurate, has_no_data, support_cost, without_autocast
from fxtransport.ot.plans import DENSE, check_options, check_pair, solve
from fxtransport.ot.rehearsal import hold_dense
from fxtransport.ot.sparse import find_support


@torch.library.custom_op("fxtransport::dense_plan", mutates_args=())
def _dense(student: Tensor, teacher: Tensor, plan: str, p: float, epsilon: float) -> Tensor:
    """A plan in which all pairs share mass."""
    return solve(student, teacher, plan, p=p, epsilon=epsilon).plan


@_dense.register_fake
def _(student: Tensor, teacher: Tensor, *_: object) -> Tensor:
    return student.new_empty(len(student), len(teacher), dtype=accurate(student.device))


def omega(
    A: Tensor,  # noqa: N803 - the paper's names
    T: Tensor,  # noqa: N803
    plan: str = "exact",
    *,
    p: float = 1.0,
    solver: str = "auto",
    epsilon: float = 0.05,
    mass: float = 1.0,
    root: bool = False,
) -> Tensor:
    """Compute Ω = Σ_ij P_ij ‖A_i − T_j‖₂^p, with gradient in A through the cost alone.

    ``exact`` gives Ω_P, ``identity`` Ω_I and ``uniform`` Ω_U (OT, sections 2 and 4). The plan is
    found without gradient; for an exact plan that is unique, the result is the gradient of the
    optimal cost (envelope theorem). The cost is computed in float64 from the pairs that share
    mass. Where the activations are equal, Ω_P and Ω_I are exactly 0, with zero gradient.

    ``torch.compile`` takes the search for the plan as one operator, without a graph break.
    Autocast has no effect. The gradient of a Sinkhorn plan's cost, and all higher derivatives, are
    those of the cost with the plan fixed.

    Args:
        A: Activations of the student, neurons × samples (d×n), of any floating-point dtype.
        T: Activations of the teacher on the same samples, d'×n; gets no gradient.
        plan: As for :func:`fxtransport.ot.plan`.
        p: The power of the distance, at least 1.
        solver: As for :func:`fxtransport.ot.plan`.
        epsilon: As for :func:`fxtransport.ot.plan`.
        mass: As for :func:`fxtransport.ot.plan`.
        root: Whether to take the result to the power 1/p, which makes it W_p. At 0, its gradient
            is 0.

    Returns:
        A scalar, in A's dtype.

    Raises:
        UsageError: shapes, dtypes, devices or options do not fit.
        SolverError: an activation is not finite, or no solver found a plan.

    Example:
        >>> import torch
        >>> from fxtransport import ot
        >>> teacher = torch.rand(8, 4)
        >>> student = teacher[torch.randperm(8)].requires_grad_()
        >>> ot.omega(student, teacher)
        tensor(0., grad_fn=<...>)
    """
    check_options(plan, p, solver, epsilon, mass)
    check_pair(A, T, plan)
    teacher = T.detach()
    if plan in DENSE:
        if not torch.compiler.is_compiling() and has_no_data(A):
            weights = hold_dense(A, teacher, plan, p)
        else:
            weights = _dense(A.detach(), teacher, plan, p, epsilon)
        value = _dense_cost(A, teacher, weights, p)
    else:
        rows, columns, carried = find_support(A, teacher, plan, p, solver, mass)
        value = support_cost(A, teacher, rows, columns, carried, p)
    return _rooted(value, p).to(A.dtype) if root else value.to(A.dtype)


def _dense_cost(student: Tensor, teacher: Tensor, weights: Tensor, p: float) -> Tensor:
    """⟨P, M⟩ for a plan in which all pairs share mass, in float64."""
    with without_autocast(student.device):
        dtype = accurate(student.device)
        mode = "donot_use_mm_for_euclid_dist"
        # cdist would copy what is transposed, in the forward and in the backward
        own, other = (
            x.to(dtype, memory_format=torch.contiguous_format) for x in (student, teacher)
        )
        distances = torch.cdist(own, other, compute_mode=mode)
        return (weights * (distances if p == 1 else distances**p)).sum()


def _rooted(value: Tensor, p: float) -> Tensor:
    """The value to the power 1/p; at 0, the gradient is 0."""
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, 1) ** (1 / p), 0)
