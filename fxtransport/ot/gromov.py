"""Transport across a change of dimension: between point clouds in spaces of different width.

A point x of the first space and its image y in the second have no difference y − x, so that the
transport cost ‖y − x‖² of a residual block does not exist. Two costs take its place. The matching
cost compares the spaces neuron by neuron, by an optimal plan between their neurons. The Gromov
cost compares the distances between points within each space, and needs no neurons to match.
"""

import numpy as np
import ot
import torch
from torch import Tensor

from fxtransport.errors import SolverError, UsageError
from fxtransport.ot.costs import accurate, support_cost, without_autocast
from fxtransport.ot.notices import count
from fxtransport.ot.plans import check_options, check_pair
from fxtransport.ot.sparse import find_support

ITERATIONS = 1000


def matching_cost(
    x: Tensor, y: Tensor, *, p: float = 2.0, plan: str = "exact", solver: str = "auto"
) -> Tensor:
    """Compute the cost of transport between the neurons of two spaces, with gradient in both.

    Σ_ij P_ij (‖x_{·i} − y_{·j}‖₂ / √n)^p, where P is an optimal plan between the neurons: the
    soft-matching distance (arXiv 2311.09466) to the power p, per sample. For equal widths, p = 2
    and ``plan="identity"``, it is the mean square of y − x.

    Args:
        x: Points in the first space, n×d.
        y: Their images in the second, n×d'.
        p: The power, at least 1.
        plan: ``exact``, or ``identity`` for equal widths.
        solver: As for :func:`fxtransport.ot.plan`.

    Returns:
        A scalar, in the wider dtype of the two.

    Raises:
        UsageError: shapes, dtypes, devices or options do not fit.
        SolverError: a coordinate is not finite, or no solver found a plan.
    """
    check_options(plan, p, solver, epsilon=1.0, mass=1.0)
    if plan not in ("exact", "identity"):
        raise UsageError(f"plan must be 'exact' or 'identity', not {plan!r}")
    first, second = x.T, y.T
    check_pair(first, second, plan)
    rows, columns, mass = find_support(first, second, plan, p, solver, 1.0)
    value: Tensor = support_cost(first, second, rows, columns, mass, p) / len(x) ** (p / 2)
    return value.to(torch.promote_types(x.dtype, y.dtype))


def gromov_cost(x: Tensor, y: Tensor, *, plan: str = "identity") -> Tensor:
    """Compute the Gromov-Wasserstein cost of a plan between two clouds, with gradient in both.

    Σ_ijkl P_ik P_jl (‖x_i − x_j‖₂ − ‖y_k − y_l‖₂)². It is 0 where the plan keeps all distances.

    Args:
        x: Points in the first space, n×d.
        y: Points in the second, n'×d'.
        plan: ``identity``: point i to its image y_i, which makes it the distortion of the map.
            ``exact``: the plan of :func:`gromov_plan`, which gets no gradient.

    Returns:
        A scalar, in the wider dtype of the two.

    Raises:
        UsageError: shapes, dtypes, devices or the plan do not fit.
        SolverError: a coordinate is not finite, or the solver found no plan.
    """
    _check_clouds(x, y, plan)
    with without_autocast(x.device):
        first, second = _distances(x), _distances(y)
        if plan == "identity":
            value = (first - second).square().mean()
        else:
            search = _operator if torch.compiler.is_compiling() else gromov_plan
            weights = search(x.detach(), y.detach()).to(first.dtype)
            value = _expanded(first, second, weights)
    return value.to(torch.promote_types(x.dtype, y.dtype))


def _expanded(first: Tensor, second: Tensor, plan: Tensor) -> Tensor:
    """The cost of a plan, in O(n³) by its expansion (Peyré et al., 2016, proposition 1)."""
    a, b = plan.sum(1), plan.sum(0)
    square = a @ first.square() @ a + b @ second.square() @ b
    value: Tensor = square - 2 * ((first @ plan) * (plan @ second)).sum()
    return value.clamp(min=0)


@torch.no_grad()
def gromov_plan(x: Tensor, y: Tensor) -> Tensor:
    """Find a plan between two clouds that keeps distances, by POT's conditional gradient.

    The problem is not convex, and the plan is a local optimum. For as many points it is found from
    the identity, so that its cost is at most that of the map.

    Args:
        x: Points in the first space, n×d.
        y: Points in the second, n'×d'.

    Returns:
        The n×n' plan with uniform marginals, float64, without gradient.

    Raises:
        UsageError: shapes, dtypes or devices do not fit.
        SolverError: a coordinate is not finite, or the solver found no plan.
    """
    _check_clouds(x, y, "exact")
    first, second = (_distances(cloud).cpu().double().numpy() for cloud in (x, y))
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise SolverError("coordinates of points are not finite; check what they come from")
    scale = max(first.max(), second.max())
    if scale > 0:
        first, second = first / scale, second / scale
    start = np.eye(len(x)) / len(x) if len(x) == len(y) else None
    plan, log = ot.gromov.gromov_wasserstein(
        first, second, G0=start, max_iter=ITERATIONS, log=True, symmetric=True
    )
    if not np.isfinite(plan).all():
        raise SolverError("POT's Gromov-Wasserstein solver returned a plan that is not finite")
    if len(log["loss"]) > ITERATIONS:
        count("gave up", f"Gromov-Wasserstein did not converge in {ITERATIONS} iterations")
    return torch.from_numpy(plan).to(accurate(x.device)).to(x.device)


# under torch.compile, the search is one operator, without a graph break
_operator = torch.library.custom_op("fxtransport::gromov_plan", gromov_plan, mutates_args=())


@_operator.register_fake
def _(x: Tensor, y: Tensor) -> Tensor:
    return x.new_empty(len(x), len(y), dtype=accurate(x.device))


def _check_clouds(x: Tensor, y: Tensor, plan: str) -> None:
    """Refuse clouds that do not fit."""
    if plan not in ("exact", "identity"):
        raise UsageError(f"plan must be 'exact' or 'identity', not {plan!r}")
    for name, cloud in (("x", x), ("y", y)):
        if cloud.ndim != 2 or 0 in cloud.shape or not cloud.is_floating_point():
            raise UsageError(
                f"{name} must be a floating-point matrix of points × features that is not empty; "
                "flatten other tensors: x.flatten(1)"
            )
    if plan == "identity" and len(x) != len(y):
        raise UsageError(
            f"plan='identity' needs an image of each point, not {len(x)} points and {len(y)}; "
            "use plan='exact' for clouds of different sizes"
        )
    if x.device != y.device:
        raise UsageError(f"x is on {x.device} and y on {y.device}; move one of them")


def _distances(cloud: Tensor) -> Tensor:
    """The distances within a cloud; where they are 0, so is their gradient."""
    points = cloud.to(accurate(cloud.device))
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
