"""The matrix that plans are found from, and the factor that keeps it in range."""

import pytest
import torch

from fxtransport.ot.costs import Scaled
from tests.ot.exact import SORTS, costs, pair_of


@pytest.mark.parametrize("p", [1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("sort", SORTS)
def test_distances_lose_no_digits(sort: str, dtype: torch.dtype, p: float) -> None:
    """Near pairs have nearly as many as others, and equal ones are at 0."""
    student, teacher = (side.to(dtype) for side in pair_of(sort))
    found = Scaled.of(student, teacher).costs(p)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), costs(student, teacher, p), rtol=5e-6, atol=0)


@pytest.mark.parametrize("scale", [1e-37, 1e-25, 1.0, 1e25, 1e37])
def test_the_factor_keeps_squares_in_range(scale: float) -> None:
    student, teacher = pair_of("signed")
    found = Scaled.of(student * scale, teacher * scale).costs(2.0)
    expected = costs(student, teacher, 2.0).float()
    torch.testing.assert_close(found / found.max(), expected / expected.max(), rtol=1e-5, atol=0)


def test_dead_neurons_have_equal_costs_to_the_last_bit() -> None:
    student, teacher = pair_of("dead, unequal widths")
    pair = Scaled.of(student, teacher)
    found = pair.costs()
    assert len(found[pair.dead_student].unique(dim=0)) == 1
    assert len(found[:, pair.dead_teacher].unique(dim=1).T) == 1
    assert torch.equal(pair.dead_student, ~student.any(1))
    assert torch.equal(pair.dead_teacher, ~teacher.any(1))


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_plans_do_not_lose_digits_to_fast_products(precision: str) -> None:
    """Processors that multiply as bfloat16 or TF32 do so in float32 only."""
    torch.set_float32_matmul_precision(precision)
    try:
        pair = Scaled.of(*pair_of("unrelated"))
    finally:
        torch.set_float32_matmul_precision("highest")
    assert pair.student.dtype == torch.float64
    assert Scaled.of(*pair_of("unrelated")).student.dtype == torch.float32
