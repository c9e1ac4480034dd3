"""Costs with a gradient by the parameters of batch norms alone."""

import copy

import pytest
import torch
from torch import Tensor, nn

from fxtransport import Program, transportify
from fxtransport.errors import UsageError
from fxtransport.ir import Kind
from fxtransport.nets import cifar_resnet
from fxtransport.objectives import TransportCost
from fxtransport.residue import Reduction, Residue, costs_of

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
ALONE = TransportCost(norms_alone=True)


def program_of(epsilon: float, dtype: torch.dtype = torch.float64) -> Program:
    """Nine blocks of three widths, all of which end in a batch norm."""
    torch.manual_seed(0)
    net = cifar_resnet(20, image_size=16)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps = epsilon
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    program = transportify(net.to(dtype), IMAGES[:2].to(dtype), modules=2, verify=False)
    return program.train()


def gradients(program: Program, cost: TransportCost) -> tuple[Tensor, dict[str, Tensor]]:
    """Costs, and the gradients of the weights by the weighted costs."""
    program = copy.deepcopy(program)
    dtype = next(program.parameters()).dtype
    costs = program.whole(IMAGES.to(dtype), measure=cost).costs
    (costs * torch.arange(1.0, 1 + len(costs))).sum().backward()
    named = program.named_parameters()
    return costs.detach(), {name: p.grad for name, p in named if p.grad is not None}


def block_of(branch: Tensor) -> Residue:
    skip = torch.zeros_like(branch)
    return Residue(Kind.IDENTITY, (branch,), skip, branch + skip)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
def test_norms_have_the_gradient_of_the_cost_and_nothing_else_has_one(
    reduction: Reduction, epsilon: float
) -> None:
    program = program_of(epsilon)
    costs, found = gradients(program, TransportCost(reduction=reduction, norms_alone=True))
    exact, expected = gradients(program, TransportCost(reduction=reduction))
    torch.testing.assert_close(costs, exact)
    assert len(found) == 18
    for name, grad in found.items():
        module, _ = name.rsplit(".", 1)
        assert isinstance(program.get_submodule(module), nn.BatchNorm2d)
        if name.startswith("blocks.8"):
            # by other norms there are also the gradients of the costs of later blocks
            torch.testing.assert_close(grad, expected[name])


def test_what_is_left_out_vanishes_with_epsilon() -> None:
    program = program_of(1e-30)
    _, found = gradients(program, ALONE)
    _, expected = gradients(program, TransportCost())
    largest = max(grad.abs().max() for grad in found.values())
    for name, grad in expected.items():
        left = grad - found.get(name, 0)
        assert left.abs().max() < 1e-12 * largest


def test_a_block_that_is_computed_again_costs_the_same() -> None:
    program = program_of(1e-5)
    costs, found = gradients(program, ALONE)
    for part in program.parts:
        part.checkpoint_activations = True
    hidden, again = IMAGES.double(), list[Tensor]()
    for part in program.parts:
        output = part(hidden, measure=ALONE)
        again += output.costs
        hidden = output.hidden
    (torch.stack(again) * torch.arange(1.0, 1 + len(again))).sum().backward()
    torch.testing.assert_close(torch.stack(again), costs)
    for name, grad in found.items():
        torch.testing.assert_close(program.get_parameter(name).grad, grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision(dtype: torch.dtype) -> None:
    norm = nn.BatchNorm1d(3).to(dtype)
    cost = ALONE(block_of(norm(torch.randn(40, 3, dtype=dtype))))
    assert cost is not None
    assert cost.dtype == torch.float32
    torch.testing.assert_close(cost.item(), 1.0, rtol=1e-2, atol=0)
    cost.backward()
    assert norm.weight.grad is not None
    torch.testing.assert_close(norm.weight.grad, torch.full((3,), 2 / 3, dtype=dtype))


def test_a_norm_without_parameters_costs_a_constant() -> None:
    x = torch.randn(40, 3, requires_grad=True)
    norms = [nn.BatchNorm1d(3, affine=False), nn.BatchNorm1d(3)]
    values = [ALONE.later(block_of(norm(x))) for norm in norms]
    costs = costs_of(values, ())
    torch.testing.assert_close(costs, torch.ones(2), rtol=1e-4, atol=0)
    assert torch.autograd.grad(costs.sum(), x, allow_unused=True) == (None,)


def test_other_branches_cost_as_before() -> None:
    x, linear, norm = torch.randn(4, 3), nn.Linear(3, 3), nn.BatchNorm1d(3).eval()
    for branch in (linear(x), norm(linear(x))):
        found, expected = (
            torch.autograd.grad(cost(block_of(branch)), linear.weight, retain_graph=True)  # type: ignore[arg-type]
            for cost in (ALONE, TransportCost())
        )
        assert torch.equal(found[0], expected[0])
        assert found[0].any()


def test_of_a_plain_formula_nothing_is_left_out() -> None:
    x = torch.randn(4, 3, dtype=torch.float64)
    norm = nn.BatchNorm1d(3, track_running_stats=False).double()
    found, expected = (
        torch.func.grad(lambda x, cost=cost: cost(block_of(norm(x))))(x)
        for cost in (ALONE, TransportCost())
    )
    assert torch.equal(found, expected)
    assert found.any()


@pytest.mark.parametrize("other", [{"p": 3.0}, {"residue": "displacement"}])
def test_what_does_not_follow_from_norms_is_refused(other: dict[str, float | str]) -> None:
    with pytest.raises(UsageError, match="norms_alone is for p=2 and residue='branch'"):
        TransportCost(norms_alone=True, **other)  # type: ignore[arg-type]


def test_runs_from_before_there_was_the_option_are_recorded_alike() -> None:
    kinds = repr(TransportCost().kinds)
    text = f"TransportCost(p=2.0, reduction='mean', residue='branch', kinds={kinds})"
    assert repr(TransportCost()) == text
    assert repr(ALONE) == text[:-1] + ", norms_alone=True)"
