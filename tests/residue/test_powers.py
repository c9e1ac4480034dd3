"""Powers of residues: right numbers, right gradients, in every layout and precision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fxtransport.residue import Reduction, power_cost
from fxtransport.residue.sources import Difference
from tests.residue.formulas import formula


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
def test_powers(p: float, reduction: Reduction, recomputed: bool) -> None:
    """Values and gradients are those of the formula, at zeros too, where p > 1."""
    y, z = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    if p > 1:
        y[0, 0] = z[0, 0]
    y.requires_grad_()
    source = Difference(y, z) if recomputed else None
    found = power_cost(y - z, p, reduction, lambda: source)
    expected = formula(y - z, p, reduction)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(3 * cost, y)[0] for cost in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_powers_of_low_precision_are_single(dtype: torch.dtype) -> None:
    """A sum of squares that half precision could not hold."""
    residue = torch.full((2, 10, 100), 40.0, dtype=dtype, requires_grad=True)
    cost = power_cost(residue, 2, "sum")
    assert cost.dtype == torch.float32
    assert cost.item() == 1600 * 1000
    (gradient,) = torch.autograd.grad(cost, residue)
    assert gradient.dtype == dtype
    assert torch.equal(gradient, torch.full_like(residue, 40))


def test_powers_can_be_differentiated_once() -> None:
    x = torch.ones(3, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"differentiated once.* use program.transport"):
        torch.autograd.grad(power_cost(x, 2, "mean"), x, create_graph=True)


def test_powers_can_be_transformed() -> None:
    """By ``torch.func``, which knows no functions that save."""
    x = torch.randn(4, 3, 2)

    def cost(values: Tensor) -> Tensor:
        return power_cost(values, 2, "mean")

    gradients = torch.func.vmap(torch.func.grad(cost))(x)
    torch.testing.assert_close(gradients, x / 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "arranged",
    [
        lambda r: r,
        lambda r: r.contiguous(memory_format=torch.channels_last),
        lambda r: r.flatten(2).transpose(1, 2),
        lambda r: r[:, ::2],
        lambda r: r[:, :1].expand(-1, 5, -1, -1),
        lambda r: r.flatten(1),
        lambda r: r[:, 0, 0, 0],
        torch.zeros_like,
    ],
    ids=["NCHW", "NHWC", "tokens", "slice", "expanded", "vectors", "numbers", "zeros"],
)
def test_squares_are_summed_as_in_double_precision(
    arranged: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    residue = arranged(torch.randn(16, 8, 56, 56).to(dtype))
    for reduction in ("mean", "sum"):
        expected = residue.double().square().sum()
        expected /= residue.numel() if reduction == "mean" else len(residue)
        found = power_cost(residue, 2, reduction)
        assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(found.double(), expected, rtol=3e-7, atol=0)
