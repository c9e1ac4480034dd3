"""Partial plans against linear programs."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from fxtransport import ot
from fxtransport.ot.partial import partial_coupling
from tests.ot.exact import activations, costs


@pytest.mark.parametrize("mass", [0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("d", "other"), [(6, 6), (5, 8), (8, 3)])
def test_partial_plans_are_optimal(d: int, other: int, mass: float) -> None:
    matrix = costs(activations(d), activations(other, seed=1)).numpy()
    sums = np.zeros((d + other, d * other))
    for i in range(d):
        for j in range(other):
            sums[[i, d + j], i * other + j] = 1
    limits = np.append(np.full(d, 1 / d), np.full(other, 1 / other))
    total = np.ones((1, d * other))
    expected = linprog(matrix.ravel(), sums, limits, total, [mass]).fun
    rows, columns, carried = partial_coupling(torch.from_numpy(matrix), mass)
    assert carried.sum() == pytest.approx(mass)
    assert (carried * matrix[rows, columns]).sum() == pytest.approx(expected, rel=1e-9)


def test_neurons_without_a_partner_are_left_out() -> None:
    teacher = activations(10)
    student = teacher.clone()
    student[:3] = activations(3, seed=5) + 50
    found = ot.plan(student, teacher, "partial", mass=0.7)
    assert not found[:3].any()
    assert float(found.trace()) == pytest.approx(0.7)
    assert float(ot.omega(student, teacher, "partial", mass=0.7)) == 0


def test_a_large_problem_is_pruned() -> None:
    student, teacher = activations(260, 32), activations(280, 32, seed=1)
    found, dense = (
        ot.omega(student, teacher, "partial", mass=0.6, solver=solver) for solver in ("auto", "emd")
    )
    assert ot.counts() == {}
    assert float(found) == pytest.approx(float(dense), rel=1e-6)
    assert "pruned solves plans of d ≠ d', large on cpu" in ot.choices()
