"""Nearest neurons as plans: optimal where they are given, and given where networks are close."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fxtransport import ot
from fxtransport.ot import notices
from fxtransport.ot.costs import Scaled
from fxtransport.ot.nearest import nearest
from tests.ot.exact import CLOSE, activations, costs, exact_cost, noise

SAID = "nearest neurons, which all differ, are plans on cpu"


def near(count: int, change: float, samples: int = 16) -> tuple[Tensor, Tensor]:
    """A layer, and what a change of its activations makes of it."""
    teacher = activations(count, samples)
    return teacher * (1 + change * noise(teacher)), teacher


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 50),
    samples=st.sampled_from([1, 2, 3, 16, 130]),
    change=st.sampled_from([0.0, 1e-7, 1e-4, 1e-2, 0.1, 0.5]),
    offset=st.sampled_from([0.0, 1e3]),
    double=st.booleans(),
    permuted=st.booleans(),
)
def test_what_is_given_is_optimal(
    count: int, samples: int, change: float, offset: float, double: bool, permuted: bool
) -> None:
    student, teacher = (side + offset for side in near(count, change, samples))
    if double:
        student, teacher = student.double(), teacher.double()
    if permuted:
        student = student[torch.randperm(count, generator=torch.Generator().manual_seed(count))]
    columns = nearest(Scaled.of(student, teacher))
    if columns is None:
        return
    assert sorted(columns) == list(range(count))
    distances = costs(student, teacher).numpy()
    rows = range(count)
    least = distances[linear_sum_assignment(distances)].sum()
    assert distances[rows, columns].sum() == pytest.approx(least, rel=1e-12, abs=1e-30)


@pytest.mark.parametrize("change", [0.0, 1e-3, 1e-2])
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_close_networks_need_no_solver(change: float, p: float) -> None:
    student, teacher = near(60, change)
    live = teacher.any(1)
    student, teacher = student[live], teacher[live]
    notices.reset()
    found = ot.omega(student, teacher, p=p)
    assert ot.choices() == [SAID]
    assert float(found) == pytest.approx(exact_cost(student, teacher, p), rel=CLOSE)
    order = torch.randperm(len(student), generator=torch.Generator().manual_seed(0))
    assert torch.equal(ot.plan(student[order], teacher).argmax(1), order)
    assert ot.choices() == [SAID]


def test_equal_neurons_keep_their_role() -> None:
    """Of several that are equal, each is its own nearest one."""
    teacher = activations(20)[[*range(20), *range(5), 3, 3]]
    teacher[::4] = 0
    notices.reset()
    assert torch.equal(ot.plan(teacher, teacher).argmax(1), torch.arange(27))
    assert float(ot.omega(teacher, teacher)) == 0
    assert ot.choices() == [SAID]


def test_others_need_one() -> None:
    assert nearest(Scaled.of(activations(40), activations(40, seed=1))) is None
    student, teacher = near(60, 1e-2)
    # two neurons share their nearest one beyond those that are looked at first
    student[59] = student[58]
    assert nearest(Scaled.of(student, teacher)) is None
    notices.reset()
    ot.plan(teacher, teacher, solver="scipy")
    assert ot.choices() == ["scipy solves assignments of d < 1024 on cpu"]


def test_ties_within_rounding_are_left_to_a_solver() -> None:
    """Two neurons that differ by less than products can tell."""
    teacher = activations(40) + 1
    teacher[1] = teacher[0] + 1e-6
    student = teacher.clone()
    student[0] += 3e-7
    assert nearest(Scaled.of(student, teacher)) is None
    assert float(ot.omega(student, teacher)) == pytest.approx(
        exact_cost(student, teacher), rel=1e-5
    )
