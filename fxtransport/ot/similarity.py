"""How alike two representations are, where each neuron is its activations on n samples.

Every function takes A, d×n, and T, d'×n: row i is neuron i on the same n samples in the same
order. All are computed in float64, without gradient, and d and d' may differ unless it is said.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fxtransport.errors import UsageError
from fxtransport.ot.costs import check_power, power_of_square
from fxtransport.ot.plans import plan
from fxtransport.ot.solvers import coupling

LEAST_SAMPLES = 4
"""The unbiased estimate of CKA divides by n - 3."""


@dataclass(frozen=True)
class Similarity:
    """How alike two representations are.

    Attributes:
        kept: The share of neurons that kept their role (:func:`kept_roles`); None for d ≠ d'.
        soft_matching: :func:`soft_matching` of the normalized representations: 0 for the same
            neurons in any order, √2 for neurons that are not correlated at all.
        cka: :func:`unbiased_cka`.
        procrustes: :func:`procrustes`: from 0 to √2.
    """

    kept: float | None
    soft_matching: float
    cka: float
    procrustes: float


def similarity(A: Tensor, T: Tensor, *, p: float | None = None) -> Similarity:  # noqa: N803
    """All measures of two representations.

    Args:
        A: d×n.
        T: d'×n.
        p: The power of the distance between neurons, at least 1; None: that of each paper, 1 for
            kept roles and 2 for soft matching.

    Raises:
        UsageError: n differs or is below 4, a number is not finite, or p is not valid.

    >>> A = torch.eye(3, 5)
    >>> similarity(A, A.flip(0)).kept < similarity(A, A).kept
    True
    """
    A, T = _checked(A, T)  # noqa: N806
    if p is not None:
        check_power(p)
    return Similarity(
        kept=kept_roles(A, T, p=p or 1.0) if len(A) == len(T) else None,
        soft_matching=soft_matching(normalized(A), normalized(T), p=p or 2.0),
        cka=unbiased_cka(A, T),
        procrustes=procrustes(A, T),
    )


def kept_roles(A: Tensor, T: Tensor, *, p: float = 1.0) -> float:  # noqa: N803
    """The trace of the exact plan: the share of neurons that kept their role (OT, section 5).

    The plan moves A's neurons to T's at the cost ‖A_i - T_j‖₂^p.

    Args:
        A: d×n.
        T: d×n.
        p: The power, at least 1.

    Returns:
        From 0 to 1. Neurons that are alike, such as dead ones, may be exchanged at no cost.

    Raises:
        UsageError: the shapes differ, n is below 4, a number is not finite, or p is not valid.
    """
    A, T = _checked(A, T)  # noqa: N806
    if len(A) != len(T):
        raise UsageError(
            f"roles are kept between layers of one width, not of {len(A)} and {len(T)} neurons: "
            "use soft_matching"
        )
    return float(plan(A, T, p=p).trace())


def soft_matching(A: Tensor, T: Tensor, *, p: float = 2.0) -> float:  # noqa: N803
    """The soft-matching distance: W_p between the neurons as points with n coordinates.

    It is a metric between representations up to the order of neurons (arXiv 2311.09466, p = 2).

    Args:
        A: d×n.
        T: d'×n.
        p: The power, at least 1.

    Raises:
        UsageError: n differs or is below 4, a number is not finite, or p is not valid.
    """
    A, T = _checked(A, T)  # noqa: N806
    check_power(p)
    costs = power_of_square(squared_distances(A, T), p).cpu().numpy()
    rows, columns, mass = coupling(costs)
    cost = float((costs[rows, columns] * mass).sum())
    return float(max(cost, 0.0) ** (1 / p))


def unbiased_cka(A: Tensor, T: Tensor) -> float:  # noqa: N803
    """Linear CKA by the unbiased estimate of HSIC, which does not grow with d/n.

    CKA is Kornblith et al. (2019), equation 4; the estimate is that of Song et al. (2012),
    equation 5. It may be slightly below 0.

    Args:
        A: d×n.
        T: d'×n.

    Returns:
        1 for representations that are equal up to rotation and scale; 0 on average for
        independent ones, and where a representation does not vary.

    Raises:
        UsageError: n differs or is below 4, or a number is not finite.
    """
    A, T = _checked(A, T)  # noqa: N806
    K, L = _gram(A), _gram(T)  # noqa: N806
    own, other = _hsic(K, K), _hsic(L, L)
    if own <= 0 or other <= 0:
        return 0.0
    return float(_hsic(K, L) / (own * other) ** 0.5)


def procrustes(A: Tensor, T: Tensor) -> float:  # noqa: N803
    """The distance that is left after the best rotation, centered and of Frobenius norm 1.

    min_Q ‖A - QT‖_F = √(2 - 2‖A Tᵀ‖_*) over orthogonal Q (Williams et al., 2021); with d ≠ d',
    the smaller is filled up with zeros.

    Args:
        A: d×n.
        T: d'×n.

    Returns:
        From 0 to √2.

    Raises:
        UsageError: n differs or is below 4, or a number is not finite.
    """
    A, T = _checked(A, T)  # noqa: N806
    A, T = _unit(A), _unit(T)  # noqa: N806
    nuclear = float(torch.linalg.matrix_norm(A @ T.T, "nuc"))
    squares = float((A * A).sum() + (T * T).sum())
    return math.sqrt(max(squares - 2 * nuclear, 0.0))


def normalized(A: Tensor) -> Tensor:  # noqa: N803
    """Each neuron centered over samples, and all scaled so that their mean squared norm is 1."""
    return _unit(A) * math.sqrt(len(A))


def squared_distances(A: Tensor, T: Tensor) -> Tensor:  # noqa: N803
    """‖A_i - T_j‖² for all pairs of rows, d×d', exactly 0 for equal rows."""
    distances: Tensor = torch.cdist(A, T, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.square()


def _checked(A: Tensor, T: Tensor) -> tuple[Tensor, Tensor]:  # noqa: N803
    """Both in float64, without gradient."""
    if A.dim() != 2 or T.dim() != 2 or A.shape[1] != T.shape[1]:
        raise UsageError(
            f"representations are neurons×samples on the same samples, not "
            f"{tuple(A.shape)} and {tuple(T.shape)}"
        )
    if A.shape[1] < LEAST_SAMPLES:
        raise UsageError(f"{A.shape[1]} samples are too few to compare: give at least 4")
    found = A.detach().double(), T.detach().double()
    for name, tensor in zip("AT", found, strict=True):
        if not tensor.isfinite().all():
            raise UsageError(f"{name} holds activations that are not finite numbers")
    return found


def _unit(A: Tensor) -> Tensor:  # noqa: N803
    centered = A - A.mean(1, keepdim=True)
    norm = torch.linalg.matrix_norm(centered)
    return centered / norm if norm > 0 else centered


def _gram(A: Tensor) -> Tensor:  # noqa: N803
    """The inner products of samples without those of a sample with itself."""
    centered = A - A.mean(1, keepdim=True)
    return (centered.T @ centered).fill_diagonal_(0)


def _hsic(K: Tensor, L: Tensor) -> Tensor:  # noqa: N803
    """The unbiased estimate, of n×n matrices with zeros on their diagonals."""
    n = len(K)
    of_pairs = (K * L).sum()
    of_quadruples = K.sum() * L.sum() / ((n - 1) * (n - 2))
    of_triples = 2 * (K.sum(0) @ L.sum(0)) / (n - 2)
    return (of_pairs + of_quadruples - of_triples) / (n * (n - 3))
