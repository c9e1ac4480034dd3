"""Ω against the cost of an exact plan in float64, and its gradient against differences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fxtransport import ot
from fxtransport.errors import SolverError, UsageError
from tests.ot.exact import CLOSE, SORTS, activations, costs, exact_cost, pair_of, stages


def with_gradient(student: Tensor) -> Tensor:
    return student.clone().requires_grad_()


def gradient(student: Tensor, teacher: Tensor, plan: str = "exact", **options: float) -> Tensor:
    leaf = with_gradient(student)
    ot.omega(leaf, teacher, plan, **options).backward()  # type: ignore[arg-type]
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sort", SORTS)
def test_it_is_the_cost_of_an_exact_plan(sort: str, dtype: torch.dtype, p: float) -> None:
    student, teacher = (side.to(dtype) for side in pair_of(sort))
    found = ot.omega(student, teacher, p=p)
    assert found.dtype == dtype
    assert float(found) == pytest.approx(exact_cost(student, teacher, p), rel=CLOSE)


@pytest.mark.parametrize("stage", [0, 1])
def test_real_activations(stage: int) -> None:
    """Unrelated networks, one a percent away, and stages of different widths."""
    student = stages(0)[stage]
    for teacher in (stages(1)[stage], stages(0, change=0.01)[stage], stages(1)[stage + 1]):
        exact = exact_cost(student, teacher)
        assert float(ot.omega(student, teacher)) == pytest.approx(exact, rel=CLOSE)


@settings(max_examples=40, deadline=None)
@given(
    d=st.integers(1, 12),
    other=st.integers(1, 12),
    samples=st.integers(2, 6),
    seed=st.integers(0, 9),
    share=st.sampled_from([0.0, 0.5]),
    p=st.sampled_from([1.0, 2.0, 2.5]),
)
def test_shapes(d: int, other: int, samples: int, seed: int, share: float, p: float) -> None:
    """Of few integers, so that many costs are equal; some neurons are dead."""
    generator = torch.Generator().manual_seed(seed)
    student = torch.randint(0, 3, (d, samples), generator=generator).float()
    teacher = torch.randint(0, 3, (other, samples), generator=generator).float()
    student[: int(share * (d - 1))], teacher[: int(share * (other - 1))] = 0, 0
    student[-1, 0] = teacher[-1, 0] = 1.0
    expected = exact_cost(student, teacher, p)
    found = ot.omega(with_gradient(student), teacher, p=p)
    assert float(found.detach()) == pytest.approx(expected, rel=CLOSE, abs=1e-12)
    assert gradient(student, teacher, p=p).isfinite().all()


@pytest.mark.parametrize("sort", ["unrelated", "near", "narrow", "wide", "signed"])
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_gradient(sort: str, p: float) -> None:
    """Equals finite differences, of first and second order: the plan is unique."""
    student, teacher = (side[:9, :5].double() + 0.1 for side in pair_of(sort))
    generator = torch.Generator().manual_seed(5)
    teacher = teacher + 0.05 * torch.rand(teacher.shape, generator=generator)
    student = with_gradient(student[:6])
    for root in (False, True):
        arguments = (lambda a: ot.omega(a, teacher, p=p, root=root), (student,))  # noqa: B023
        assert torch.autograd.gradcheck(*arguments)
        assert torch.autograd.gradgradcheck(*arguments)


def test_gradient_of_float32_is_that_of_float64() -> None:
    student, teacher = pair_of("near")
    single, double = gradient(student, teacher), gradient(student.double(), teacher.double())
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("plan", ["identity", "uniform", "sinkhorn", "partial"])
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_gradient_of_other_plans(plan: str, p: float) -> None:
    """Of ``sinkhorn``, with the plan fixed."""
    student, teacher = activations(6, 5).double() + 0.1, activations(6, 5, seed=1).double()
    fixed = ot.plan(student, teacher, plan, p=p, mass=0.5, epsilon=0.2)
    leaf = with_gradient(student)
    mode = "donot_use_mm_for_euclid_dist"
    expected = (fixed * torch.cdist(leaf, teacher, compute_mode=mode) ** p).sum()
    found = ot.omega(student, teacher, plan, p=p, mass=0.5, epsilon=0.2)
    torch.testing.assert_close(found, expected.detach())
    expected.backward()
    assert leaf.grad is not None
    options = {"p": p, "mass": 0.5, "epsilon": 0.2}
    torch.testing.assert_close(gradient(student, teacher, plan, **options), leaf.grad)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("plan", ["exact", "identity"])
def test_equal_activations_cost_exactly_nothing(plan: str, dtype: torch.dtype, p: float) -> None:
    teacher = pair_of("dead")[1].to(dtype)
    for root in (False, True):
        student = with_gradient(teacher)
        found = ot.omega(student, teacher, plan, p=p, root=root)
        found.backward()
        assert float(found.detach()) == 0
        assert student.grad is not None
        assert not student.grad.any()


def test_second_derivatives_are_finite_at_equality() -> None:
    teacher = activations(8)
    student = with_gradient(teacher)
    scale = torch.ones((), requires_grad=True)
    (first,) = torch.autograd.grad(scale * ot.omega(student, teacher), student, create_graph=True)
    first.square().sum().backward()
    assert student.grad is not None
    assert scale.grad is not None
    assert student.grad.isfinite().all()
    assert scale.grad.isfinite()


def test_permuting_neurons_changes_nothing() -> None:
    for sort in ("unrelated", "near", "dead", "wide"):
        student, teacher = pair_of(sort)
        order = torch.randperm(len(student), generator=torch.Generator().manual_seed(3))
        permuted = student[order]
        expected, found = ot.omega(student, teacher), ot.omega(permuted, teacher)
        torch.testing.assert_close(found, expected, rtol=CLOSE, atol=0)
        if sort != "dead":  # of dead neurons, any may be matched with any
            expected_gradient = gradient(student, teacher)[order]
            torch.testing.assert_close(gradient(permuted, teacher), expected_gradient)


def test_a_permuted_copy_costs_nothing() -> None:
    teacher = activations(30)
    student = teacher[torch.randperm(30, generator=torch.Generator().manual_seed(3))]
    assert float(ot.omega(student, teacher)) == 0
    assert float(ot.omega(student, teacher, "identity")) > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_dtype_is_that_of_the_student(dtype: torch.dtype) -> None:
    for teacher_dtype in (torch.float16, torch.float32, torch.float64):
        student, teacher = with_gradient(activations(9).to(dtype)), activations(7, seed=1)
        found = ot.omega(student, teacher.to(teacher_dtype))
        found.backward()
        assert found.dtype == dtype
        assert student.grad is not None
        assert student.grad.dtype == dtype
        exact = exact_cost(student, teacher.to(teacher_dtype))
        assert float(found.detach()) == pytest.approx(exact, rel=torch.finfo(dtype).eps)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_activations_of_any_size(scale: float) -> None:
    student, teacher = (side * scale for side in pair_of("unrelated"))
    exact = exact_cost(student.double() / scale, teacher.double() / scale) * scale
    assert float(ot.omega(student, teacher)) == pytest.approx(exact, rel=CLOSE)


def test_inputs_stay_as_they_are() -> None:
    student, teacher = pair_of("dead")
    before = student.clone(), teacher.clone()
    teacher.requires_grad_()
    leaf = with_gradient(student)
    (ot.omega(leaf * 1, teacher) + ot.omega(leaf.T.contiguous().T, teacher)).backward()
    assert torch.equal(leaf.detach(), before[0])
    assert torch.equal(teacher.detach(), before[1])
    assert teacher.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_student_may_be_changed_afterwards(dtype: torch.dtype) -> None:
    """As by an activation in place."""
    before, teacher = pair_of("unrelated")[0].to(dtype), activations(40, seed=1)
    student = with_gradient(before)
    values = student * 1
    found = ot.omega(values, teacher)
    values.relu_().mul_(2)
    found.backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, gradient(before, teacher))


@pytest.mark.parametrize("plan", ["exact", "partial", "identity", "uniform", "sinkhorn"])
def test_autocast_changes_nothing(plan: str) -> None:
    student, teacher = pair_of("unrelated")
    expected = ot.omega(student, teacher, plan, mass=0.5)
    expected_gradient = gradient(student, teacher, plan, mass=0.5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ot.omega(student, teacher, plan, mass=0.5), expected)
        assert torch.equal(gradient(student, teacher, plan, mass=0.5), expected_gradient)


@pytest.mark.parametrize("plan", ["exact", "partial", "sinkhorn"])
@pytest.mark.parametrize("sort", ["unrelated", "narrow"])
def test_it_compiles_as_one_graph(plan: str, sort: str) -> None:
    student, teacher = pair_of(sort)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def loss(a: Tensor, t: Tensor) -> Tensor:
        return 2 * ot.omega(a.sin(), t, plan, mass=0.5)

    leaf, other = with_gradient(student), with_gradient(student)
    found, expected = loss(leaf, teacher), 2 * ot.omega(other.sin(), teacher, plan, mass=0.5)
    found.backward()
    expected.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(leaf.grad, other.grad)


def test_second_derivatives_of_a_dense_plan() -> None:
    student, teacher = activations(6, 5).double() + 0.1, activations(6, 5, seed=1).double()
    function = lambda a: ot.omega(a, teacher, "uniform")  # noqa: E731
    assert torch.autograd.gradgradcheck(function, (with_gradient(student),))


def test_uniform_is_the_mean_distance() -> None:
    student, teacher = pair_of("narrow")
    found = ot.omega(student, teacher, "uniform")
    assert float(found) == pytest.approx(float(costs(student, teacher).mean()), rel=CLOSE)


def test_root() -> None:
    student, teacher = pair_of("unrelated")
    power = float(ot.omega(student, teacher, p=3))
    assert float(ot.omega(student, teacher, p=3, root=True)) == pytest.approx(power ** (1 / 3))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_an_error(value: float) -> None:
    student, teacher = pair_of("unrelated")
    student[3, 2] = value
    with pytest.raises(SolverError, match=r"1 of A, the first in neuron 3; .* learning rate"):
        ot.omega(student, teacher)


def test_wrong_options() -> None:
    student, teacher = pair_of("narrow")
    for options in ({"p": 0.5}, {"plan": "best"}, {"plan": "identity"}, {"solver": "simplex"}):
        with pytest.raises(UsageError):
            ot.omega(student, teacher, **options)  # type: ignore[arg-type]
