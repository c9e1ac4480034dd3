"""Measures of similarity have the values that one knows of them."""

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor

from fxtransport.errors import UsageError
from fxtransport.ot.similarity import (
    kept_roles,
    normalized,
    procrustes,
    similarity,
    soft_matching,
    unbiased_cka,
)


def two(d: int = 6, other: int = 6, n: int = 40) -> tuple[Tensor, Tensor]:
    return torch.randn(d, n), torch.randn(other, n)


def test_a_representation_and_itself() -> None:
    A, _ = two()  # noqa: N806
    found = similarity(A, A)
    assert (found.kept, found.soft_matching) == (pytest.approx(1), 0)
    assert found.cka == pytest.approx(1)
    assert found.procrustes == pytest.approx(0, abs=1e-7)


def test_the_order_of_neurons_changes_the_trace_alone() -> None:
    A, _ = two()  # noqa: N806
    found = similarity(A[[1, 2, 3, 4, 5, 0]], A)
    assert (found.kept, found.soft_matching) == (0, 0)
    assert found.cka == pytest.approx(1)
    assert found.procrustes == pytest.approx(0, abs=1e-7)
    half = similarity(A[[1, 2, 0, 3, 4, 5]], A)
    assert half.kept == pytest.approx(0.5)


def test_a_rotation_is_seen_by_the_matching_alone() -> None:
    A, _ = two()  # noqa: N806
    rotation, _ = torch.linalg.qr(torch.randn(6, 6))
    found = similarity(rotation @ A, A)
    assert found.cka == pytest.approx(1)
    assert found.procrustes == pytest.approx(0, abs=1e-3)
    assert found.soft_matching > 0.3


def test_independent_representations() -> None:
    """The biased estimate of CKA would be about d/n + …, 0.39 here."""
    torch.manual_seed(3)
    values = [unbiased_cka(*two(64, 64, 100)) for _ in range(20)]
    assert abs(sum(values) / len(values)) < 0.01
    assert similarity(*two(20, 20, 2000)).soft_matching == pytest.approx(math.sqrt(2), abs=0.05)


def test_the_unbiased_estimate_is_the_mean_over_quadruples() -> None:
    """Song et al. (2012): HSIC is a mean over 4 different samples."""
    A, T = two(2, 3, 6)  # noqa: N806
    A, T = A.double(), T.double()  # noqa: N806

    def hsic(X: Tensor, Y: Tensor) -> float:  # noqa: N803
        K, L = X.T @ X, Y.T @ Y  # noqa: N806
        total = 0.0
        chosen = list(permutations(range(6), 4))
        for i, j, q, r in chosen:
            total += float(K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q]))
        return total / len(chosen)

    expected = hsic(A, T) / math.sqrt(hsic(A, A) * hsic(T, T))
    assert unbiased_cka(A, T) == pytest.approx(expected, rel=1e-9)


def test_the_soft_matching_of_unequal_widths() -> None:
    """One neuron against two: each gets half of the mass."""
    one = torch.zeros(1, 4)
    both = torch.stack([torch.full((4,), 1.0), torch.full((4,), 2.0)])
    assert soft_matching(one, both) == pytest.approx(math.sqrt((4 + 16) / 2))
    found = similarity(*two(6, 9))
    assert found.kept is None
    assert found.soft_matching > 0


def test_procrustes_of_unequal_widths_fills_up_with_zeros() -> None:
    A, T = two(6, 9)  # noqa: N806
    filled = torch.cat([A, torch.zeros(3, 40)])
    assert procrustes(A, T) == pytest.approx(procrustes(filled, T))


def test_dead_neurons_are_no_error() -> None:
    dead = torch.zeros(6, 40)
    A, _ = two()  # noqa: N806
    assert unbiased_cka(A, dead) == 0
    assert soft_matching(normalized(A), normalized(dead)) == pytest.approx(1)
    assert procrustes(A, dead) == pytest.approx(1)
    assert torch.equal(normalized(dead), dead)


def test_what_cannot_be_compared_is_refused() -> None:
    A, T = two(6, 9)  # noqa: N806
    with pytest.raises(UsageError, match=r"same samples, not \(6, 40\) and \(6, 39\)"):
        similarity(A, A[:, 1:])
    with pytest.raises(UsageError, match="3 samples are too few"):
        similarity(A[:, :3], A[:, :3])
    with pytest.raises(UsageError, match="of 6 and 9 neurons: use soft_matching"):
        kept_roles(A, T)
    with pytest.raises(UsageError, match="T holds activations that are not finite"):
        similarity(A, A / 0)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_powers_of_the_distance(p: float) -> None:
    A, T = two(5, 5)  # noqa: N806
    costs = torch.cdist(A.double(), T.double()) ** p
    orders = [list(order) for order in permutations(range(5))]
    best = min(orders, key=lambda order: float(costs[range(5), order].mean()))
    least = float(costs[range(5), best].mean())
    assert soft_matching(A, T, p=p) == pytest.approx(least ** (1 / p), rel=1e-6)
    kept = sum(i == j for i, j in enumerate(best)) / 5
    assert kept_roles(A, T, p=p) == pytest.approx(kept)
    found = similarity(A, T, p=p)
    expected = soft_matching(normalized(A.double()), normalized(T.double()), p=p)
    assert found.soft_matching == pytest.approx(expected, rel=1e-12)
    for refuse in (similarity, soft_matching, kept_roles):
        with pytest.raises(UsageError, match="at least 1, not 0"):
            refuse(A, T, p=0.0)
