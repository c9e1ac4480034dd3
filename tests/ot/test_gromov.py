"""Transport between spaces of different width: known costs, plans and gradients."""

import numpy as np
import ot as pot
import pytest
import torch
from torch import Tensor

from fxtransport import ot
from fxtransport.errors import SolverError, UsageError
from fxtransport.ot import gromov
from fxtransport.ot.gromov import gromov_cost, gromov_plan, matching_cost


def cloud(points: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(points, width, generator=generator, dtype=torch.float64)


def isometry(x: Tensor, width: int) -> Tensor:
    """The same cloud, turned, in a wider space."""
    basis = torch.linalg.qr(cloud(width, x.shape[1], seed=7)).Q
    return x @ basis.T + 3


def test_matching_of_equal_widths_is_the_mean_square_of_the_residue() -> None:
    x, y = cloud(6, 4), cloud(6, 4, seed=1)
    torch.testing.assert_close(matching_cost(x, y, plan="identity"), (y - x).square().mean())
    assert matching_cost(x, y) < matching_cost(x, y, plan="identity")


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_matching_is_the_cost_between_neurons(p: float) -> None:
    x, y = cloud(6, 4), cloud(6, 7, seed=1)
    expected = ot.omega(x.T, y.T, p=p) / 6 ** (p / 2)
    torch.testing.assert_close(matching_cost(x, y, p=p), expected)
    torch.testing.assert_close(matching_cost(y, x, p=p), expected)


def test_matching_ignores_the_order_of_neurons() -> None:
    x = cloud(6, 5)
    order = torch.tensor([3, 1, 0, 4, 2])
    assert float(matching_cost(x, x[:, order])) == 0


@pytest.mark.parametrize("cost", [matching_cost, gromov_cost])
def test_gradients_reach_both_spaces(cost: object) -> None:
    x, y = cloud(5, 3).requires_grad_(), cloud(5, 4, seed=1).requires_grad_()
    assert callable(cost)
    assert torch.autograd.gradcheck(cost, (x, y))


def test_maps_that_keep_distances_have_no_distortion() -> None:
    x = cloud(9, 3)
    assert float(gromov_cost(x, isometry(x, 8))) < 1e-20
    assert float(gromov_cost(x, 2 * isometry(x, 8))) == pytest.approx(
        float(torch.cdist(x, x).square().mean())
    )


def test_an_exact_plan_costs_at_most_as_much_as_the_map() -> None:
    x, y = cloud(12, 3), cloud(12, 5, seed=1)
    assert 0 < float(gromov_cost(x, y, plan="exact")) <= float(gromov_cost(x, y))


def test_the_cost_of_a_plan_is_that_of_pot() -> None:
    x, y = cloud(7, 3), cloud(9, 5, seed=1)
    first, second = (torch.cdist(side, side).numpy() for side in (x, y))
    plan = gromov_plan(x, y)
    torch.testing.assert_close(plan.sum(1), torch.full((7,), 1 / 7, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(0), torch.full((9,), 1 / 9, dtype=torch.float64))
    difference = first[:, None, :, None] - second[None, :, None, :]
    expected = np.einsum("ijkl,ij,kl->", difference**2, plan, plan)
    assert float(gromov_cost(x, y, plan="exact")) == pytest.approx(expected)
    found = pot.gromov.gromov_wasserstein2(first, second)
    assert expected == pytest.approx(float(found), rel=1e-6)


def test_repeated_points_have_finite_gradients() -> None:
    x = cloud(6, 3).repeat(2, 1).requires_grad_()
    gromov_cost(x, cloud(12, 4)).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_equal_clouds_cost_nothing() -> None:
    for plan in ("identity", "exact"):
        x = cloud(8, 3).requires_grad_()
        found = gromov_cost(x, x.detach(), plan=plan)
        found.backward()
        assert float(found.detach()) == pytest.approx(0, abs=1e-12)


def test_the_dtype_is_the_wider_one() -> None:
    x, y = cloud(5, 3).half(), cloud(5, 4).float()
    for cost in (matching_cost, gromov_cost):
        assert cost(x, y).dtype == torch.float32
        assert cost(x, y.half()).dtype == torch.float16


def test_a_solver_that_gives_up_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gromov, "ITERATIONS", 1)
    with pytest.warns(ot.TransportWarning, match="did not converge in 1 iterations"):
        gromov_plan(cloud(20, 3), cloud(31, 5, seed=1))


def test_clouds_that_do_not_fit() -> None:
    x = cloud(5, 3)
    with pytest.raises(UsageError, match=r"flatten other tensors: x.flatten\(1\)"):
        gromov_cost(x[0], x)
    with pytest.raises(UsageError, match="use plan='exact' for clouds of different sizes"):
        gromov_cost(x, cloud(6, 3))
    with pytest.raises(UsageError, match="x is on cpu and y on meta"):
        gromov_plan(x, x.to("meta"))
    for cost in (gromov_cost, matching_cost):
        with pytest.raises(UsageError, match="plan must be 'exact' or 'identity'"):
            cost(x, x, plan="uniform")
    with pytest.raises(SolverError, match="coordinates of points are not finite"):
        gromov_plan(x, x * float("nan"))
