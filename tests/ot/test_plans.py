"""Plans: their marginals, what they are on known networks, and what is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxtransport import ot
from fxtransport.errors import SolverError, UsageError
from fxtransport.ot.plans import PLANS
from tests.ot.exact import SORTS, activations, costs, pair_of


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("plan", ["exact", "uniform", "sinkhorn"])
def test_marginals(sort: str, plan: str) -> None:
    student, teacher = pair_of(sort)
    found = ot.plan(student, teacher, plan, epsilon=0.2)
    assert found.dtype == torch.float64
    assert not found.requires_grad
    assert (found >= 0).all()
    for side, dim in ((student, 1), (teacher, 0)):
        expected = torch.full((len(side),), 1 / len(side), dtype=torch.float64)
        torch.testing.assert_close(found.sum(dim), expected, rtol=1e-6, atol=0)


@settings(max_examples=20, deadline=None)
@given(
    d=st.integers(1, 9),
    other=st.integers(1, 9),
    samples=st.integers(2, 4),
    mass=st.floats(0.05, 1),
    plan=st.sampled_from(["exact", "partial", "uniform"]),
)
def test_mass_and_number_of_pairs(d: int, other: int, samples: int, mass: float, plan: str) -> None:
    generator = torch.Generator().manual_seed(d + 10 * other)
    student, teacher = (torch.rand(n, samples, generator=generator) for n in (d, other))
    found = ot.plan(student, teacher, plan, mass=mass)
    assert float(found.sum()) == pytest.approx(mass if plan == "partial" else 1)
    assert float((found.sum(1) * d).max()) <= 1 + 1e-9
    assert float((found.sum(0) * other).max()) <= 1 + 1e-9
    if plan == "exact":
        assert int((found > 0).sum()) <= (d if d == other else d + other - 1)


def test_the_trace_is_the_share_of_neurons_that_keep_their_role() -> None:
    teacher = activations(20)
    order = torch.arange(20)
    order[:5] = torch.tensor([1, 2, 3, 4, 0])
    assert float(ot.plan(teacher, teacher).trace()) == pytest.approx(1)
    assert float(ot.plan(teacher[order], teacher).trace()) == pytest.approx(0.75)


def test_dead_neurons_stay_where_they_can() -> None:
    """Among those, all plans cost the same."""
    student, teacher = activations(20), activations(20)
    student[::2], teacher[::2] = 0, 0
    assert float(ot.plan(student, teacher).trace()) == pytest.approx(1)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    found = ot.plan(student[order], teacher)
    expected = float(costs(student[order], teacher).min(1).values.mean())
    assert float((found * costs(student[order], teacher)).sum()) == expected == 0


@pytest.mark.parametrize("sort", ["unrelated", "near", "narrow"])
def test_sinkhorn_says_how_good_it_is(sort: str) -> None:
    student, teacher = pair_of(sort)
    exact = float(ot.omega(student, teacher))
    gaps = []
    for epsilon in (0.2, 0.05):
        found = ot.solve(student, teacher, "sinkhorn", epsilon=epsilon)
        cost = float((found.plan * costs(student, teacher)).sum())
        assert found.marginal_error < 1e-5
        assert found.iterations > 0
        assert exact * (1 - 1e-6) <= cost <= exact * (1 + found.gap) * (1 + 1e-6)
        gaps.append(found.gap)
    assert gaps[1] < gaps[0]


def test_exact_plans_have_no_errors() -> None:
    found = ot.solve(*pair_of("narrow"))
    assert (found.marginal_error, found.gap, found.iterations) == (0, 0, 0)


def test_a_batch_of_one_is_counted_and_warned_of_once() -> None:
    student, teacher = activations(5, 1) + 1, activations(5, 1, seed=1) + 1
    with pytest.warns(ot.TransportWarning, match="activations of one sample"):
        ot.plan(student, teacher)
    ot.plan(student, teacher)
    assert ot.counts() == {"one sample": 2}


@pytest.mark.parametrize("plan", ["exact", "sinkhorn", "partial"])
def test_a_dead_network_is_counted_and_warned_of_once(plan: str) -> None:
    student, teacher = activations(5).zero_(), activations(7, seed=1)
    with pytest.warns(ot.TransportWarning, match="all activations of A are 0"):
        found = ot.plan(student, teacher, plan)
    assert float(found.sum()) == pytest.approx(1)
    assert ot.counts() == {"all dead": 1}


def test_two_dead_networks() -> None:
    for width in (5, 7):
        with pytest.warns(ot.TransportWarning):
            ot.notices.reset()
            found = ot.plan(torch.zeros(5, 3), torch.zeros(width, 3))
        assert float(found.sum()) == pytest.approx(1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("plan", ["exact", "sinkhorn", "partial"])
def test_activations_that_are_not_finite(plan: str, value: float) -> None:
    student, teacher = pair_of("narrow")
    teacher[4, :2] = value
    with pytest.raises(SolverError, match="2 of T, the first in neuron 4"):
        ot.plan(student, teacher, plan)


@pytest.mark.parametrize(
    ("student", "teacher", "said"),
    [
        (torch.rand(3), torch.rand(3, 4), "A must be a matrix of neurons × samples"),
        (torch.rand(3, 4), torch.rand(3, 4, 2), "T must be a matrix of neurons × samples"),
        (torch.rand(0, 4), torch.rand(3, 4), "not empty, not 0×4"),
        (torch.rand(3, 0), torch.rand(3, 0), "not empty, not 3×0"),
        (torch.ones(3, 4, dtype=torch.int64), torch.rand(3, 4), "floating-point numbers"),
        (torch.rand(3, 4), torch.rand(3, 4).to(torch.complex64), "floating-point numbers"),
        (torch.rand(3, 4), torch.rand(3, 5), "A has 4 samples and T 5"),
        (torch.rand(3, 4), torch.rand(3, 4, device="meta"), "A is on cpu and T on meta"),
    ],
)
def test_activations_that_do_not_fit(
    student: torch.Tensor, teacher: torch.Tensor, said: str
) -> None:
    for plan in PLANS:
        with pytest.raises(UsageError, match=said):
            ot.plan(student, teacher, plan)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"plan": "best"}, "plan must be one of exact, identity"),
        ({"plan": "identity"}, r"as many neurons in A \(7\) as in T \(40\); use plan='exact'"),
        ({"p": 0.9}, "p must be a number of at least 1"),
        ({"p": float("nan")}, "p must be a number of at least 1"),
        ({"solver": "best"}, "solver must be one of auto, lapx"),
        ({"solver": "lapx"}, "solves d = d' with equal weights only, not 7×40"),
        ({"epsilon": 0.0}, "epsilon must be a positive number"),
        ({"mass": 0.0}, "mass must be above 0 and at most 1"),
        ({"mass": 1.5}, "mass must be above 0 and at most 1"),
    ],
)
def test_options_that_are_not_valid(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ot.plan(*pair_of("narrow"), **options)  # type: ignore[arg-type]
