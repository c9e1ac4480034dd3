"""Costs of batch norms that are computed at the end of a part: those of each, bit for bit."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fxtransport import Program, transportify
from fxtransport.ir import Kind
from fxtransport.nets import cifar_resnet
from fxtransport.objectives import TransportCost
from fxtransport.residue import Measures, Reduction, Residue, at_once, at_the_end, costs_of
from fxtransport.residue.together import AtTheEnd, Postponed

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def program() -> Program:
    """Nine blocks of three widths, all of which end in a batch norm."""
    torch.manual_seed(0)
    net = cifar_resnet(20, image_size=16)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    return transportify(net, IMAGES[:2], verify=False).train()


def block_of(norm: nn.Module, x: Tensor) -> Residue:
    branch = norm(x)
    skip = torch.zeros_like(branch)
    return Residue(Kind.IDENTITY, (branch,), skip, branch + skip)


def gradients(program: Program, measure: Callable[[Residue], Tensor | None]) -> list[Tensor]:
    """Costs, and the gradients of all weights by a loss and weighted costs."""
    whole = copy.deepcopy(program).whole
    output = whole(IMAGES, measure=measure)
    weighted = output.costs * torch.arange(1.0, 1 + len(output.costs))
    (weighted.sum() + output.logits.square().sum()).backward()
    return [output.costs.detach(), *(p.grad for p in whole.parameters() if p.grad is not None)]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_costs_and_gradients_are_those_of_each_block(
    program: Program, reduction: Reduction
) -> None:
    cost = TransportCost(reduction=reduction)
    found, expected = gradients(program, cost), gradients(program, cost.__call__)
    assert len(found) == len(expected) > 40
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_costs_alone_can_be_differentiated(program: Program) -> None:
    cost, weights = TransportCost(), list(program.parameters())
    found, expected = (
        torch.autograd.grad(
            program.whole(IMAGES, measure=m).costs.sum(), weights, allow_unused=True
        )
        for m in (cost, cost.__call__)
    )
    for one, other in zip(found, expected, strict=True):
        assert one is other is None or torch.equal(one, other)


def test_postponed_ones_and_others_keep_their_order() -> None:
    """Batch norms of two widths, one without parameters, a linear layer, and another ε."""
    torch.manual_seed(0)
    layers = [
        nn.BatchNorm1d(3),
        nn.BatchNorm1d(3),
        nn.Linear(3, 3),
        nn.BatchNorm1d(3, affine=False),
        nn.BatchNorm1d(5),
        nn.BatchNorm1d(3, eps=0.5),
    ]
    for norm in layers[:2]:
        nn.init.normal_(norm.weight)  # type: ignore[arg-type]
    cost = TransportCost()
    measure = at_the_end(cost)
    inputs = [torch.randn(7, 5 if n == 4 else 3, requires_grad=True) for n in range(6)]
    blocks = [block_of(norm, x) for norm, x in zip(layers, inputs, strict=True)]
    values = [measure(block) for block in blocks]
    assert [isinstance(v, Postponed) for v in values] == [True, True, False, False, True, True]
    found, expected = costs_of(values, ()), torch.stack([cost(block) for block in blocks])
    assert torch.equal(found, expected)
    for one, other in zip(
        torch.autograd.grad(found.sum(), inputs, retain_graph=True),
        torch.autograd.grad(expected.sum(), inputs),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_they_can_be_differentiated_once(program: Program) -> None:
    costs = program.whole(IMAGES, measure=TransportCost()).costs
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        torch.autograd.grad(costs.sum(), list(program.parameters()), create_graph=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_not_postponed(dtype: torch.dtype) -> None:
    block = block_of(nn.BatchNorm1d(3).to(dtype), torch.randn(4, 3, dtype=dtype))
    value = at_the_end(TransportCost())(block)
    assert isinstance(value, Tensor)
    assert value.dtype == torch.float32


@pytest.mark.parametrize("cost", [TransportCost(p=3), TransportCost(residue="displacement")])
def test_what_does_not_follow_from_the_norm_is_not_postponed(cost: TransportCost) -> None:
    block = block_of(nn.BatchNorm1d(3), torch.randn(4, 3))
    assert isinstance(at_the_end(cost)(block), Tensor)
    assert at_the_end(TransportCost(kinds=("projection",)))(block) is None


def test_measures_that_postpone_are_those_that_can() -> None:
    cost = TransportCost()
    assert at_the_end(None) is None
    assert at_the_end(at_once) is at_once
    assert isinstance(at_the_end(cost), AtTheEnd)
    assert at_once(at_the_end(cost)) is cost
    both = Measures(cost, lambda name, value: value)
    assert at_once(at_the_end(both)) == both
    assert isinstance(at_the_end(both).residue, AtTheEnd)
    with torch.no_grad():
        assert at_the_end(cost) is cost
