"""What residues are computed from: equal to the residue, from what is kept anyway."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxtransport.residue import Reduction, mean_square, power_cost
from fxtransport.residue.sources import BatchNorm
from tests.residue.formulas import formula

NORMS = {
    "2d": (lambda: nn.BatchNorm2d(3), (4, 3, 5, 5)),
    "1d": (lambda: nn.BatchNorm1d(3), (4, 3)),
    "3d, ε that counts": (lambda: nn.BatchNorm3d(3, eps=2.0), (4, 3, 2, 3, 4)),
    "no parameters": (lambda: nn.BatchNorm2d(3, affine=False), (4, 3, 5, 5)),
    "no running statistics": (
        lambda: nn.BatchNorm2d(3, track_running_stats=False),
        (4, 3, 5, 5),
    ),
}


def normalized(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A batch norm in double precision, what it is given, and what it makes of it."""
    make, shape = NORMS[name]
    torch.manual_seed(0)
    norm = make().double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x = (5 + torch.randn(shape, dtype=torch.float64)).requires_grad_()
    return norm, x, norm(x)


@pytest.mark.parametrize("name", NORMS)
def test_batch_norms_are_computed_again(name: str) -> None:
    _, _, residue = normalized(name)
    source = BatchNorm.of(residue)
    assert source is not None
    scalar = torch.tensor(3.0, dtype=torch.float64)
    found = source.again(scalar, 0.5, *source.tensors())
    torch.testing.assert_close(found, 1.5 * residue, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NORMS)
def test_their_mean_square_is_known(name: str) -> None:
    """The residue is not read for it."""
    _, _, residue = normalized(name)
    source = BatchNorm.of(residue)
    assert source is not None
    found = source.mean_square(*source.tensors())
    torch.testing.assert_close(found, mean_square(residue), rtol=1e-12, atol=0)


@pytest.mark.parametrize("p", [1.5, 2])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", NORMS)
def test_costs_of_batch_norms(name: str, reduction: Reduction, p: float) -> None:
    """Values and all gradients are those of the formula."""
    norm, x, residue = normalized(name)
    found = power_cost(residue, p, reduction, lambda: BatchNorm.of(residue))
    expected = formula(residue, p, reduction)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    leaves = [x, *norm.parameters()]
    for gradients in zip(
        *(torch.autograd.grad(3 * cost, leaves, retain_graph=True) for cost in (found, expected)),
        strict=True,
    ):
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_measured_in_single(dtype: torch.dtype) -> None:
    norm = nn.BatchNorm2d(3).to(dtype)
    nn.init.constant_(norm.weight, 200)
    residue = norm(torch.randn(8, 3, 4, 4, dtype=dtype, requires_grad=True))
    cost = power_cost(residue, 2, "sum", lambda: BatchNorm.of(residue))
    assert cost.dtype == torch.float32
    expected = residue.double().square().sum() / 8
    torch.testing.assert_close(cost.double(), expected, rtol=1e-2, atol=0)
    cost.backward()
    assert norm.weight.grad is not None
    torch.testing.assert_close(
        norm.weight.grad, torch.full_like(norm.weight, 2 * 200 * 16), rtol=3e-2, atol=0
    )


def test_constant_channels_cost_their_bias() -> None:
    norm = nn.BatchNorm2d(2)
    nn.init.constant_(norm.bias, 3)
    residue = norm(torch.ones(4, 2, 3, 3, requires_grad=True))
    cost = power_cost(residue, 2, "mean", lambda: BatchNorm.of(residue))
    torch.testing.assert_close(cost.item(), 9.0)


def test_biases_do_not_change_before_backward() -> None:
    """Rather an error than a wrong gradient."""
    norm = nn.BatchNorm2d(3)
    residue = norm(torch.randn(4, 3, 5, 5, requires_grad=True))
    cost = power_cost(residue, 2, "mean", lambda: BatchNorm.of(residue))
    with torch.no_grad():
        norm.bias.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        cost.backward()


def test_other_results_are_not_computed_again() -> None:
    x = torch.randn(4, 3, 5, 5, requires_grad=True)
    weight, bias = torch.ones(2, 3, requires_grad=True)
    frozen = nn.BatchNorm2d(3).requires_grad_(False)
    assert BatchNorm.of(frozen(x)) is None
    assert BatchNorm.of(nn.BatchNorm2d(3).eval()(x)) is None
    assert BatchNorm.of(nn.BatchNorm2d(3)(x).relu()) is None
    assert BatchNorm.of(nn.GroupNorm(1, 3)(x)) is None
    assert BatchNorm.of(x.detach()) is None
    assert BatchNorm.of(F.batch_norm(x, None, None, weight, None, training=True)) is None
    assert BatchNorm.of(F.batch_norm(x, None, None, None, bias, training=True)) is None
    assert BatchNorm.of(F.batch_norm(x, None, None, 2 * weight, 2 * bias, training=True)) is None
