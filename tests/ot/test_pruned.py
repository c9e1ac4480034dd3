"""Pruning: exact plans on every sort of costs, without the dense solver."""

import numpy as np
import pytest
import torch

from fxtransport.ot.costs import Scaled
from fxtransport.ot.coupling import Coupling
from fxtransport.ot.pruned import by_pruning
from tests.ot.exact import activations, costs, exact_cost


def pruned(student: torch.Tensor, teacher: torch.Tensor, p: float = 1.0) -> Coupling | None:
    a, b = (np.full(len(side), 1 / len(side)) for side in (student, teacher))
    return by_pruning(Scaled.of(student, teacher).costs(p).double(), a, b)


def outliers(count: int, seed: int) -> torch.Tensor:
    found = activations(count, 32, seed)
    found[:2] *= torch.tensor([[1e4], [30.0]])
    return found


def dead(count: int, seed: int) -> torch.Tensor:
    found = activations(count, 32, seed)
    found[::2] = 0
    return found


def near(count: int) -> torch.Tensor:
    return activations(count, 32) * (1 + 0.01 * torch.rand(1, generator=torch.Generator()))


@pytest.mark.parametrize("p", [1.0, 2.0])
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        (activations(200, 32), activations(260, 32, seed=1)),
        (activations(260, 32, seed=1), activations(200, 32)),
        (activations(240, 32), activations(240, 32, seed=1)),
        (activations(240, 32), near(240)),
        (activations(120, 32), near(120).repeat(2, 1)),
        (outliers(200, 0), outliers(260, 1)),
        (dead(200, 0), dead(260, 1)),
        (activations(200, 32), outliers(260, 1)),
    ],
    ids=["narrow", "wide", "equal", "near", "twice", "outliers", "dead", "far"],
)
def test_plans_are_optimal(student: torch.Tensor, teacher: torch.Tensor, p: float) -> None:
    found = pruned(student, teacher, p)
    assert found is not None
    matrix = costs(student, teacher, p).numpy()
    cost = (found.mass * matrix[found.rows, found.columns]).sum()
    assert cost == pytest.approx(exact_cost(student, teacher, p), rel=1e-6)
    assert len(found.mass) <= len(student) + len(teacher) - 1
    weights = [np.full(len(side), 1 / len(side)) for side in (student, teacher)]
    assert found.marginal_error(*weights) < 1e-12


def test_what_is_not_worth_pruning_is_left() -> None:
    """Where all costs are equal, one edge between groups remains; of few costs, most edges do."""
    equal = by_pruning(torch.ones(9, 8).double(), np.full(9, 1 / 9), np.full(8, 1 / 8))
    few = pruned(activations(6), activations(8, seed=1))
    lopsided = pruned(activations(20, 32), activations(2000, 32, seed=1))
    assert equal is few is lopsided is None
