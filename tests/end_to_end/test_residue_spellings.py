"""Residues of every spelling of an addition have the sign and scale that the code gives them."""

import operator
from collections.abc import Callable
from functools import reduce

import pytest
import torch
from torch import Tensor, nn

from fxtransport import transportify
from tests.compiling import assert_identical

Spelling = Callable[["Block", Tensor, Tensor], Tensor]
"""From a block, its input and its branch."""


class Block(nn.Module):
    """A residual block that adds as it is told."""

    def __init__(self, add: Spelling, go_on: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.add, self.go_on = add, go_on
        self.body = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
        self.gamma = nn.Parameter(torch.rand(8) + 1)
        self.alpha = 0.3

    def forward(self, x: Tensor) -> Tensor:
        return self.go_on(self.add(self, x, self.body(x.sin())))


class Net(nn.Module):
    """Three blocks of one spelling, which may overwrite what they are given."""

    def __init__(self, add: Spelling, go_on: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(add, go_on) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        x = x * 2
        for block in self.blocks:
            x = block(x)
        return x

    def by_hand(self, residue: Spelling, x: Tensor) -> list[Tensor]:
        found, x = [], x * 2
        for block in self.blocks:
            found.append(residue(block, x, block.body(x.sin())))
            x = block(x.clone())
        return found


def weight(b: Block) -> Tensor:
    return b.body[0].weight


def columns(x: Tensor) -> Tensor:
    return torch.arange(0, x.shape[1], 2)


def spread(b: Block, x: Tensor, f: Tensor) -> Tensor:
    return torch.zeros_like(x).index_add(1, columns(x), f[:, :4], alpha=b.alpha)


EXACT: dict[str, tuple[Spelling, Spelling]] = {
    "zero_first": (lambda _b, x, f: 0 + x + f, lambda _b, _x, f: f),
    "zero_last": (lambda _b, x, f: f + (x + 0.0), lambda _b, _x, f: f),
    "times_one": (lambda _b, x, f: x * 1 + f, lambda _b, _x, f: f),
    "over_one": (lambda _b, x, f: f + x / 1, lambda _b, _x, f: f),
    "sum": (lambda _b, x, f: sum([x, f]), lambda _b, _x, f: f),
    "sum_of_three": (lambda _b, x, f: sum([f, x, f.relu()]), lambda _b, _x, f: f + f.relu()),
    "reduce": (lambda _b, x, f: reduce(operator.add, [x, f]), lambda _b, _x, f: f),
    "subtracted": (lambda _b, x, f: x - f, lambda _b, _x, f: -f),
    "subtracted_twice": (lambda _b, x, f: x - f - f.relu(), lambda _b, _x, f: -f - f.relu()),
    "sum_subtracted": (lambda _b, x, f: x - (f + f.relu()), lambda _b, _x, f: -(f + f.relu())),
    "one_of_each": (lambda _b, x, f: x + f - f.relu(), lambda _b, _x, f: f - f.relu()),
    "sub": (lambda b, x, f: torch.sub(x, f, alpha=b.alpha), lambda b, _x, f: -b.alpha * f),
    "sub_": (lambda _b, x, f: x.sub_(f), lambda _b, _x, f: -f),
    "isub": (lambda _b, x, f: operator.isub(x, f), lambda _b, _x, f: -f),
    "rsub": (lambda b, x, f: torch.rsub(f, x, alpha=b.alpha), lambda b, _x, f: -b.alpha * f),
    "add": (lambda b, x, f: torch.add(x, f, alpha=b.alpha), lambda b, _x, f: b.alpha * f),
    "add_": (lambda _b, x, f: x.add_(f, alpha=2), lambda _b, _x, f: 2 * f),
    "negated_in_place": (lambda _b, x, f: f.neg_().add_(x), lambda _b, _x, f: -f),
    "stack": (lambda _b, x, f: torch.stack([x, f]).sum(0), lambda _b, _x, f: f),
    "stack_last": (lambda _b, x, f: torch.sum(torch.stack((f, x), -1), -1), lambda _b, _x, f: f),
    "cat": (lambda _b, x, f: torch.cat([x[None], f[None]]).sum(0), lambda _b, _x, f: f),
    "dstack": (lambda _b, x, f: torch.dstack([x, f]).sum(-1), lambda _b, _x, f: f),
}
"""How a block adds, and its residue, which is an operand or a multiple of one."""

CLOSE: dict[str, tuple[Spelling, Spelling]] = {
    "lerp": (lambda _b, x, f: torch.lerp(x, f, 0.25), lambda _b, x, f: 0.25 * (f - x)),
    "lerp_by_parameter": (
        lambda b, x, f: x.lerp(f, b.gamma),
        lambda b, x, f: b.gamma * (f - x),
    ),
    "lerp_": (lambda b, x, f: x.lerp_(f, b.alpha), lambda b, x, f: b.alpha * (f - x)),
    "addcmul": (
        lambda b, x, f: torch.addcmul(x, b.gamma, f, value=b.alpha),
        lambda b, _x, f: b.alpha * b.gamma * f,
    ),
    "addcdiv_": (lambda b, x, f: x.addcdiv_(f, b.gamma), lambda b, _x, f: f / b.gamma),
    "addmm": (
        lambda b, x, f: torch.addmm(x, f, weight(b), alpha=b.alpha),
        lambda b, _x, f: b.alpha * f @ weight(b),
    ),
    "addmm_of_input": (lambda b, x, _f: x.addmm(x, weight(b)), lambda b, x, _f: x @ weight(b)),
    "baddbmm": (
        lambda b, x, f: torch.baddbmm(x[None], f[None], weight(b)[None])[0],
        lambda b, _x, f: (f @ weight(b))[None],
    ),
    "index_add": (lambda b, x, f: x.index_add(1, columns(x), f[:, :4], alpha=b.alpha), spread),
}
"""Those whose residue is computed inside the operation that adds it."""

PROJECTIONS: dict[str, tuple[Spelling, Spelling]] = {
    "skip_scaled": (lambda b, x, f: torch.add(f, x, alpha=b.alpha), lambda _b, _x, f: f),
    "skip_scaled_in_place": (lambda _b, x, f: f.add_(x, alpha=2), lambda _b, _x, f: f),
    "mean": (lambda _b, x, f: torch.stack([x, f]).mean(0), lambda _b, _x, f: f * 0.5),
    "beta": (
        lambda b, x, f: torch.addmm(x, f, weight(b), beta=0.5),
        lambda b, _x, f: f @ weight(b),
    ),
}
"""Those that scale the skip."""

NONE: dict[str, Spelling] = {
    "difference": lambda _b, x, f: f - x,
    "difference_added": lambda _b, x, f: -x + f,
    "gate": lambda _b, x, f: torch.addcmul(x, x, f),
    "gate_subtracted": lambda _b, x, f: x - x * f,
    "nothing_of_the_skip": lambda b, x, f: torch.addmm(x, f, weight(b), beta=0),
}

AFTER = {
    "": lambda y: y * 1.5,
    "relu": torch.relu,
    "relu_": torch.relu_,
    "mul_": lambda y: y.mul_(0.5),
}
"""How a block goes on after its addition."""

after = pytest.mark.parametrize("go_on", AFTER.values(), ids=AFTER.keys())


def spelled(spellings: dict[str, tuple[Spelling, Spelling]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("add", "residue"), spellings.values(), ids=list(spellings.keys())
    )


def residues_of(net: Net, x: Tensor, kind: str) -> tuple[Tensor, ...]:
    """Of a program, whose output and residuals are the model's."""
    program = transportify(net, x)
    assert [(r.path, r.kind) for r in program.facts.residuals] == [
        (f"blocks.{k}", kind) for k in range(3)
    ]
    found = program.transport(x.clone())
    assert_identical(found.output, net(x.clone()))
    assert_identical(program(x.clone()), found.output)
    for part in ("scaled", "displaced", "copied", "measured"):
        assert part not in program.lowered.forward.source
    return found.residues


@after
@spelled(EXACT)
def test_operands_have_sign_and_scale(
    add: Spelling, residue: Spelling, go_on: Callable[[Tensor], Tensor]
) -> None:
    net, x = Net(add, go_on), torch.randn(5, 8)
    assert_identical(list(residues_of(net, x, "identity")), net.by_hand(residue, x))


@after
@spelled(CLOSE)
def test_what_an_operation_computes_and_adds_is_a_residue(
    add: Spelling, residue: Spelling, go_on: Callable[[Tensor], Tensor]
) -> None:
    net, x = Net(add, go_on), torch.randn(5, 8)
    found = residues_of(net, x, "identity")
    torch.testing.assert_close(list(found), net.by_hand(residue, x), rtol=1e-4, atol=1e-5)


@after
@spelled(PROJECTIONS)
def test_a_scaled_skip_is_a_projection(
    add: Spelling, residue: Spelling, go_on: Callable[[Tensor], Tensor]
) -> None:
    net, x = Net(add, go_on), torch.randn(5, 8)
    found = residues_of(net, x, "projection")
    torch.testing.assert_close(list(found), net.by_hand(residue, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("add", NONE.values(), ids=list(NONE.keys()))
def test_what_is_not_added_to_the_input_is_no_residual(add: Spelling) -> None:
    program = transportify(Net(add, torch.relu), torch.zeros(5, 8))
    assert [r for r in program.facts.residuals if r.tapped] == []


@spelled(EXACT | CLOSE | PROJECTIONS)
def test_energies_have_the_gradients_of_residues_by_hand(add: Spelling, residue: Spelling) -> None:
    net, x = Net(add, torch.tanh), torch.randn(5, 8)
    parameters = list(net.parameters())
    try:
        torch.autograd.grad(net(x).sum(), parameters, allow_unused=True)
    except RuntimeError:
        pytest.skip("the model overwrites what its gradient needs")
    energies = transportify(net, x).transport(x).energies
    by_hand = [r.square().mean() for r in net.by_hand(residue, x)]
    found = torch.autograd.grad(energies.sum(), parameters, allow_unused=True)
    expected = torch.autograd.grad(sum(by_hand), parameters, allow_unused=True)
    for one, other in zip(found, expected, strict=True):
        zero = torch.zeros(())
        torch.testing.assert_close(zero if one is None else one, zero if other is None else other)


def test_parts_measure_what_the_whole_does() -> None:
    x = torch.randn(5, 8)
    for add in (EXACT["add"][0], CLOSE["lerp"][0], PROJECTIONS["mean"][0]):
        net = Net(add, torch.relu)
        program = transportify(net, x, modules=3)
        hidden, costs = x, []
        for part in program.parts:
            output = part(hidden)
            hidden = output.hidden
            costs += output.costs
        assert_identical(torch.stack(costs), program.transport(x).energies)


def test_the_scale_is_that_of_the_input() -> None:
    """It is computed, not remembered from the example."""

    def add(b: Block, x: Tensor, f: Tensor) -> Tensor:
        return torch.sub(x, f, alpha=1 / x.shape[0])

    net, x = Net(add, torch.relu), torch.randn(4, 8)
    program = transportify(net, torch.zeros(2, 8))
    by_hand = net.by_hand(lambda _b, _x, f: -f / 4, x)
    assert_identical(list(program.transport(x).residues), by_hand)
